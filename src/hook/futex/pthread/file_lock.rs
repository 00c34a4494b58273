//! Locks of `FILE`s: `flockfile` and its kin, and the lock that libc's functions on a
//! `FILE` take.
//!
//! glibc's lock is recursive by thread. The coroutines of a thread that have its
//! thread-locals in common are that thread, so the lock would let them all in: which
//! of them holds it is noted here, and how often. Coroutines with thread-locals of
//! their own are threads to it; they would wait in the kernel.
//!
//! So a coroutine tries, and parks while another holds the lock. It is glibc's own
//! lock that is held, which keeps plain threads out.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::c_int;
use std::sync::OnceLock;

use libc::FILE;

use super::{Here, Manner, contend, may_park, parkable, wake};
use crate::hook::libc::hook;
use crate::hook::libc::next::next_definition;
use crate::sched::CurrentTask;
use crate::shim::Lock;
use crate::task::Addr;

/// A lock, the coroutine that holds it, and how often.
#[derive(Clone, Copy)]
struct Hold {
    file: usize,
    coroutine: Addr,
    depth: u32,
}

thread_local! {
    /// The lock that coroutines of this thread took last: most are let go before
    /// another is taken here, and cost no more than this.
    static LAST: Cell<Option<Hold>> = const { Cell::new(None) };
    /// How many others there are, in [`OTHERS`].
    static MORE: Cell<usize> = const { Cell::new(0) };
}

/// Those of coroutines that keep one while others run, by thread and file. Not in a
/// static itself: under loom a lock can't be.
static OTHERS: OnceLock<Lock<BTreeMap<(usize, usize), Hold>>> = OnceLock::new();

/// The standard files, which are there after they were closed.
static STANDARD: OnceLock<[usize; 3]> = OnceLock::new();

/// A worker begins: the map must not be made inside of a hook, and has nothing of this
/// thread yet, but of an earlier one that was where it is.
pub(super) fn begin() {
    STANDARD.get_or_init(|| {
        [c"_IO_2_1_stdin_", c"_IO_2_1_stdout_", c"_IO_2_1_stderr_"]
            .map(|name| next_definition(name).addr())
    });
    let others = OTHERS.get_or_init(|| Lock::new(BTreeMap::new()));
    if LAST.get().is_none() && MORE.get() == 0 {
        let thread = Hold::thread();
        others.lock().retain(|&(of, _), _| of != thread);
    }
}

/// How many there are in [`OTHERS`].
pub(super) fn count_others() -> usize {
    OTHERS.get().map_or(0, |others| others.lock().len())
}

impl Hold {
    /// What tells this thread from others.
    fn thread() -> usize {
        LAST.with(|last| std::ptr::from_ref(last).addr())
    }

    /// Does not allocate.
    fn of(file: usize) -> Option<Self> {
        LAST.get().filter(|last| last.file == file).or_else(|| {
            let others = OTHERS.get().filter(|_| MORE.get() > 0)?;
            others.lock().get(&(Self::thread(), file)).copied()
        })
    }

    /// The last is in [`LAST`], and no lock is in both.
    fn note(self) {
        let last = LAST.get().filter(|last| last.file != self.file);
        Self::forget(self.file);
        if let Some((last, others)) = last.zip(OTHERS.get()) {
            others.lock().insert((Self::thread(), last.file), last);
            MORE.set(MORE.get() + 1);
        }
        LAST.set(Some(self));
    }

    fn forget(file: usize) {
        if LAST.get().is_some_and(|last| last.file == file) {
            LAST.set(None);
        } else if let Some(others) = OTHERS.get().filter(|_| MORE.get() > 0) {
            let removed = others.lock().remove(&(Self::thread(), file));
            MORE.set(MORE.get() - usize::from(removed.is_some()));
        }
    }
}

/// Takes the lock if it is free, or the coroutine's own; to be noted. Neither
/// allocates nor waits.
///
/// # Safety
///
/// - A valid file.
pub(crate) unsafe fn try_lock(cx: CurrentTask, file: *mut FILE) -> bool {
    let others = |hold: Hold| hold.coroutine != cx.addr();
    let known = !may_park::has_own_thread_locals(cx);
    if known && Hold::of(file.addr()).is_some_and(others) {
        return false;
    }
    // SAFETY: the caller's file.
    unsafe { ftrylockfile::next(file) == 0 }
}

/// The coroutine has taken the lock, once more.
pub(crate) fn note(cx: CurrentTask, file: *mut FILE) {
    if may_park::has_own_thread_locals(cx) {
        return;
    }
    let file = file.addr();
    let before = Hold::of(file).map_or(0, |hold| hold.depth);
    let hold = Hold {
        file,
        coroutine: cx.addr(),
        depth: before + 1,
    };
    hold.note();
}

/// # Safety
///
/// - A valid file.
unsafe fn lock(here: Here, file: *mut FILE) {
    // SAFETY: the caller's file.
    let attempt = || match unsafe { try_lock(here.0, file) } {
        true => 0,
        false => libc::EBUSY,
    };
    if attempt() != 0 {
        contend(here, file.addr(), None, Manner::USUAL, attempt);
    }
    note(here.0, file);
}

/// # Safety
///
/// - A file whose lock the caller holds.
pub(crate) unsafe fn unlock(file: *mut FILE) {
    if let Some(cx) = CurrentTask::running() {
        let known = !may_park::has_own_thread_locals(cx);
        let hold = Hold::of(file.addr()).filter(|hold| known && hold.coroutine == cx.addr());
        match hold {
            Some(hold) if hold.depth > 1 => {
                let depth = hold.depth - 1;
                Hold { depth, ..hold }.note();
            }
            Some(_) => Hold::forget(file.addr()),
            None => {}
        }
    }
    // SAFETY: the caller's file.
    unsafe { funlockfile::next(file) };
    wake(file.addr(), 1);
}

hook!(
    next,
    Some(here) = parkable(),
    unsafe extern "C" fn flockfile(file: *mut FILE) {
        // SAFETY: the caller's file.
        unsafe { lock(here, file) }
    }
);

hook!(
    next,
    Some((cx, _)) = parkable(),
    unsafe extern "C" fn ftrylockfile(file: *mut FILE) -> c_int {
        // SAFETY: the caller's file.
        let taken = unsafe { try_lock(cx, file) };
        if taken {
            note(cx, file);
        }
        c_int::from(!taken)
    }
);

hook!(
    next,
    unsafe extern "C" fn funlockfile(file: *mut FILE) {
        // SAFETY: the caller's file.
        unsafe { unlock(file) }
    }
);

/// Makes a call on a `FILE` that libc locks inside of itself: in a coroutine the lock
/// is taken before, so that the coroutine is the one that waits for it.
///
/// # Safety
///
/// - A valid file.
pub(crate) unsafe fn locked<R>(file: *mut FILE, call: impl FnOnce() -> R) -> R {
    let Some(here) = parkable() else {
        return call();
    };
    // SAFETY: the caller's file.
    unsafe { lock(here, file) };
    let result = call();
    // SAFETY: as above.
    unsafe { unlock(file) };
    result
}

/// [`locked`] for a call that ends the file, and its lock with it. Those that wait for
/// the lock then would be a mistake of the program's, with threads as well.
///
/// # Safety
///
/// - A valid file.
pub(crate) unsafe fn locked_last<R>(file: *mut FILE, call: impl FnOnce() -> R) -> R {
    if STANDARD.get().is_some_and(|all| all.contains(&file.addr())) {
        // SAFETY: the caller's file.
        return unsafe { locked(file, call) };
    }
    if let Some(here) = parkable() {
        // SAFETY: the caller's file.
        unsafe { lock(here, file) };
    }
    let result = call();
    Hold::forget(file.addr());
    result
}

/// Waits until nobody else holds the lock. What the coroutine holds of it ends: the file
/// is about to be closed by another thread.
///
/// # Safety
///
/// - A valid file.
pub(crate) unsafe fn when_free(file: *mut FILE) {
    let Some(here) = parkable() else { return };
    // SAFETY: the caller's file, in both: the lock is ours once more than is known.
    unsafe {
        lock(here, file);
        let known = Hold::of(file.addr()).map_or(1, |hold| hold.depth);
        (0..known).for_each(|_| unlock(file));
    }
}
