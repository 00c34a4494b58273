//! Iterators over what a receiver gets: waiting or not, lent or owned.

use super::Receiver;

/// See [`Receiver::iter`].
///
/// ```
/// let (tx, rx) = crore::sync::channel::unbounded();
/// tx.send(7).unwrap();
/// drop(tx);
/// let iter: crore::sync::channel::Iter<'_, i32> = rx.iter();
/// assert_eq!(iter.collect::<Vec<_>>(), [7]);
/// ```
#[derive(Debug)]
pub struct Iter<'a, T> {
    receiver: &'a Receiver<T>,
}

impl<'a, T> Iter<'a, T> {
    pub(super) fn new(receiver: &'a Receiver<T>) -> Self {
        Self { receiver }
    }
}

/// See [`Receiver::try_iter`].
///
/// ```
/// let (tx, rx) = crore::sync::channel::unbounded();
/// tx.send(7).unwrap();
/// let iter: crore::sync::channel::TryIter<'_, i32> = rx.try_iter();
/// assert_eq!(iter.collect::<Vec<_>>(), [7]);
/// ```
#[derive(Debug)]
pub struct TryIter<'a, T> {
    receiver: &'a Receiver<T>,
}

impl<'a, T> TryIter<'a, T> {
    pub(super) fn new(receiver: &'a Receiver<T>) -> Self {
        Self { receiver }
    }
}

/// The values of a receiver that is owned.
///
/// ```
/// let (tx, rx) = crore::sync::channel::unbounded();
/// tx.send(7).unwrap();
/// drop(tx);
/// for value in rx {
///     assert_eq!(value, 7);
/// }
/// ```
#[derive(Debug)]
pub struct IntoIter<T> {
    receiver: Receiver<T>,
}

impl<T> Iterator for Iter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.receiver.recv().ok()
    }
}

impl<T> Iterator for TryIter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.receiver.try_recv().ok()
    }
}

impl<T> Iterator for IntoIter<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.receiver.recv().ok()
    }
}

impl<'a, T> IntoIterator for &'a Receiver<T> {
    type Item = T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

impl<T> IntoIterator for Receiver<T> {
    type Item = T;
    type IntoIter = IntoIter<T>;

    fn into_iter(self) -> IntoIter<T> {
        IntoIter { receiver: self }
    }
}
