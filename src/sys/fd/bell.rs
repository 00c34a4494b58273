//! The bell: one eventfd of the process that every worker's event queue watches.
//!
//! It wakes them all, and whoever rings it needs no lock and no knowledge of who
//! there is: a signal handler may, and a number that is written to never becomes
//! somebody else's, because the bell is never closed.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicI32, Ordering};

use super::EventFd;
use crate::sys::syscall::sys;

/// −1: there is none.
static BELL: AtomicI32 = AtomicI32::new(-1);

/// The bell's number; made at the first call.
///
/// # Errors
///
/// No descriptor is left.
pub(crate) fn fd() -> io::Result<RawFd> {
    let known = BELL.load(Ordering::Acquire);
    if known >= 0 {
        return Ok(known);
    }
    let fresh = EventFd::new()?;
    let made = BELL.compare_exchange(-1, fresh.as_raw_fd(), Ordering::AcqRel, Ordering::Acquire);
    Ok(match made {
        Ok(_) => fresh.leak(),
        Err(other) => other,
    })
}

/// Whether it was made.
pub(crate) fn is_there() -> bool {
    BELL.load(Ordering::Relaxed) >= 0
}

/// Wakes all that watch it, now or when they wait next.
pub(crate) fn ring() {
    let one = 1_u64;
    // SAFETY: a live value of eight bytes. (An edge-triggered queue reports each
    // write, so nobody reads, and it does not fill.)
    let _ = unsafe { sys!(SYS_write, BELL.load(Ordering::Acquire), &raw const one, 8) };
}

/// In a forked child: the bell is the parent's.
pub(crate) fn forget() {
    let fd = BELL.swap(-1, Ordering::Relaxed);
    if fd >= 0 {
        // SAFETY: no pointers; nobody else has the number.
        let _ = unsafe { sys!(SYS_close, fd) };
    }
}
