//! The handler of `SIGSETXID` (`setuid` and its kin): every thread answers as
//! itself, whatever block it uses.
//!
//! The kernel knows users by thread, so glibc signals all threads and waits until
//! the mark is gone that it has put on each; its handler takes the mark off the
//! block *in use*. In a coroutine with a block of its own that is the wrong one:
//! glibc would signal that thread again until the coroutine parks, and for ever if
//! the coroutine in turn waits for glibc. So the handler is ours: it changes to the
//! thread's block, calls glibc's, and changes back.
//!
//! A table of worker threads says which block is the thread's. A signal handler
//! can read all of it at any moment: no thread-local, no lock, nothing freed.

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicIsize, AtomicU32, AtomicUsize, Ordering};

use super::thread_pointer::{Offset, ThreadPointer};
use crate::sys::syscall::{six, syscall, tid};
use crate::sys::thread_pointer;
use crate::sys::tls::{FIRST_NUMBER, MAX_THREADS};

/// glibc's `SIGSETXID`: `sigaction` of libc does not let anybody have it.
const SIGNAL: c_int = 33;

/// A worker thread, on which blocks are entered.
struct WorkerThread {
    /// The kernel's number; 0: none.
    tid: AtomicU32,
    /// Its own block.
    pointer: AtomicUsize,
}

static THREADS: [WorkerThread; MAX_THREADS] = [const {
    WorkerThread {
        tid: AtomicU32::new(0),
        pointer: AtomicUsize::new(0),
    }
}; MAX_THREADS];

/// Registers the calling thread, with its own block in use, as this worker.
pub(crate) fn register_thread(worker: usize) {
    let (tid, pointer) = (tid(), thread_pointer::get());
    // A thread that ended without unregistering, whose number the kernel gave
    // again.
    for thread in &THREADS {
        if thread.tid.load(Ordering::Relaxed) == tid
            && thread.pointer.load(Ordering::Relaxed) != pointer
        {
            // Not the number of one that registers there just now.
            let number = &thread.tid;
            let _ = number.compare_exchange(tid, 0, Ordering::Relaxed, Ordering::Relaxed);
        }
    }
    THREADS[worker].tid.store(0, Ordering::Relaxed);
    THREADS[worker].pointer.store(pointer, Ordering::Relaxed);
    THREADS[worker].tid.store(tid, Ordering::Release);
}

/// The calling thread is this worker no more; another may be already.
pub(crate) fn unregister_thread(worker: usize) {
    let registered = &THREADS[worker].tid;
    let _ = registered.compare_exchange(tid(), 0, Ordering::Relaxed, Ordering::Relaxed);
}

/// How many are registered.
pub(crate) fn registered_threads() -> usize {
    let is_registered = |thread: &&WorkerThread| thread.tid.load(Ordering::Relaxed) != 0;
    THREADS.iter().filter(is_registered).count()
}

/// The own block of the calling thread, if a coroutine's is in use.
fn left_behind(tid_at: Offset) -> Option<ThreadPointer> {
    let here = thread_pointer::get().wrapping_add_signed(tid_at);
    // SAFETY: the field of the block in use. A block of ours says a number that
    // no thread has.
    let number = unsafe { ptr::with_exposed_provenance::<u32>(here).read_volatile() };
    if number < FIRST_NUMBER {
        return None;
    }
    let tid = tid();
    let mut threads = THREADS.iter();
    let thread = threads.find(|thread| thread.tid.load(Ordering::Acquire) == tid)?;
    Some(ThreadPointer::of(thread.pointer.load(Ordering::Relaxed)))
}

/// The kernel's `struct sigaction`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct KernelSigaction {
    handler: usize,
    flags: u64,
    restorer: usize,
    mask: u64,
}

type SetxidHandler = unsafe extern "C" fn(c_int, *mut c_void, *mut c_void);

/// glibc's handler.
static THEIRS: AtomicUsize = AtomicUsize::new(0);
/// Where a block has its number.
static TID_AT: AtomicIsize = AtomicIsize::new(0);

/// Puts our handler in the place of glibc's, which is there from the first
/// thread on, unless that is done.
pub(super) fn watch(tid_at: Offset) {
    let mut action = KernelSigaction::default();
    exchange(None, Some(&mut action));
    let ours = answer as SetxidHandler as usize;
    if action.handler == ours || action.handler == libc::SIG_DFL {
        return;
    }
    TID_AT.store(tid_at, Ordering::Relaxed);
    THEIRS.store(action.handler, Ordering::Release);
    action.handler = ours;
    // On the thread's signal stack, as the coroutine's may be small; and no
    // other handler while the blocks are changed.
    action.flags |= libc::SA_ONSTACK as u64;
    action.mask = u64::MAX;
    exchange(Some(&action), None);
}

/// The kernel's `rt_sigaction`.
fn exchange(new: Option<&KernelSigaction>, old: Option<&mut KernelSigaction>) {
    let new = new.map_or(0, |new| ptr::from_ref(new).expose_provenance());
    let old = old.map_or(0, |old| ptr::from_mut(old).expose_provenance());
    let mask_len = size_of::<u64>();
    // SAFETY: both as the kernel has them, or null; the handler and its
    // restorer are good for the rest of the process.
    let _ = unsafe {
        syscall(
            libc::SYS_rt_sigaction,
            six([SIGNAL as usize, new, old, mask_len]),
        )
    };
}

unsafe extern "C" fn answer(signal: c_int, info: *mut c_void, context: *mut c_void) {
    let theirs = THEIRS.load(Ordering::Acquire);
    // SAFETY: `watch` stored glibc's handler before ours could be called.
    let theirs = unsafe { std::mem::transmute::<usize, SetxidHandler>(theirs) };
    let here = ThreadPointer::current();
    match left_behind(TID_AT.load(Ordering::Relaxed)) {
        // SAFETY: the thread's own block and the one that was in use, both
        // complete; nothing else runs on the thread meanwhile, as all signals
        // are blocked. No thread-local in this frame (I12).
        Some(thread) => unsafe {
            thread.enter();
            theirs(signal, info, context);
            here.enter();
        },
        // SAFETY: as the kernel calls it.
        None => unsafe { theirs(signal, info, context) },
    }
}
