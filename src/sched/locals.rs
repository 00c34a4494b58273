//! Coroutine locals: the values of one coroutine, and their end.
//!
//! Lives here: which values a coroutine has, found by id, and when they are
//! dropped. Does not live here: types; `local.rs` knows what is behind the
//! pointers, and makes and reads the values.
//!
//! The values are on the heap, so a shared coroutine's stay where they are
//! while its frames move (I8). They are dropped by the coroutine itself, below
//! its closure's frame: after the closure has returned or unwound, before the
//! result is delivered. One that is abandoned keeps them for ever (I6).

use std::ptr::NonNull;

/// Tells a local from all others.
pub(crate) type LocalId = *const ();

/// One coroutine's locals, in the order of their beginning. Few have more than
/// a handful, so they are searched from the front.
#[derive(Debug, Default)]
pub(super) struct Locals(Vec<LocalEntry>);

#[derive(Debug)]
struct LocalEntry {
    id: LocalId,
    /// `None` once it is being dropped, or has been.
    value: Option<Erased>,
}

/// A value on the heap, and what drops and frees it.
#[derive(Clone, Copy, Debug)]
struct Erased {
    at: NonNull<()>,
    drop: unsafe fn(NonNull<()>),
}

/// What a coroutine has under an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LocalLookup {
    /// It lives until the coroutine's locals end.
    Value(NonNull<()>),
    /// Never used so far.
    Nothing,
    /// It has been dropped, or is being dropped.
    Ended,
}

impl Locals {
    #[inline]
    pub(super) fn find(&self, id: LocalId) -> LocalLookup {
        match self.0.iter().find(|local| local.id == id) {
            Some(local) => local
                .value
                .map_or(LocalLookup::Ended, |v| LocalLookup::Value(v.at)),
            None => LocalLookup::Nothing,
        }
    }

    /// Adds a local of which there was [`LocalLookup::Nothing`].
    pub(super) fn add<T>(&mut self, id: LocalId, value: Box<T>) -> NonNull<T> {
        let at = NonNull::from(Box::leak(value));
        let value = Some(Erased {
            at: at.cast(),
            drop: drop_box::<T>,
        });
        self.0.push(LocalEntry { id, value });
        at
    }

    /// Takes the youngest value out, to be dropped where nothing is borrowed: its
    /// destructor is foreign code, and may begin further ones.
    pub(super) fn take_youngest(&mut self) -> Option<impl FnOnce() + use<>> {
        let mut values = self.0.iter_mut().rev();
        let value = values.find_map(|local| local.value.take())?;
        // SAFETY: taken out of the list, so dropped once; made for it.
        Some(move || unsafe { (value.drop)(value.at) })
    }
}

/// # Safety
///
/// - `at` is a leaked `Box<T>`, not used afterwards.
unsafe fn drop_box<T>(at: NonNull<()>) {
    // SAFETY: the caller's word.
    drop(unsafe { Box::from_raw(at.cast::<T>().as_ptr()) });
}
