//! std's idea of the current thread in a coroutine that has thread-locals of its own and a
//! name, so that `std::thread::current()` and std's panic message have that name.
//!
//! std keeps the current `Thread` in a thread-local. Nothing public sets it: where it is not
//! set, std makes a nameless one. Only the start routine that std gives to `pthread_create`
//! sets it, as the first thing on the new thread. So the worker has std start a thread with
//! that name, whose closure does nothing; the hook of `pthread_create` starts none and keeps
//! the start routine ([`caught`]); and the coroutine calls that before anything else, in its
//! own thread-locals ([`NamedEntry`]). What the routine has set stays until they end. To std
//! this is a thread that starts, as in threads that are coroutines (`hook/threads`).
//!
//! What std does there besides, while [`is_beginning`]: it names the kernel's thread, which
//! the hook of `pthread_setname_np` leaves out; it notes where the stack ends, to report
//! that it overflows, for which `pthread_getattr_np` fails (crore reports that); and it asks
//! for a signal stack, of which the worker has one.

use std::cell::Cell;
use std::ffi::c_void;
use std::os::unix::thread::JoinHandleExt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use super::worker::Worker;
use crate::switch::EntryPoint;
use crate::task::Slot;

/// A start routine of std's.
type StdStart = unsafe extern "C-unwind" fn(*mut c_void) -> *mut c_void;

/// The stack that std is asked for. By this size the hook knows the thread from one that
/// an allocator starts meanwhile.
const STACK: usize = 0x71_7000;

#[derive(Clone, Copy)]
enum StdThread {
    Idle,
    /// std is to start a thread.
    Wanted,
    Caught(StdStart, *mut c_void),
    /// The start routine runs.
    Begins,
}

thread_local!(static STAGE: Cell<StdThread> = const { Cell::new(StdThread::Idle) });

/// In `pthread_create`: whether the start routine is kept, and no thread is wanted.
pub(crate) fn caught(stack: impl FnOnce() -> usize, start: StdStart, arg: *mut c_void) -> bool {
    let wanted = matches!(STAGE.get(), StdThread::Wanted) && stack() == STACK;
    if wanted {
        STAGE.set(StdThread::Caught(start, arg));
    }
    wanted
}

/// Whether std's start routine runs, which names its thread.
pub(crate) fn is_beginning() -> bool {
    matches!(STAGE.get(), StdThread::Begins)
}

/// What std would have a new thread of this name run.
fn std_start(name: &str) -> Option<(StdStart, *mut c_void)> {
    /// The hook is not called here: another library's stands before it.
    static MISSED: AtomicBool = AtomicBool::new(false);
    // std panics at such a name.
    if MISSED.load(Relaxed) || name.contains('\0') {
        return None;
    }
    STAGE.set(StdThread::Wanted);
    let builder = thread::Builder::new().name(name.into()).stack_size(STACK);
    let made = builder.spawn(|| ());
    match (made, STAGE.replace(StdThread::Idle)) {
        (Ok(handle), StdThread::Caught(start, arg)) => {
            // There is nothing to detach.
            handle.into_pthread_t();
            Some((start, arg))
        }
        (made, _) => {
            MISSED.store(made.is_ok(), Relaxed);
            None
        }
    }
}

/// An entry point that tells std the name, and then runs the task's own.
#[repr(C)]
struct NamedEntry {
    head: EntryPoint,
    start: StdStart,
    arg: *mut c_void,
    then: *const EntryPoint,
}

impl Worker {
    /// The entry point of a task that starts now, with thread-locals of its own: `entry`,
    /// after std knows its name, if it has one. It has to be run.
    pub(super) fn named_entry(&self, slot: &Slot, entry: *const EntryPoint) -> *const EntryPoint {
        let started = self.name(slot).and_then(|name| std_start(&name));
        let Some((start, arg)) = started else {
            return entry;
        };
        Box::into_raw(Box::new(NamedEntry {
            head: EntryPoint { run: begin },
            start,
            arg,
            then: entry,
        }))
        .cast()
    }
}

unsafe fn begin(entry: NonNull<EntryPoint>) {
    // SAFETY: the head of the box that `named_entry` has made; an entry point is called once.
    let named = unsafe { *Box::from_raw(entry.cast::<NamedEntry>().as_ptr()) };
    STAGE.set(StdThread::Begins);
    // SAFETY: std's routine with its argument, once, in thread-locals that are new and those
    // of the caller alone. It does not unwind.
    unsafe { (named.start)(named.arg) };
    STAGE.set(StdThread::Idle);
    // SAFETY: the task's own entry point, called once.
    unsafe { ((*named.then).run)(NonNull::new_unchecked(named.then.cast_mut())) };
}
