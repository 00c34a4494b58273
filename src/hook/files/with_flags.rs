//! Reads and writes with flags: `preadv2`, `pwritev2`.
//!
//! At a place they are positioned I/O. At the file's own position (−1) they are made on
//! any descriptor, and what is no file is waited for as by `read` and `write`: no helper
//! thread may wait for what others bring.

use std::ffi::c_int;

use libc::{iovec, off_t, ssize_t};

use crate::driver::Direction;
use crate::hook::files::is_file::is_file;
use crate::hook::files::positioned::{Access, HERE, positioned};
use crate::hook::libc::hook;
use crate::hook::wait::call::{On, cancellable_on, in_coroutine};
use crate::hook::wait::retry::{Mode, event};
use crate::hook::wait::transfer::{Buffers, Transfer, no_buffer};
use crate::sched::CurrentTask;
use crate::sys::ready::poll_now;
use crate::sys::syscall::Answer;

macro_rules! with_flags {
    ($(fn $name:ident: $dir:ident, $plain:ident, $number:ident;)*) => {
        $(hook!(
            next_or(sys!($number, fd, iov, count, at, 0, flags)),
            Some(cx) = in_coroutine().filter(|_| flags & libc::RWF_NOWAIT == 0),
            /// At the file's own position it is the call without an offset,
            /// as long as there are no flags.
            unsafe extern "C" fn $name(fd: c_int, iov: *const iovec, count: c_int, at: off_t, flags: c_int) -> ssize_t {
                let access = Access { fd, dir: Direction::$dir, at, flags };
                let buffers = Buffers::new(iov, count as usize);
                // SAFETY: the caller's buffers.
                unsafe {
                    match at {
                        HERE if flags == 0 => libc::$plain(fd, iov, count),
                        HERE if !is_file(cx, fd) => waiting(cx, access, buffers),
                        _ => positioned(cx, access, buffers),
                    }
                }
            }
        );)*
    };
}

with_flags! {
    fn preadv2: Read, readv, SYS_preadv2;
    fn preadv64v2: Read, readv, SYS_preadv2;
    fn pwritev2: Write, writev, SYS_pwritev2;
    fn pwritev64v2: Write, writev, SYS_pwritev2;
}

/// The call on what may have to be waited for.
///
/// # Safety
///
/// - `buffers` are valid for the direction.
unsafe fn waiting(cx: CurrentTask, access: Access, buffers: Buffers) -> ssize_t {
    let Access { fd, dir, .. } = access;
    // SAFETY: the caller's buffers, for this and all below.
    let total = unsafe { buffers.total() };
    let transfer = match dir {
        Direction::Read => Transfer::incoming(fd, total, 0, false),
        Direction::Write => Transfer::outgoing(fd, total, 0),
    };
    let call = |access: Access, done: usize, more| {
        let mut scratch = no_buffer();
        // SAFETY: as above.
        unsafe { access.call(done, buffers.after(done, &mut scratch), more) }
    };
    let try_now = |done| -> Answer {
        match call(access, done, libc::RWF_NOWAIT) {
            // It can't be told not to wait, or has no such flags.
            Err(libc::EOPNOTSUPP | libc::ENOSYS | libc::EPERM) => {}
            answer => return answer,
        }
        if poll_now(fd, event(dir)) != 0 {
            return call(access, done, 0);
        }
        match call(Access { flags: 0, ..access }, done, libc::RWF_NOWAIT) {
            Err(libc::EAGAIN) => Err(libc::EOPNOTSUPP),
            Err(libc::EOPNOTSUPP | libc::ENOSYS | libc::EPERM) => Err(libc::EAGAIN),
            answer => answer,
        }
    };
    cancellable_on(cx, On::Fd(fd, dir), || {
        transfer.run(cx, |done, mode| match mode {
            Mode::NoWait => try_now(done),
            Mode::Plain => call(access, done, 0),
        })
    })
}
