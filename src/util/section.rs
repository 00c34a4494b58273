//! Sections: stretches of our own code in which no coroutine may suspend.
//!
//! The hooks make a lock of std, or of C, a place where a coroutine may park.
//! The runtime's own code is full of such places that it does not see: a
//! global allocator may lock. If it parked while a worker's table is borrowed
//! or an internal lock is held, the next coroutine would find the table
//! borrowed, or spin on the lock for ever. So each such stretch is a section:
//! a wait inside of one blocks the thread, which ends soon because nobody
//! suspends while holding what an allocator holds.
//!
//! A wake-up inside of a section can't be delivered either, since delivering
//! borrows and locks the same things: it is *owed*, and paid when the thread's
//! last section ends ([`pay_with`] says how).
//!
//! Nobody enters a section by hand where a type can do it: [`SectionCell`] and
//! [`SectionMutex`] here, the lock of the primitives in `shim.rs`.

use std::cell::{BorrowError, Cell, Ref, RefCell, RefMut};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::{mem, ptr};

thread_local! {
    /// How many sections this thread is in, and [`OWED`].
    static STATE: Cell<u32> = const { Cell::new(0) };
}

/// Wake-ups are owed.
const OWED: u32 = 1 << 31;

/// What pays; null: nobody ever owes.
static PAYER: AtomicPtr<()> = AtomicPtr::new(ptr::null_mut());

/// The thread is in a section while this lives.
#[derive(Debug)]
pub(crate) struct Section {
    /// Left on the thread that entered it.
    _here: PhantomData<*mut ()>,
}

impl Section {
    #[inline(always)]
    pub(crate) fn enter() -> Self {
        STATE.with(|state| state.set(state.get() + 1));
        Self { _here: PhantomData }
    }

    /// Whether this thread is in one.
    #[inline(always)]
    pub(crate) fn is_here() -> bool {
        STATE.get() & !OWED != 0
    }
}

impl Drop for Section {
    #[inline(always)]
    fn drop(&mut self) {
        let left = STATE.with(|state| {
            state.set(state.get() - 1);
            state.get()
        });
        if left == OWED {
            pay();
        }
    }
}

/// Has [`pay_with`]'s function called when this thread's last section ends.
pub(crate) fn owe() {
    debug_assert!(Section::is_here(), "outside of sections wake-ups are made");
    STATE.set(STATE.get() | OWED);
}

/// Says how owed wake-ups are made; one function for the process.
pub(crate) fn pay_with(payer: fn()) {
    PAYER.store(payer as *mut (), Ordering::Release);
}

#[cold]
fn pay() {
    STATE.set(0);
    let payer = PAYER.load(Ordering::Acquire);
    if !payer.is_null() {
        // SAFETY: only `pay_with` stores here, and it stores this type.
        unsafe { mem::transmute::<*mut (), fn()>(payer)() };
    }
}

/// A `RefCell` whose borrows are sections.
#[derive(Debug, Default)]
pub(crate) struct SectionCell<T>(RefCell<T>);

/// A borrow, or a guard, and its section. (Fields are dropped in this order.)
#[derive(Debug)]
pub(crate) struct Held<G> {
    guard: G,
    _section: Section,
}

impl<T> SectionCell<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(RefCell::new(value))
    }

    #[inline(always)]
    pub(crate) fn borrow(&self) -> Held<Ref<'_, T>> {
        let section = Section::enter();
        Held {
            guard: self.0.borrow(),
            _section: section,
        }
    }

    #[inline(always)]
    pub(crate) fn borrow_mut(&self) -> Held<RefMut<'_, T>> {
        let section = Section::enter();
        Held {
            guard: self.0.borrow_mut(),
            _section: section,
        }
    }

    /// A borrow that is no section: for what allocates nothing and calls
    /// nothing, so that no lock is met and no wake-up comes meanwhile.
    #[inline(always)]
    pub(crate) fn brief(&self) -> RefMut<'_, T> {
        self.0.borrow_mut()
    }

    /// For signal handlers, which may have interrupted a borrow.
    #[inline(always)]
    pub(crate) fn try_borrow_mut(&self) -> Option<Held<RefMut<'_, T>>> {
        let section = Section::enter();
        Some(Held {
            guard: self.0.try_borrow_mut().ok()?,
            _section: section,
        })
    }

    /// For reports and signal handlers, which must not wait for anything.
    pub(crate) fn try_borrow(&self) -> Result<Ref<'_, T>, BorrowError> {
        self.0.try_borrow()
    }
}

/// A lock of std for statics that are used inside of coroutines: who holds it
/// is in a section. Poison is ignored: nothing panics half-way through a
/// change of what these guard.
#[derive(Debug, Default)]
pub(crate) struct SectionMutex<T>(Mutex<T>);

impl<T> SectionMutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> Held<MutexGuard<'_, T>> {
        let section = Section::enter();
        Held {
            guard: self.0.lock().unwrap_or_else(PoisonError::into_inner),
            _section: section,
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
    fn borrows_and_locks_are_sections() {
        let (cell, mutex) = (SectionCell::new(1), SectionMutex::new(2));
        assert!(!Section::is_here());
        {
            let mut one = cell.borrow_mut();
            assert!(Section::is_here());
            let two = mutex.lock();
            *one += *two;
        }
        assert!(!Section::is_here());
        assert_eq!(*cell.borrow(), 3);
        assert!(!Section::is_here());
    }

    #[test]
    fn what_is_owed_is_paid_when_the_last_section_ends() {
        let outer = Section::enter();
        {
            let _inner = Section::enter();
            owe();
        }
        assert_eq!(STATE.get(), OWED | 1);
        drop(outer);
        assert_eq!(STATE.get(), 0);
    }
}
