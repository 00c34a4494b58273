//! `FILE`s: C's buffered streams, in coroutines. libc reads and writes them inside of
//! itself, where no hook sees it. So three things make a coroutine park there:
//!
//! - the lock of the `FILE` is taken first, by the coroutine
//!   ([`file_lock`](crate::hook::futex::pthread::file_lock));
//! - the call is noted as one that may park ([`parking`]);
//! - where libc's own code reads or writes the descriptor it comes to a function of
//!   ours ([`jumps`]), which makes the hooked call.
//!
//! All else is libc's own code: buffers, positions, what an error or an end leaves.

mod calls;
mod close;
mod flush;
mod format;
mod jumps;
mod parking;
mod scan;

pub(crate) use calls::*;
pub(crate) use close::*;
pub(crate) use flush::*;
pub(crate) use format::*;
pub(crate) use scan::*;

use std::ffi::c_int;

use libc::FILE;

const EOF: c_int = -1;

unsafe extern "C" {
    static stdin: *mut FILE;
    static stdout: *mut FILE;
}

/// A worker begins.
pub(super) fn worker_begins() {
    jumps::put_ours();
    flush::look_up();
}
