//! Numbers that end inside of libc, where no `close` is seen: those of directories and
//! message queues. Those of `FILE`s are in `stdio`, or in `files.rs`.
//!
//! Left out of statically linked programs, where libc's own could not be reached
//! any more.

use std::ffi::c_int;

use libc::{DIR, mqd_t};

use crate::hook::libc::hook;
use crate::sched;

hook!(
    next,
    unsafe extern "C" fn closedir(directory: *mut DIR) -> c_int {
        if !directory.is_null() {
            // SAFETY: the caller's directory.
            sched::renew_fd(unsafe { libc::dirfd(directory) });
        }
        // SAFETY: the same.
        unsafe { closedir::next(directory) }
    }
);

hook!(
    next,
    unsafe extern "C" fn mq_close(queue: mqd_t) -> c_int {
        sched::renew_fd(queue);
        // SAFETY: no pointers.
        unsafe { mq_close::next(queue) }
    }
);
