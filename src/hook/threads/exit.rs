//! Ending: `pthread_exit`.
//!
//! `pthread_exit` of glibc unwinds the stack: it runs the cleanup handlers and C++'s
//! destructors on the way, up to the place that glibc's thread has noted in its block
//! where the start routine was called, and jumps there. So a coroutine that is a
//! thread notes the place where its start routine is called (`call_start.rs`), with the
//! function that C's `pthread_cleanup_push` calls, and glibc does the rest.

use std::ffi::c_void;

use super::thread::Thread;
use crate::hook::libc::hook;
use crate::sched::CurrentTask;
use crate::sys::report::die;

hook!(
    next,
    unsafe extern "C-unwind" fn pthread_exit(value: *mut c_void) -> ! {
        note(value);
        // SAFETY: a thread of libc's, or a coroutine that began in `call_start`. No
        // frame of ours owns anything here.
        unsafe { pthread_exit::next(value) }
    }
);

/// The thread ends with this. Where no thread began there is no way to end one.
fn note(value: *mut c_void) {
    if let Some(thread) = Thread::current() {
        thread.set_result(value);
    } else if CurrentTask::running().is_some() {
        die(format_args!(
            "pthread_exit in a coroutine that is no thread: libc would unwind to the start of a \
             thread, which is not on its stack; return from its closure instead"
        ));
    }
}
