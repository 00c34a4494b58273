//! The promise: a signal handler that interrupts a coroutine may use what
//! POSIX lets handlers use, and is never suspended; who waits for signals by
//! a mask hears of them.
#![cfg(feature = "hook")]

use std::ffi::c_int;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

pub(crate) use crate::common::succeeds;

pub(crate) fn handle(signal: c_int, handler: extern "C" fn(c_int), flags: c_int) {
    // SAFETY: a handler that does what handlers may; zeros are valid.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = flags;
        assert_eq!(libc::sigaction(signal, &action, null_mut()), 0);
    }
}

static BELL: AtomicI32 = AtomicI32::new(-1);
static INSIDE: AtomicU32 = AtomicU32::new(0);
static OVERLAPS: AtomicU32 = AtomicU32::new(0);
static HANDLED: AtomicU32 = AtomicU32::new(0);

/// Rings, more often than a coroutine may without giving others their turn.
extern "C" fn ring(_: c_int) {
    OVERLAPS.fetch_add(INSIDE.fetch_add(1, Relaxed), Relaxed);
    for _ in 0..300 {
        // SAFETY: one byte.
        unsafe {
            let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
            libc::send(BELL.load(Relaxed), b"!".as_ptr().cast(), 1, flags);
        }
    }
    HANDLED.fetch_add(1, Relaxed);
    INSIDE.fetch_sub(1, Relaxed);
}

fn handlers_are_not_suspended(install: impl FnOnce()) {
    let (_bell, far) = UnixStream::pair().unwrap();
    BELL.store(far.as_raw_fd(), Relaxed);
    install();
    crore::run(|| {
        let all: Vec<_> = (0..10)
            .map(|_| {
                crore::spawn(|| {
                    // SAFETY: a handler is there.
                    unsafe { libc::raise(libc::SIGUSR1) };
                })
            })
            .collect();
        all.into_iter().for_each(|each| each.join().unwrap());
    })
    .unwrap();
    assert_eq!((HANDLED.load(Relaxed), OVERLAPS.load(Relaxed)), (10, 0));
}

#[test]
fn a_handler_on_the_signal_stack_is_not_suspended() {
    succeeds("a_handler_on_the_signal_stack_is_not_suspended", || {
        handlers_are_not_suspended(|| handle(libc::SIGUSR1, ring, ON_SIGNAL_STACK));
    });
}

const ON_SIGNAL_STACK: c_int = libc::SA_ONSTACK | libc::SA_NODEFER;

#[test]
fn a_handler_on_the_stack_that_it_interrupts_is_not_suspended() {
    let name = "a_handler_on_the_stack_that_it_interrupts_is_not_suspended";
    succeeds(name, || {
        handlers_are_not_suspended(|| handle(libc::SIGUSR1, ring, libc::SA_NODEFER));
    });
}

/// It is told by its stack.
#[test]
fn a_handler_that_was_installed_past_libc_is_not_suspended() {
    /// As the kernel has it: handler, flags, what returns from it, mask.
    type Action = [usize; 4];
    fn install() {
        let signal = libc::SIGUSR1;
        handle(signal, ring, ON_SIGNAL_STACK);
        let mut action: Action = [0; 4];
        // SAFETY: libc's own action but for the handler, of the same type; live places.
        unsafe {
            let (call, none) = (libc::SYS_rt_sigaction, null::<Action>());
            assert_eq!(
                libc::syscall(call, signal, none, &raw mut action, 8_usize),
                0
            );
            action[0] = ring as *const () as usize;
            assert_eq!(
                libc::syscall(call, signal, &raw const action, none, 8_usize),
                0
            );
        }
    }
    let name = "a_handler_that_was_installed_past_libc_is_not_suspended";
    succeeds(name, || handlers_are_not_suspended(install));
}

extern "C" fn note(_: c_int) {
    HANDLED.fetch_add(1, Relaxed);
}

/// Blocks a signal, has it sent soon, and calls `wait` with a mask that lets it
/// in: it must be interrupted.
fn hears_of_a_signal(wait: fn(*const libc::sigset_t) -> c_int) {
    handle(libc::SIGUSR1, note, 0);
    crore::run(move || {
        // SAFETY: live sets; the thread is our own.
        let (open, us) = unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            let mut before: libc::sigset_t = std::mem::zeroed();
            libc::sigaddset(&mut set, libc::SIGUSR1);
            libc::pthread_sigmask(libc::SIG_BLOCK, &set, &mut before);
            (before, libc::pthread_self())
        };
        crore::spawn(move || {
            crore::sleep(Duration::from_millis(5));
            // SAFETY: our own thread, alive.
            unsafe { libc::pthread_kill(us, libc::SIGUSR1) };
        });
        assert_eq!(wait(&open), -1);
        assert_eq!(
            std::io::Error::last_os_error().raw_os_error(),
            Some(libc::EINTR)
        );
        assert_eq!(HANDLED.load(Relaxed), 1);
    })
    .unwrap();
}

#[test]
fn ppoll_hears_of_signals_that_its_mask_lets_in() {
    succeeds("ppoll_hears_of_signals_that_its_mask_lets_in", || {
        // SAFETY: no entries, no limit, a live mask.
        hears_of_a_signal(|open| unsafe { libc::ppoll(null_mut(), 0, null(), open) });
    });
}

#[test]
fn pselect_hears_of_signals_that_its_mask_lets_in() {
    succeeds("pselect_hears_of_signals_that_its_mask_lets_in", || {
        hears_of_a_signal(|open| {
            let none = null_mut();
            // SAFETY: no sets, no limit, a live mask.
            unsafe { libc::pselect(0, none, none, none, null(), open) }
        });
    });
}

#[test]
fn epoll_pwait_hears_of_signals_that_its_mask_lets_in() {
    succeeds("epoll_pwait_hears_of_signals_that_its_mask_lets_in", || {
        hears_of_a_signal(|open| {
            // SAFETY: a live place for one event, and a live mask.
            unsafe {
                let epoll = libc::epoll_create1(0);
                let mut event: libc::epoll_event = std::mem::zeroed();
                libc::epoll_pwait(epoll, &mut event, 1, -1, open)
            }
        });
    });
}
