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

use std::collections::BTreeMap;
use std::ptr::NonNull;

/// Tells a local from all others.
pub(crate) type LocalId = *const ();

/// One coroutine's locals, in the order of their beginning.
#[derive(Debug, Default)]
pub(super) struct Locals {
    all: Vec<LocalEntry>,
    /// The youngest that has not been dropped, counted from 1; 0 if all have.
    youngest: u32,
    /// Where each is, once there are more than [`FEW`].
    #[allow(
        clippy::box_collection,
        reason = "all have the room for it, and next to none have it"
    )]
    index: Option<Box<BTreeMap<LocalId, u32>>>,
}

/// So many are searched from the front.
const FEW: usize = 16;

#[derive(Debug)]
struct LocalEntry {
    id: LocalId,
    /// `None` once it is being dropped, or has been.
    value: Option<Erased>,
    /// The one that was the youngest before it.
    before: u32,
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
        let found = match &self.index {
            None => self.all.iter().find(|local| local.id == id),
            Some(index) => index.get(&id).map(|&at| &self.all[at as usize - 1]),
        };
        match found {
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
        let before = self.youngest;
        self.all.push(LocalEntry { id, value, before });
        self.youngest = self.all.len() as u32;
        if let Some(index) = &mut self.index {
            index.insert(id, self.youngest);
        } else if self.all.len() > FEW {
            let ids = self.all.iter().map(|local| local.id);
            self.index = Some(Box::new(ids.zip(1..).collect()));
        }
        at
    }

    /// Takes the youngest value out, to be dropped where nothing is borrowed: its
    /// destructor is foreign code, and may begin further ones.
    pub(super) fn take_youngest(&mut self) -> Option<impl FnOnce() + use<>> {
        let youngest = (self.youngest as usize).checked_sub(1)?;
        let local = &mut self.all[youngest];
        self.youngest = local.before;
        let value = local.value.take()?;
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
