//! Signal relay: a handler that notes signals, and a thread that is told of them
//! (the self-pipe trick, with an eventfd).
//!
//! The handler sets a bit and writes to the eventfd, both allowed in handlers;
//! then it does what the action before it would have done, unless that was the
//! default. What the signal means is decided by the thread that waits, where
//! everything is allowed.

use std::ffi::{c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use super::fd::EventFd;
use super::handlers::{self, Info};
use super::signal::{Action, Former};
use super::syscall::trap;

/// Signals are 1 to 64.
const SIGNALS: usize = 64;

/// One bit for each signal that has arrived and was not read.
static ARRIVED: AtomicU64 = AtomicU64::new(0);
/// Written by the handler; one thread waits at it.
static NOTIFIER: OnceLock<EventFd> = OnceLock::new();
/// Its number, for the handler.
static NUMBER: AtomicI32 = AtomicI32::new(-1);
/// Those that are relayed.
static RELAYED: AtomicU64 = AtomicU64::new(0);
/// What each signal did before.
static BEFORE: [Former; SIGNALS + 1] = [const { Former::none() }; SIGNALS + 1];

/// The set with this signal alone.
pub(crate) fn bit(signal: c_int) -> u64 {
    1 << (signal - 1)
}

/// Makes the eventfd, unless it is there. One caller at a time.
///
/// # Errors
///
/// No descriptor is left.
pub(crate) fn prepare() -> io::Result<()> {
    if NOTIFIER.get().is_none() {
        let notifier = {
            let fresh = EventFd::new()?;
            NOTIFIER.get_or_init(|| fresh)
        };
        NUMBER.store(notifier.as_raw_fd(), Ordering::Release);
    }
    Ok(())
}

/// Whether there is the eventfd.
pub(crate) fn is_prepared() -> bool {
    NOTIFIER.get().is_some()
}

/// From now on `signal` is relayed; after [`prepare`]. One caller at a time.
///
/// # Errors
///
/// `InvalidInput` for what is no signal, can't be caught, or is a fault.
pub(crate) fn relay(signal: c_int) -> io::Result<()> {
    let faults = [
        libc::SIGSEGV,
        libc::SIGBUS,
        libc::SIGFPE,
        libc::SIGILL,
        libc::SIGTRAP,
    ];
    let known = usize::try_from(signal).is_ok_and(|n| (1..=SIGNALS).contains(&n));
    if !known || faults.contains(&signal) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("signal {signal} can't be waited for"),
        ));
    }
    if RELAYED.load(Ordering::Relaxed) & bit(signal) != 0 {
        return Ok(());
    }
    let action = Action::of(signal)?;
    let ours = action.restarting(arrived);
    // It may arrive at once.
    BEFORE[signal as usize].set(action);
    // SAFETY: `arrived` does only what a handler may, and is there for ever.
    unsafe { ours.install(signal)? };
    RELAYED.fetch_or(bit(signal), Ordering::Relaxed);
    Ok(())
}

/// Waits for signals and takes them. Blocks the thread, not for a coroutine.
pub(crate) fn take() -> u64 {
    NOTIFIER.get().expect("`prepare` came first").wait();
    ARRIVED.swap(0, Ordering::Acquire)
}

/// It may come on a thread of std's, whose signal stack has room for little more than
/// the processor's registers: see [`Former`].
unsafe extern "C" fn arrived(signal: c_int, info: *mut Info, context: *mut c_void) {
    note(signal);
    let handler = BEFORE[signal as usize].plain_handler();
    // SAFETY: the kernel's own arguments; it was installed before ours.
    unsafe {
        if handler != 0 {
            handlers::call(handler, signal, info, context);
        } else {
            hand_on(signal, info, context);
        }
    }
}

fn note(signal: c_int) {
    ARRIVED.fetch_or(bit(signal), Ordering::Release);
    // SAFETY: a live value of eight bytes, in eventfd's own call.
    unsafe { ring(NUMBER.load(Ordering::Acquire), &1_u64) };
}

/// To a handler that asks for more than to be called; the default is not done.
///
/// # Safety
///
/// - As [`Action::hand_on`].
unsafe fn hand_on(signal: c_int, info: *mut Info, context: *mut c_void) {
    let before = &BEFORE[signal as usize];
    if before.is_handler() {
        // SAFETY: forwarded.
        unsafe { before.hand_on(signal, info, context) };
    }
}

/// # Safety
///
/// - What is written may be written to the descriptor.
unsafe fn ring(notifier: RawFd, one: &u64) {
    let place = (one as *const u64).addr();
    // SAFETY: eight bytes that live; the rest is the caller's.
    unsafe { trap(libc::SYS_write, [notifier as usize, place, 8, 0, 0, 0]) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::{LEAST_HANDLER_ROOM, handler_bytes, in_child, note_context};

    fn send<const SIGNAL: c_int>() {
        // SAFETY: a handler is there.
        unsafe { libc::raise(SIGNAL) };
    }

    /// On whatever stack it comes, beside whatever the kernel puts there.
    #[test]
    fn the_handler_needs_little_stack() {
        let name = concat!(module_path!(), "::the_handler_needs_little_stack");
        let output = in_child(name, || {
            prepare().unwrap();
            let before = Action::of(libc::SIGUSR1).unwrap().replaced_by(note_context);
            // SAFETY: it does what handlers may.
            unsafe { before.install(libc::SIGUSR1) }.unwrap();
            relay(libc::SIGUSR1).unwrap();
            relay(libc::SIGUSR2).unwrap();
            let used = handler_bytes([send::<{ libc::SIGUSR1 }>, send::<{ libc::SIGUSR2 }>]);
            assert_eq!(take(), bit(libc::SIGUSR1) | bit(libc::SIGUSR2));
            assert!(
                used.iter().all(|&used| used < LEAST_HANDLER_ROOM),
                "{used:?}"
            );
        });
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}");
    }
}
