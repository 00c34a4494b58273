//! The rows of the hooks' table about waits for signals. The signals are sent to the
//! thread that waits, by another thread or by another coroutine of it.

use std::sync::atomic::{AtomicI32, Ordering};

use libc::{c_int, siginfo_t, sigset_t, timespec};

use crate::hook_common::{On, Started, in_coroutines, said, same};

fn set_of(signals: &[c_int]) -> sigset_t {
    // SAFETY: zeros are an empty set; a set of our own.
    unsafe {
        let mut set: sigset_t = std::mem::zeroed();
        for &signal in signals {
            libc::sigaddset(&mut set, signal);
        }
        set
    }
}

fn block(signal: c_int) {
    // SAFETY: a valid set.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set_of(&[signal]), std::ptr::null_mut()) };
}

/// Somebody else sends the calling thread a signal.
fn sent(on: On, signal: c_int) -> Started<()> {
    // SAFETY: no pointers; a thread that lives.
    unsafe {
        let (process, thread) = (libc::getpid(), libc::syscall(libc::SYS_gettid));
        on.go(move || {
            libc::syscall(libc::SYS_tgkill, process, thread, signal);
        })
    }
}

#[test]
fn signals_that_are_waited_for() {
    same(|on| {
        let signal = libc::SIGRTMIN() + 1;
        block(signal);
        let (set, mut number) = (set_of(&[signal]), 0);
        // SAFETY: zeros are a valid one.
        let mut info: siginfo_t = unsafe { std::mem::zeroed() };
        let mut out = Vec::new();
        // SAFETY: sets and places that live across the calls.
        unsafe {
            let sender = sent(on, signal);
            out.push((
                Ok(libc::sigwait(&set, &mut number) as usize),
                number == signal,
            ));
            sender.join();
            let sender = sent(on, signal);
            let found = said(libc::sigwaitinfo(&set, &mut info) as isize);
            out.push((
                found,
                (info.si_signo, info.si_code) == (signal, libc::SI_USER),
            ));
            sender.join();
            let time = |tv_sec, tv_nsec| timespec { tv_sec, tv_nsec };
            let sender = sent(on, signal);
            let none = std::ptr::null_mut();
            out.push((
                said(libc::sigtimedwait(&set, none, &time(60, 0)) as isize),
                true,
            ));
            sender.join();
            for short in [time(0, 0), time(0, 30_000_000), time(0, -1), time(-1, 0)] {
                out.push((said(libc::sigtimedwait(&set, none, &short) as isize), true));
            }
        }
        out
    });
}

#[test]
fn a_handler_that_a_mask_lets_run() {
    static RUN: AtomicI32 = AtomicI32::new(0);
    extern "C" fn handler(_: c_int) {
        RUN.fetch_add(1, Ordering::SeqCst);
    }
    same(|on| {
        let signal = libc::SIGRTMIN() + 2;
        block(signal);
        // SAFETY: a handler that does what a handler may; sets that live.
        unsafe {
            libc::signal(signal, handler as *const () as usize);
            let before = RUN.load(Ordering::SeqCst);
            let sender = sent(on, signal);
            let answer = said(libc::sigsuspend(&set_of(&[])) as isize);
            sender.join();
            let mut now = set_of(&[]);
            libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), &mut now);
            let blocked = libc::sigismember(&now, signal);
            (answer, RUN.load(Ordering::SeqCst) - before, blocked)
        }
    });
}

#[test]
fn a_cancelled_wait_for_a_signal_ends() {
    in_coroutines(|_| {
        let waits = crore::spawn(|| {
            let mut number = 0;
            // SAFETY: a set and a place.
            unsafe { libc::sigwait(&set_of(&[libc::SIGRTMIN() + 3]), &mut number) }
        });
        crore::yield_now();
        waits.cancel();
        assert_eq!(waits.join().unwrap(), libc::ECANCELED);
    });
}
