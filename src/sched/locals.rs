//! The values of a coroutine's locals, and their end.
//!
//! Lives here: which values a coroutine has, found by key, and when they are
//! dropped. Does not live here: types; `local.rs` knows what is behind the
//! pointers, and makes and reads the values.
//!
//! The values are on the heap, so a shared coroutine's stay where they are
//! while its frames move (I8). They are dropped by the coroutine itself, below
//! its closure's frame: after the closure has returned or unwound, before the
//! result is delivered. One that is abandoned keeps them for ever (I6).

use std::ptr::NonNull;

use super::cx::Cx;
use super::worker::Worker;
use crate::task::{Closure, Slot};
use crate::util::contain;

/// Names a local: no two have the same.
pub(crate) type LocalKey = *const ();

/// One coroutine's locals, in the order of their beginning. Few have more than
/// a handful, so they are searched from the front.
#[derive(Debug, Default)]
pub(super) struct Locals(Vec<Local>);

#[derive(Debug)]
struct Local {
    key: LocalKey,
    /// `None` once it is being dropped, or has been.
    value: Option<Erased>,
}

/// A value on the heap, and what drops and frees it.
#[derive(Clone, Copy, Debug)]
struct Erased {
    at: NonNull<()>,
    drop: unsafe fn(NonNull<()>),
}

/// What a coroutine has under a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// It lives until the coroutine's locals end.
    Value(NonNull<()>),
    /// Never used so far.
    Nothing,
    /// It has been dropped, or is being dropped.
    Ended,
}

impl Cx {
    /// Looks for a local of this coroutine.
    #[inline]
    pub(crate) fn local(self, key: LocalKey) -> Found {
        let extra = self.slot().extra.get();
        // Entry 0 has no locals.
        let extras = self.worker().extras.borrow();
        let locals = extras.get(extra as usize).map_or(&[][..], |e| &e.locals.0);
        match locals.iter().find(|local| local.key == key) {
            Some(local) => local.value.map_or(Found::Ended, |v| Found::Value(v.at)),
            None => Found::Nothing,
        }
    }

    /// Gives this coroutine a local that it has [`Found::Nothing`] of.
    pub(crate) fn add_local<T>(self, key: LocalKey, value: Box<T>) -> NonNull<T> {
        let at = NonNull::from(Box::leak(value));
        let value = Some(Erased {
            at: at.cast(),
            drop: drop_box::<T>,
        });
        self.worker().with_extra(self.slot(), |extra| {
            extra.locals.0.push(Local { key, value });
        });
        at
    }
}

impl Worker {
    /// Drops what locals a task has, the youngest first; also what the
    /// destructors begin. Called by the coroutine; and once more when it is
    /// gone, for what the destructor of a result that nobody joins has begun.
    pub(super) fn end_locals(&self, slot: &Slot) {
        while let Some(value) = self.take_youngest(slot) {
            // A panic in a destructor was reported by the panic hook. It must
            // not keep the others from their end.
            //
            // SAFETY: taken out of the list, so dropped once; made for it.
            contain(|| unsafe { (value.drop)(value.at) });
        }
    }

    #[inline]
    fn take_youngest(&self, slot: &Slot) -> Option<Erased> {
        if slot.extra.get() == 0 {
            return None;
        }
        self.with_extra(slot, |extra| {
            let mut locals = extra.locals.0.iter_mut().rev();
            locals.find_map(|local| local.value.take())
        })
    }
}

/// # Safety
///
/// - `at` is a leaked `Box<T>`, not used afterwards.
unsafe fn drop_box<T>(at: NonNull<()>) {
    // SAFETY: the caller's word.
    drop(unsafe { Box::from_raw(at.cast::<T>().as_ptr()) });
}

/// What a coroutine runs: the closure, then the end of its locals.
pub(crate) fn coroutine<F: FnOnce() -> T, T>(f: F) -> Closure<impl FnOnce() -> T> {
    // Takes no room in the frame that every parked coroutine keeps.
    struct End;
    impl Drop for End {
        #[inline(never)]
        fn drop(&mut self) {
            // In a forked child there is no coroutine any more.
            if let Some(cx) = Cx::running() {
                cx.worker().end_locals(cx.slot());
                // What unwinds ends them later (`Worker::resume_own`).
                if cx.has_own_locals() && !std::thread::panicking() {
                    cx.end_own_locals();
                }
            }
        }
    }
    Closure(move || {
        let _end = End;
        f()
    })
}

/// As [`coroutine`], for shared stacks, where each byte of a frame counts ten
/// million times: no guard, which costs 16 bytes. What unwinds ends its locals
/// on the worker's own stack instead (`Worker::end`).
pub(crate) fn shared_coroutine<F: FnOnce() -> T, T>(f: F) -> Closure<impl FnOnce() -> T> {
    #[inline(never)]
    fn end_locals() {
        if let Some(cx) = Cx::running() {
            cx.worker().end_locals(cx.slot());
        }
    }
    Closure(move || {
        let value = f();
        end_locals();
        value
    })
}
