//! Waits for signals: `sigwait`, `sigwaitinfo`, `sigtimedwait`, `sigsuspend`, `pause`. The
//! worker's thread asks, whose signals they are, again up to every 10 ms.
//!
//! `sigsuspend` and `pause` wait for a handler to have run: in a thread that is a coroutine,
//! for one that interrupts it (`hook/threads/to_process.rs`). In others, of a signal that
//! was blocked
//! until the mask let it in the kernel says so. Others come at any time, to any thread:
//! the program's handlers are counted (`sys/handlers.rs`). In statically linked programs
//! they are not, and where the mask lets nothing in that was blocked the call is libc's,
//! and stops the thread.

use std::ffi::c_int;
use std::time::Duration;

use libc::{siginfo_t, sigset_t, timespec};

use crate::hook::libc::hook;
use crate::hook::poll::{let_signals_in, lets_signals_in};
#[cfg(not(target_feature = "crt-static"))]
use crate::hook::process::exit::wait_if_ending;
use crate::hook::wait::backoff::Backoff;
use crate::hook::wait::call::{cancellable, code, in_coroutine};
use crate::hook::wait::clock::{self, after};
use crate::hook::wait::interrupt::{self, Verdict};
use crate::sched::CurrentTask;
use crate::sys::handlers;
use crate::sys::syscall::{Answer, Errno, KERNEL_SIGSET_BYTES, errno, set_errno};

/// Long enough: then it is looked again.
const FAR: Duration = Duration::from_secs(1 << 30);

/// Waits for one of the signals, for as long as `time` says.
///
/// # Safety
///
/// - As for `sigtimedwait`.
unsafe fn wait_for(
    cx: CurrentTask,
    set: *const sigset_t,
    info: *mut siginfo_t,
    time: *const timespec,
) -> Answer {
    // SAFETY: the caller's time.
    let deadline = unsafe { clock::limit(time) }?.map(after);
    // Libc's own, which puts right what the kernel says of signals by `tgkill`.
    // SAFETY: the caller's set and place, a live time.
    let ask = || match unsafe { pending(set, info) } {
        Some(signal) => Ok(Some(signal)),
        // SAFETY: as above.
        None => match unsafe { sigtimedwait::next(set, info, &raw const clock::ZERO) } {
            -1 if errno() == libc::EAGAIN => Ok(None),
            -1 => Err(errno()),
            signal => Ok(Some(signal as usize)),
        },
    };
    Backoff::unrestarted()
        .until_deadline(cx, deadline, ask)
        .map_err(late)
}

/// One of the signals that other threads have sent to this one, a coroutine that the
/// kernel does not know as a thread.
///
/// # Safety
///
/// - As for `sigtimedwait`.
unsafe fn pending(set: *const sigset_t, info: *mut siginfo_t) -> Option<usize> {
    #[cfg(all(
        feature = "futex",
        target_env = "gnu",
        not(target_feature = "crt-static")
    ))]
    {
        let thread = crate::hook::threads::Thread::current()?;
        // SAFETY: the caller's set, whose first word has the kernel's signals.
        let sent = thread.take_pending(unsafe { set.cast::<u64>().read() })?;
        // SAFETY: the caller's place, or null.
        if let Some(info) = unsafe { info.as_mut() } {
            *info = sent.info();
        }
        Some(sent.signal as usize)
    }
    #[cfg(not(all(
        feature = "futex",
        target_env = "gnu",
        not(target_feature = "crt-static")
    )))]
    {
        let _ = (set, info);
        None
    }
}

/// What these calls say when time is over.
fn late(code: Errno) -> Errno {
    if code == libc::ETIMEDOUT {
        libc::EAGAIN
    } else {
        code
    }
}

hook!(
    next_or(sys!(
        SYS_rt_sigtimedwait,
        set,
        info,
        time,
        KERNEL_SIGSET_BYTES
    )),
    Some(cx) = in_coroutine(),
    unsafe extern "C-unwind" fn sigtimedwait(
        set: *const sigset_t,
        info: *mut siginfo_t,
        time: *const timespec,
    ) -> c_int {
        // SAFETY: the caller's arguments.
        cancellable(cx, || unsafe { wait_for(cx, set, info, time) })
    }
);

hook!(
    next_or(sys!(SYS_rt_sigtimedwait, set, info, 0, KERNEL_SIGSET_BYTES)),
    Some(cx) = in_coroutine(),
    unsafe extern "C-unwind" fn sigwaitinfo(set: *const sigset_t, info: *mut siginfo_t) -> c_int {
        // SAFETY: the caller's arguments.
        cancellable(cx, || unsafe { wait_for(cx, set, info, std::ptr::null()) })
    }
);

/// `sigwait` without libc.
///
/// # Safety
///
/// - As for `sigwait`.
unsafe fn sigwait_without_libc(set: *const sigset_t, signal: *mut c_int) -> c_int {
    // SAFETY: the caller's arguments.
    match unsafe { sigwaitinfo(set, std::ptr::null_mut()) } {
        -1 => errno(),
        number => {
            // SAFETY: the caller's place.
            unsafe { signal.write(number) };
            0
        }
    }
}

hook!(
    next_or(sigwait_without_libc(set, signal)),
    Some(_) = in_coroutine(),
    /// Returns an error number, and leaves errno alone.
    unsafe extern "C-unwind" fn sigwait(set: *const sigset_t, signal: *mut c_int) -> c_int {
        let saved = errno();
        // SAFETY: the caller's arguments.
        let result = unsafe { sigwait_without_libc(set, signal) };
        set_errno(saved);
        result
    }
);

/// Waits until a handler of the program's has run in the calling thread, which is a
/// coroutine.
fn until_interrupted(cx: CurrentTask) -> Answer {
    loop {
        if let Err(libc::EINTR) = cx.sleep_until(after(FAR)).map_err(code) {
            if interrupt::settle() != Verdict::Nothing {
                return Err(libc::EINTR);
            }
        } else {
            cx.check().map_err(code)?;
        }
    }
}

/// Waits until a handler of the program's has run, on whichever thread, or `ask` fails.
fn until_handled(cx: CurrentTask, mut ask: impl FnMut() -> Result<(), Errno>) -> Answer {
    let before = handlers::count();
    Backoff::unrestarted().until(cx, || {
        ask()?;
        if handlers::count() == before {
            Ok(None)
        } else {
            Err(libc::EINTR)
        }
    })
}

/// Whether it can be told that a handler has run while the mask holds.
///
/// # Safety
///
/// - `mask` is null or valid.
unsafe fn is_told_of_handlers(mask: *const sigset_t) -> bool {
    let counted = cfg!(not(target_feature = "crt-static")) && !mask.is_null();
    // SAFETY: the caller's mask.
    counted || unsafe { lets_signals_in(mask) }
}

hook!(
    next_or(sys!(SYS_rt_sigsuspend, mask, KERNEL_SIGSET_BYTES)),
    // SAFETY: the caller's mask.
    Some(cx) = in_coroutine().filter(|_| unsafe { is_told_of_handlers(mask) }),
    unsafe extern "C-unwind" fn sigsuspend(mask: *const sigset_t) -> c_int {
        cancellable(cx, || {
            let wait = |mask: *const sigset_t| match mask.is_null() {
                true => until_interrupted(cx),
                // SAFETY: the caller's mask.
                false => until_handled(cx, || unsafe { let_signals_in(mask) }),
            };
            // SAFETY: as above.
            unsafe { interrupt::with_mask(mask, wait) }
        })
    }
);

#[cfg(not(target_feature = "crt-static"))]
hook!(
    next_or(sys!(SYS_ppoll, 0, 0, 0, 0, 0)),
    Some(cx) = in_coroutine(),
    unsafe extern "C-unwind" fn pause() -> c_int {
        wait_if_ending(cx);
        cancellable(cx, || match interrupt::is_thread() {
            true => until_interrupted(cx),
            false => until_handled(cx, || Ok(())),
        })
    }
);
