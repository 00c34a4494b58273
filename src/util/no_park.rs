//! No-park scopes: stretches of our own code in which no coroutine may suspend.
//!
//! The hooks make a lock of std, or of C, a place where a coroutine may park.
//! The runtime's own code is full of such places that it does not see: a
//! global allocator may lock. If it parked while a worker's table is borrowed
//! or an internal lock is held, the next coroutine would find the table
//! borrowed, or spin on the lock for ever. So each such stretch is a no-park
//! scope: a wait inside of one blocks the thread. That ends soon, because no
//! coroutine suspends while it holds what an allocator holds.
//!
//! A wake-up inside of one can't be delivered either, since delivering borrows
//! and locks the same things: it is *deferred*, and flushed when the thread's
//! outermost scope ends ([`flush_with`] says how).
//!
//! Where a type can enter a scope, no code does it by hand: [`NoParkCell`] and
//! [`NoParkMutex`] here, the lock of the primitives in `shim.rs`.

use std::cell::{BorrowError, Ref, RefCell, RefMut};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::{mem, ptr};

use super::gate::{DEFERRED, HOOK_GATE, HookGate, SCOPE};

/// What flushes; null: nothing is ever deferred.
static FLUSH: AtomicPtr<()> = AtomicPtr::new(ptr::null_mut());

/// The thread is in a no-park scope while this lives.
#[derive(Debug)]
pub(crate) struct NoPark {
    /// Left on the thread that entered it.
    _here: PhantomData<*mut ()>,
}

impl NoPark {
    #[inline(always)]
    pub(crate) fn enter() -> Self {
        HOOK_GATE.with(|gate| gate.state.set(gate.state.get() + SCOPE));
        Self { _here: PhantomData }
    }

    /// Whether this thread is in one.
    #[inline(always)]
    pub(crate) fn is_active() -> bool {
        HOOK_GATE.with(HookGate::is_scope_active)
    }
}

impl Drop for NoPark {
    #[inline(always)]
    fn drop(&mut self) {
        let left = HOOK_GATE.with(|HookGate { state, .. }| {
            state.set(state.get() - SCOPE);
            state.get()
        });
        if left == DEFERRED {
            flush();
        }
    }
}

/// Has [`flush_with`]'s function called when this thread's outermost scope ends.
pub(crate) fn defer_wakes() {
    debug_assert!(NoPark::is_active(), "outside of a scope wake-ups are made");
    HOOK_GATE.with(|HookGate { state, .. }| state.set(state.get() | DEFERRED));
}

/// Says how deferred wake-ups are made; one function for the process.
pub(crate) fn flush_with(flush: fn()) {
    FLUSH.store(flush as *mut (), Ordering::Release);
}

#[cold]
fn flush() {
    HOOK_GATE.with(|gate| gate.state.set(0));
    make_deferred();
}

/// Makes what wake-ups were deferred, by whomever. Not called in a scope.
pub(crate) fn make_deferred() {
    let flush = FLUSH.load(Ordering::Acquire);
    if !flush.is_null() {
        // SAFETY: only `flush_with` stores here, and it stores this type.
        unsafe { mem::transmute::<*mut (), fn()>(flush)() };
    }
}

/// A `RefCell` whose borrows are no-park scopes.
#[derive(Debug, Default)]
pub(crate) struct NoParkCell<T>(RefCell<T>);

/// A borrow, or a guard, and its scope. (Fields are dropped in this order.)
#[derive(Debug)]
pub(crate) struct Held<G> {
    guard: G,
    _no_park: NoPark,
}

impl<T> NoParkCell<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(RefCell::new(value))
    }

    #[inline(always)]
    pub(crate) fn borrow(&self) -> Held<Ref<'_, T>> {
        let no_park = NoPark::enter();
        Held {
            guard: self.0.borrow(),
            _no_park: no_park,
        }
    }

    #[inline(always)]
    pub(crate) fn borrow_mut(&self) -> Held<RefMut<'_, T>> {
        let no_park = NoPark::enter();
        Held {
            guard: self.0.borrow_mut(),
            _no_park: no_park,
        }
    }

    /// A borrow that is no scope: for what allocates nothing and calls
    /// nothing, so that no lock is met and no wake-up comes meanwhile.
    #[inline(always)]
    pub(crate) fn brief(&self) -> RefMut<'_, T> {
        self.0.borrow_mut()
    }

    /// For signal handlers, which may have interrupted a borrow.
    #[inline(always)]
    pub(crate) fn try_borrow_mut(&self) -> Option<Held<RefMut<'_, T>>> {
        let no_park = NoPark::enter();
        Some(Held {
            guard: self.0.try_borrow_mut().ok()?,
            _no_park: no_park,
        })
    }

    /// For reports and signal handlers, which must not wait for anything.
    pub(crate) fn try_borrow(&self) -> Result<Ref<'_, T>, BorrowError> {
        self.0.try_borrow()
    }
}

/// A lock of std for statics that are used inside of coroutines: holding it is
/// a no-park scope. Poison is ignored: nothing panics half-way through a change
/// of what these guard.
#[derive(Debug, Default)]
pub(crate) struct NoParkMutex<T>(Mutex<T>);

impl<T> NoParkMutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> Held<MutexGuard<'_, T>> {
        let no_park = NoPark::enter();
        Held {
            guard: self.0.lock().unwrap_or_else(PoisonError::into_inner),
            _no_park: no_park,
        }
    }
}

impl<G: Deref> Deref for Held<G> {
    type Target = G::Target;

    #[inline(always)]
    fn deref(&self) -> &G::Target {
        &self.guard
    }
}

impl<G: DerefMut> DerefMut for Held<G> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut G::Target {
        &mut self.guard
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn borrows_and_locks_are_no_park_scopes() {
        let (cell, mutex) = (NoParkCell::new(1), NoParkMutex::new(2));
        assert!(!NoPark::is_active());
        {
            let mut one = cell.borrow_mut();
            assert!(NoPark::is_active());
            let two = mutex.lock();
            *one += *two;
        }
        assert!(!NoPark::is_active());
        assert_eq!(*cell.borrow(), 3);
        assert!(!NoPark::is_active());
    }

    #[test]
    fn deferred_wake_ups_are_flushed_when_the_outermost_scope_ends() {
        let outer = NoPark::enter();
        {
            let _inner = NoPark::enter();
            defer_wakes();
        }
        assert_eq!(HOOK_GATE.with(|gate| gate.state.get()), DEFERRED | SCOPE);
        drop(outer);
        assert_eq!(HOOK_GATE.with(|gate| gate.state.get()), 0);
    }
}
