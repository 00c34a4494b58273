//! Waits for asynchronous I/O of POSIX: `aio_suspend`, `lio_listio`. libc's own threads
//! make the transfers; whether one is done is asked for, up to every 10 ms.
//!
//! Left out of statically linked programs, where libc's own could not be reached
//! any more.

use std::ffi::c_int;

use libc::{aiocb, sigevent, timespec};

use crate::hook::libc::hook;
use crate::hook::wait::backoff::Backoff;
use crate::hook::wait::call::{cancellable, in_coroutine, may_park};
use crate::hook::wait::clock::{self, after};
use crate::sys::syscall::{errno, set_errno};

/// A transfer of the caller's, which lives until the call is over. libc's threads write
/// to it.
struct AioTransfer(*const aiocb);

impl AioTransfer {
    fn state(&self) -> c_int {
        // SAFETY: it lives.
        unsafe { libc::aio_error(self.0) }
    }

    fn is_under_way(&self) -> bool {
        self.state() == libc::EINPROGRESS
    }

    fn is_none(&self) -> bool {
        // SAFETY: it lives, and nobody changes its kind.
        unsafe { (&raw const (*self.0).aio_lio_opcode).read() == libc::LIO_NOP }
    }
}

/// The transfers of a list, without its holes.
///
/// # Safety
///
/// - `list` points at `count` places, if there are any: null, or transfers that live
///   as long as what this returns.
unsafe fn all(list: *const *const aiocb, count: c_int) -> impl Iterator<Item = AioTransfer> {
    let count = if list.is_null() { 0 } else { count.max(0) };
    (0..count as usize)
        // SAFETY: one of the caller's `count` places.
        .map(move |at| unsafe { *list.wrapping_add(at) })
        .filter(|transfer| !transfer.is_null())
        .map(AioTransfer)
}

/// Whether there are any, and all are under way.
///
/// # Safety
///
/// - As for [`all`].
unsafe fn waits(list: *const *const aiocb, count: c_int) -> bool {
    // SAFETY: forwarded.
    unsafe { all(list, count).next().is_some() && all(list, count).all(|one| one.is_under_way()) }
}

macro_rules! suspended {
    ($(fn $name:ident;)*) => {
        $(hook!(
            next,
            // SAFETY: the caller's list.
            Some(cx) = in_coroutine().filter(|_| unsafe { waits(list, count) }),
            unsafe extern "C" fn $name(
                list: *const *const aiocb,
                count: c_int,
                time: *const timespec,
            ) -> c_int {
                cancellable(cx, || {
                    // SAFETY: the caller's time and list.
                    let deadline = unsafe { clock::limit(time) }?.map(after);
                    // SAFETY: as above.
                    let ask = || Ok((!unsafe { waits(list, count) }).then_some(0));
                    let waited = Backoff::new().until_deadline(cx, deadline, ask);
                    waited.map_err(|code| if code == libc::ETIMEDOUT { libc::EAGAIN } else { code })
                })
            }
        );)*
    };
}

suspended! {
    fn aio_suspend;
    fn aio_suspend64;
}

macro_rules! listed {
    ($(fn $name:ident;)*) => {
        $(hook!(
            next,
            Some(cx) = may_park().filter(|_| mode == libc::LIO_WAIT),
            /// A cancelled coroutine waits on: the memory is libc's until the end.
            unsafe extern "C" fn $name(
                mode: c_int,
                list: *const *mut aiocb,
                count: c_int,
                event: *mut sigevent,
            ) -> c_int {
                let _ = event;
                let saved = errno();
                // SAFETY: the caller's list; no event, as where it is waited for.
                let begun = unsafe { $name::next(libc::LIO_NOWAIT, list, count, std::ptr::null_mut()) };
                if begun != 0 && errno() == libc::EINVAL {
                    return begun;
                }
                // SAFETY: the caller's list.
                let begun_ones = || unsafe { all(list.cast(), count) }.filter(|one| !one.is_none());
                let mut backoff = Backoff::new();
                while begun_ones().any(|one| one.is_under_way()) {
                    backoff.pause_regardless(cx, None);
                }
                if begun == 0 && begun_ones().all(|one| one.state() == 0) {
                    set_errno(saved);
                    return 0;
                }
                set_errno(libc::EIO);
                -1
            }
        );)*
    };
}

listed! {
    fn lio_listio;
    fn lio_listio64;
}
