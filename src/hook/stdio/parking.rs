//! Which call on a `FILE` may park inside of libc: one that a hook of ours has made, in
//! the coroutine that made it, on the `FILE` that it was made for. Not what libc's
//! functions call of each other: some hold other locks of libc's, or are on a list of
//! the thread's.

use std::cell::Cell;

use libc::FILE;

use crate::hook::futex::pthread::file_lock::locked;
use crate::sched::CurrentTask;
use crate::task::Addr;

/// The file, and the coroutine.
type ParkingCall = Option<(*mut FILE, Addr)>;

thread_local! {
    /// Of the coroutine that runs, or an older one of another, which means nothing.
    static CALL: Cell<ParkingCall> = const { Cell::new(None) };
}

/// Makes a call of libc's that may park where it reads or writes this file.
pub(super) fn parking<R>(cx: CurrentTask, file: *mut FILE, call: impl FnOnce() -> R) -> R {
    let by = cx.addr();
    let before = CALL.replace(Some((file, by)));
    let result = call();
    CALL.set(before.filter(|(_, of)| *of == by));
    result
}

/// Does what may park, if this is such a call.
pub(super) fn may_park_in<R>(file: *mut FILE, wait: impl FnOnce() -> R) -> Option<R> {
    let call = CALL.get();
    let (_, by) = call.filter(|(on, _)| *on == file)?;
    CurrentTask::current().filter(|cx| cx.addr() == by)?;
    let result = wait();
    // Others' have been here.
    CALL.set(call);
    Some(result)
}

/// A call that libc makes under the file's lock.
///
/// # Safety
///
/// - A valid file.
pub(super) unsafe fn in_turn<R>(cx: CurrentTask, file: *mut FILE, call: impl FnOnce() -> R) -> R {
    // SAFETY: the caller's file.
    unsafe { locked(file, || parking(cx, file, call)) }
}

/// One whose caller has the lock, or needs none.
///
/// # Safety
///
/// - None: as `in_turn` is, in whose place it stands.
pub(super) unsafe fn at_once<R>(cx: CurrentTask, file: *mut FILE, call: impl FnOnce() -> R) -> R {
    parking(cx, file, call)
}
