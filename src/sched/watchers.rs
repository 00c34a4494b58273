//! Who wants to hear when something that is counted without locks has changed.
//!
//! The one who counts does so with plain stores and asks [`Watchers::any`]
//! afterwards; the one who wants to know leaves a waker and looks at the count
//! afterwards. Either the first sees the second, or the second sees the count.

use std::task::Waker;

use crate::shim::Lock;
use crate::shim::atomic::{AtomicBool, Ordering, fence};

/// See the [module](self).
pub(super) struct Watchers {
    list: Lock<List>,
    any: AtomicBool,
}

struct List {
    /// Whose each waker is, once each.
    wakers: Vec<(u64, Waker)>,
    /// Watches that were made, since they are told apart by number.
    made: u64,
}

/// A place among the watchers. Dropped, it leaves no waker behind.
pub(crate) struct Watch<'a> {
    watchers: &'a Watchers,
    number: u64,
}

impl Watchers {
    pub(super) fn new() -> Self {
        Self {
            list: Lock::new(List {
                wakers: Vec::new(),
                made: 0,
            }),
            any: AtomicBool::new(false),
        }
    }

    pub(super) fn watch(&self) -> Watch<'_> {
        let mut list = self.list.lock();
        list.made += 1;
        let number = list.made;
        drop(list);
        Watch {
            watchers: self,
            number,
        }
    }

    /// Whether anybody watches. Count before this.
    pub(super) fn any(&self) -> bool {
        fence(Ordering::SeqCst);
        self.any.load(Ordering::Relaxed)
    }

    /// Wakes all; they leave a waker again if they have to.
    pub(super) fn tell(&self) {
        self.any.store(false, Ordering::Relaxed);
        let wakers = std::mem::take(&mut self.list.lock().wakers);
        wakers.into_iter().for_each(|(_, waker)| waker.wake());
    }
}

impl Watch<'_> {
    /// Has the waker woken by the next [`Watchers::tell`], in place of the one
    /// before. Look at the count after this.
    pub(crate) fn wake(&self, waker: Waker) {
        let mut list = self.watchers.list.lock();
        // Dropped outside the lock: it may be foreign code.
        let _old = list.take(self.number);
        list.wakers.push((self.number, waker));
        drop(list);
        self.watchers.any.store(true, Ordering::Relaxed);
        // Partner of the one in `any`: either the one who counts sees that it
        // is watched, or we see what it has counted.
        fence(Ordering::SeqCst);
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        let left = self.watchers.list.lock().take(self.number);
        drop(left);
    }
}

impl List {
    fn take(&mut self, number: u64) -> Option<Waker> {
        let place = self.wakers.iter().position(|(own, _)| *own == number)?;
        Some(self.wakers.swap_remove(place).1)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn who_watches_no_more_leaves_no_waker() {
        let watchers = Watchers::new();
        let one = watchers.watch();
        for _ in 0..3 {
            let other = watchers.watch();
            one.wake(Waker::noop().clone());
            other.wake(Waker::noop().clone());
            assert_eq!(watchers.list.lock().wakers.len(), 2);
        }
        assert_eq!(watchers.list.lock().wakers.len(), 1);
        watchers.tell();
        assert!(watchers.list.lock().wakers.is_empty());
        drop(one);
    }
}
