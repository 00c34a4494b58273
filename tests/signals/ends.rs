//! The promise: a handler may end a number, whatever it interrupts: `close` and
//! `dup2` stand in POSIX's list. Whoever waits for the number hears of it.
#![cfg(feature = "hook")]

use std::ffi::c_int;
use std::io::Read;
use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::thread::JoinHandleExt;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use crate::handlers::{handle, succeeds};

/// What the handler ends next.
static NUMBER: AtomicI32 = AtomicI32::new(-1);
/// A number that stays open, for `dup2`.
static SPARE: AtomicI32 = AtomicI32::new(-1);
static ENDED: AtomicU32 = AtomicU32::new(0);

/// Ends the number, in one way or the other.
extern "C" fn end(_: c_int) {
    let fd = NUMBER.swap(-1, SeqCst);
    if fd < 0 {
        return;
    }
    // SAFETY: the test's own numbers, which nobody else closes.
    unsafe {
        if ENDED.fetch_add(1, SeqCst) % 2 == 0 {
            libc::dup2(SPARE.load(SeqCst), fd);
        }
        libc::close(fd);
    }
}

fn prepare(signal: c_int) -> UnixStream {
    let (spare, far) = UnixStream::pair().unwrap();
    SPARE.store(spare.into_raw_fd(), SeqCst);
    handle(signal, end, libc::SA_RESTART);
    far
}

/// Sends this thread `SIGUSR1` after a time, and again and again until it is done with `f`.
fn interrupted<R>(every: Duration, f: impl FnOnce() -> R) -> R {
    let done = AtomicBool::new(false);
    // SAFETY: always fine.
    let us = unsafe { libc::pthread_self() };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(SeqCst) {
                std::thread::sleep(every);
                // SAFETY: the thread waits for this one.
                unsafe { libc::pthread_kill(us, libc::SIGUSR1) };
            }
        });
        let result = f();
        done.store(true, SeqCst);
        result
    })
}

/// A socket that the reactor knows, for the handler; and its peer.
fn known() -> UnixStream {
    let (mut near, far) = UnixStream::pair().unwrap();
    let _ = crore::timeout(Duration::from_micros(30), || near.read(&mut [0]));
    let unused = NUMBER.swap(near.into_raw_fd(), SeqCst);
    if unused >= 0 {
        // SAFETY: the handler did not get it.
        unsafe { libc::close(unused) };
    }
    far
}

#[test]
fn a_handler_may_close_what_an_idle_worker_watches() {
    succeeds("a_handler_may_close_what_an_idle_worker_watches", || {
        let _far = prepare(libc::SIGUSR1);
        // The worker is in its sleep by then.
        let said = interrupted(Duration::from_millis(50), || {
            crore::run(|| {
                let (near, _far) = UnixStream::pair().unwrap();
                NUMBER.store(near.as_raw_fd(), SeqCst);
                let read = (&near).read(&mut [0]);
                let _ = near.into_raw_fd();
                read.unwrap_err().raw_os_error()
            })
        });
        assert_eq!(said.unwrap(), Some(libc::EBADF));
    });
}

/// As often as can be, while coroutines wait, wake and are spawned.
#[test]
fn a_handler_may_close_whatever_a_worker_does() {
    succeeds("a_handler_may_close_whatever_a_worker_does", || {
        let _far = prepare(libc::SIGUSR1);
        let runtime = crore::Runtime::builder().workers(2).build().unwrap();
        interrupted(Duration::from_micros(20), || {
            let work = || {
                while ENDED.load(SeqCst) < 2_000 {
                    let _far = known();
                    crore::spawn(crore::yield_now).join().unwrap();
                }
            };
            runtime
                .run(move || {
                    let all: Vec<_> = (0..8).map(|_| crore::spawn(work)).collect();
                    all.into_iter().for_each(|each| each.join().unwrap());
                })
                .unwrap();
        });
    });
}

/// The plain thread holds the lock of a mailbox now and then.
#[test]
fn a_handler_may_close_on_a_thread_that_wakes_a_coroutine() {
    succeeds(
        "a_handler_may_close_on_a_thread_that_wakes_a_coroutine",
        || {
            let _far = prepare(libc::SIGUSR1);
            static STOP: AtomicBool = AtomicBool::new(false);
            crore::run(|| {
                let parked = crore::spawn(|| {
                    while !STOP.load(SeqCst) {
                        crore::park();
                    }
                });
                let one = parked.coroutine();
                let waker = std::thread::spawn(move || {
                    while !STOP.load(SeqCst) {
                        one.unpark();
                    }
                });
                for _ in 0..300 {
                    let _far = known();
                    // SAFETY: the thread lives until it is told to stop.
                    unsafe { libc::pthread_kill(waker.as_pthread_t(), libc::SIGUSR1) };
                    while NUMBER.load(SeqCst) >= 0 {
                        std::thread::yield_now();
                    }
                }
                STOP.store(true, SeqCst);
                parked.coroutine().unpark();
                parked.join().unwrap();
                waker.join().unwrap();
            })
            .unwrap();
        },
    );
}
