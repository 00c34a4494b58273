//! Reads of terminals. Those with lines wait for one; those without for a number of bytes
//! (`VMIN`), a time (`VTIME`), both or nothing, which `poll` knows half of.

use std::os::fd::RawFd;
use std::time::Instant;

use crate::driver::Direction;
use crate::hook::files::poll_first::{once_ready, plain};
use crate::hook::wait::backoff::Backoff;
use crate::hook::wait::call::park_until_ready;
use crate::hook::wait::clock::after;
use crate::hook::wait::transfer::{Buffers, no_buffer};
use crate::sched::CurrentTask;
use crate::sys::fd::nonblocking::is_nonblocking;
use crate::sys::ready::poll_now;
use crate::sys::syscall::{Answer, Errno};
use crate::sys::terminal::{Patience, input};

/// `read` of a terminal.
///
/// # Safety
///
/// - `buffers` can be written.
#[cold]
pub(crate) unsafe fn read(cx: CurrentTask, fd: RawFd, buffers: Buffers) -> Answer {
    // One that has hung up has none, and answers at once.
    let Patience { least, time } = Patience::of(fd).unwrap_or(Patience::NONE);
    // SAFETY: the caller's buffers, for this and all below.
    let total = unsafe { buffers.total() };
    if is_nonblocking(fd)? || least == 0 && time.is_none() || total == 0 {
        // Takes what is there.
        // SAFETY: as above.
        return unsafe { plain(fd, Direction::Read, buffers) };
    }
    let mut wait = AwaitedBytes {
        // With a time between bytes, each is waited for; without, all of them.
        bytes: if time.is_some() { 1 } else { least.min(total) },
        told: time.is_some() || least <= total,
        deadline: time.filter(|_| least == 0).map(after),
        backoff: Backoff::new(),
        waited: false,
    };
    let least = least.clamp(1, total);
    let mut done = 0;
    loop {
        let moved = wait.until_there(cx, fd).and_then(|()| {
            let mut scratch = no_buffer();
            // SAFETY: as above.
            unsafe { once_ready(fd, Direction::Read, buffers.after(done, &mut scratch)) }
        });
        match moved {
            // Another reader was faster.
            Err(libc::EAGAIN) => {}
            Err(libc::ETIMEDOUT) => return Ok(done),
            Err(_) if done > 0 => return Ok(done),
            Ok(moved) if moved > 0 && done + moved < least => {
                done += moved;
                wait.deadline = time.map(after);
            }
            // To those that wait the kernel says so; to those that come later, nothing.
            Ok(0) if wait.waited && done == 0 && has_hung_up(fd) => return Err(libc::EIO),
            last => return last.map(|moved| done + moved),
        }
    }
}

fn has_hung_up(fd: RawFd) -> bool {
    poll_now(fd, libc::POLLIN) & libc::POLLHUP != 0
}

/// What a read waits for.
struct AwaitedBytes {
    bytes: usize,
    /// An event tells of so many bytes: the kernel counts to `VMIN` and not to what the
    /// caller has room for.
    told: bool,
    deadline: Option<Instant>,
    backoff: Backoff,
    waited: bool,
}

impl AwaitedBytes {
    /// Waits until the bytes are there, or nobody is any more who would send them.
    ///
    /// # Errors
    ///
    /// `ETIMEDOUT` after the time; `ECANCELED` and the like.
    fn until_there(&mut self, cx: CurrentTask, fd: RawFd) -> Result<(), Errno> {
        loop {
            // (To ask makes the kernel take in what has arrived.)
            let ready = poll_now(fd, libc::POLLIN);
            if ready != 0 || !self.told && input(fd)? >= self.bytes {
                return Ok(());
            }
            self.waited = true;
            match self.told {
                true => park_until_ready(cx, fd, Direction::Read, self.deadline)?,
                false => self.backoff.pause(cx, self.deadline)?,
            }
        }
    }
}
