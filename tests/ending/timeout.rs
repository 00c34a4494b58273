//! The promise: a time limit ends any wait inside it, ours or a stranger's.
// Much of it waits in std::net and std::thread::sleep.
#![cfg(feature = "hook")]

use std::future::pending;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixStream;
use std::panic::{catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use crore::sync::{Barrier, Condvar, Mutex, Notify, OnceCell, RwLock, Semaphore, channel};
use crore::{Elapsed, timeout, timeout_at};

use crate::common::{in_child, stderr};

const SHORT: Duration = Duration::from_millis(5);
const LONG: Duration = Duration::from_secs(3600);

/// `wait` would last for ever; it is ended, in time and more than once.
fn ends(wait: impl Fn()) {
    for _ in 0..3 {
        let start = Instant::now();
        assert!(timeout(SHORT, &wait).is_err());
        assert!(start.elapsed() >= SHORT);
    }
    assert_eq!(crore::deadline(), None, "nothing is left of it");
}

#[test]
fn our_own_waits_unwind_and_what_they_waited_for_is_as_before() {
    crore::run(|| {
        ends(crore::park);
        ends(|| crore::park_timeout(LONG));
        ends(|| crore::sleep(LONG));
        ends(|| crore::block_on(pending()));
        ends(|| {
            loop {
                crore::yield_now();
            }
        });

        let child = crore::spawn(crore::park);
        let child = std::cell::RefCell::new(Some(child));
        let unpark = child.borrow().as_ref().unwrap().coroutine();
        assert!(timeout(SHORT, || child.take().unwrap().join()).is_err());
        unpark.unpark();

        let mutex = Mutex::new(1);
        let held = mutex.lock().unwrap();
        ends(|| drop(mutex.lock()));
        drop(held);
        assert_eq!(*mutex.try_lock().unwrap(), 1, "neither held nor poisoned");

        let lock = RwLock::new(1);
        let held = lock.read().unwrap();
        ends(|| drop(lock.write()));
        assert_eq!(
            *lock.try_read().unwrap(),
            1,
            "no writer is left in the queue"
        );
        drop(held);
        let held = lock.write().unwrap();
        ends(|| drop(lock.read()));
        drop(held);
        assert!(lock.try_write().is_ok());

        let condvar = Condvar::new();
        ends(|| drop(condvar.wait(mutex.lock().unwrap_or_else(|e| e.into_inner()))));
        assert!(mutex.try_lock().is_ok());

        let semaphore = Semaphore::new(1);
        let permit = semaphore.acquire(1).unwrap();
        ends(|| drop(semaphore.acquire(1)));
        drop(permit);
        assert_eq!(semaphore.available_permits(), 1);

        let notify = Notify::new();
        ends(|| notify.wait());
        notify.notify_one();
        assert!(
            notify.wait_timeout(Duration::ZERO),
            "the notification went to nobody"
        );

        let barrier = Barrier::new(2);
        ends(|| _ = barrier.wait());

        let cell = OnceCell::new();
        ends(|| _ = cell.get_or_init(|| crore::sleep(LONG)));
        assert_eq!(cell.get_or_init(|| ()), &(), "it can still be initialised");

        let (sender, receiver) = channel::bounded(1);
        ends(|| _ = receiver.recv());
        sender.send(1).unwrap();
        ends(|| _ = sender.send(2));
        assert_eq!(receiver.recv(), Ok(1), "and no 2 was sent");
        assert!(receiver.try_recv().is_err());

        let (sender, receiver) = channel::rendezvous::<u8>();
        ends(|| _ = sender.send(1));
        ends(|| _ = receiver.recv());
        assert!(receiver.try_recv().is_err());
    })
    .unwrap();
}

#[test]
fn a_barrier_counts_only_those_who_still_wait() {
    crore::run(|| {
        let barrier = Barrier::new(2);
        assert!(timeout(SHORT, || barrier.wait()).is_err());
        crore::scope(|s| {
            let first = s.spawn(|| barrier.wait());
            crore::yield_now();
            assert!(!first.is_finished(), "one of two, not two of two");
            barrier.wait();
        });
    })
    .unwrap();
}

#[test]
fn hooked_calls_fail_and_their_descriptors_go_on() {
    crore::run(|| {
        let (mut here, mut there) = UnixStream::pair().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut byte = [0];
        for _ in 0..3 {
            let start = Instant::now();
            let kinds = std::cell::RefCell::new(Vec::new());
            let result = timeout(SHORT, || {
                let mut kinds = kinds.borrow_mut();
                kinds.push(here.read(&mut byte).unwrap_err().kind());
                // All later calls too, ready or not, and at once.
                kinds.push(listener.accept().unwrap_err().kind());
                kinds.push(socket.recv_from(&mut byte).unwrap_err().kind());
                kinds.push(here.write(b"x").unwrap_err().kind());
                std::thread::sleep(LONG);
            });
            assert_eq!(
                result,
                Err::<(), _>(timeout(Duration::ZERO, crore::park).unwrap_err())
            );
            assert_eq!(kinds.into_inner(), [ErrorKind::TimedOut; 4]);
            assert!(start.elapsed() >= SHORT);
        }
        there.write_all(b"y").unwrap();
        assert_eq!(here.read(&mut byte).unwrap(), 1);
        assert_eq!(byte, *b"y");
        here.write_all(b"z").unwrap();
        assert_eq!(there.read(&mut byte).unwrap(), 1);
        assert_eq!(byte, *b"z", "what was refused was not written");
    })
    .unwrap();
}

#[test]
fn a_stream_that_is_always_ready_ends_too() {
    crore::run(|| {
        let mut zero = std::io::repeat(0);
        let (mut here, mut there) = UnixStream::pair().unwrap();
        let error = std::cell::Cell::new(None);
        let result = timeout(SHORT, || {
            loop {
                let mut bytes = [0; 1000];
                zero.read_exact(&mut bytes).unwrap();
                let moved = here
                    .write_all(&bytes)
                    .and_then(|()| there.read_exact(&mut bytes));
                if let Err(failed) = moved {
                    return error.set(Some(failed.kind()));
                }
            }
        });
        assert!(result.is_err());
        assert_eq!(error.get(), Some(ErrorKind::TimedOut));
    })
    .unwrap();
}

#[test]
fn a_blocked_poll_ends() {
    crore::run(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut here = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut entry = libc::pollfd {
            fd: std::os::fd::AsRawFd::as_raw_fd(&here),
            events: libc::POLLIN,
            revents: 0,
        };
        for limit in [-1, 3_600_000] {
            let error = std::cell::Cell::new(None);
            let result = timeout(SHORT, || {
                // It has no error for this: the call that follows has.
                // SAFETY: one entry.
                let polled = unsafe { libc::poll(&raw mut entry, 1, limit) };
                assert_eq!((polled, entry.revents), (1, libc::POLLIN));
                error.set(here.read(&mut [0]).unwrap_err().raw_os_error());
            });
            assert!(result.is_err());
            assert_eq!(error.get(), Some(libc::ETIMEDOUT));
        }
    })
    .unwrap();
}

#[test]
fn the_users_own_limits_hold_and_report_in_their_own_way() {
    crore::run(|| {
        let (mut here, _there) = UnixStream::pair().unwrap();
        let mut byte = [0];
        here.set_read_timeout(Some(SHORT)).unwrap();
        let start = Instant::now();
        let kind = timeout(LONG, || here.read(&mut byte).unwrap_err().kind());
        assert_eq!(kind, Ok(ErrorKind::WouldBlock));
        assert!((SHORT..LONG).contains(&start.elapsed()));
        here.set_read_timeout(Some(LONG)).unwrap();
        let kind = std::cell::Cell::new(None);
        let result = timeout(SHORT, || {
            kind.set(Some(here.read(&mut byte).unwrap_err().kind()))
        });
        assert!(result.is_err());
        assert_eq!(kind.get(), Some(ErrorKind::TimedOut));
        // Sleeps end by whatever comes first.
        assert_eq!(timeout(LONG, || crore::sleep(SHORT)), Ok(()));
        assert_eq!(timeout(LONG, || std::thread::sleep(SHORT)), Ok(()));
        assert!(timeout(SHORT, || std::thread::sleep(LONG)).is_err());
        let notify = Notify::new();
        assert_eq!(timeout(LONG, || notify.wait_timeout(SHORT)), Ok(false));
    })
    .unwrap();
}

#[test]
fn the_limit_that_ends_first_is_felt_first() {
    crore::run(|| {
        // The inner one.
        let start = Instant::now();
        let inner = timeout(LONG, || timeout(SHORT, crore::park).is_err());
        assert_eq!(inner, Ok(true));
        assert!((SHORT..LONG).contains(&start.elapsed()));
        // The outer one, through the inner.
        let reached = std::cell::Cell::new(false);
        let outer = timeout(SHORT, || {
            let _: Result<(), Elapsed> = timeout(LONG, crore::park);
            reached.set(true);
        });
        assert!(outer.is_err() && !reached.get());
        // After the inner one the outer still holds.
        let rounds = std::cell::Cell::new(0);
        let outer = timeout(10 * SHORT, || {
            loop {
                assert!(timeout(SHORT, crore::park).is_err());
                rounds.set(rounds.get() + 1);
            }
        });
        assert!(outer.is_err());
        assert!((1..=10).contains(&rounds.get()), "{} rounds", rounds.get());
        // Three deep, the middle one first.
        let middle = timeout(LONG, || {
            timeout(SHORT, || timeout(LONG, crore::park)).is_err()
        });
        assert_eq!(middle, Ok(true));
        // Equal ones: the outer's.
        let end = Instant::now() + SHORT;
        assert!(timeout_at(end, || timeout_at(end, crore::park).is_err()).is_err());
    })
    .unwrap();
}

#[test]
fn values_that_needed_no_failed_wait_are_kept() {
    crore::run(|| {
        let past = Instant::now();
        assert_eq!(timeout_at(past, || 1), Ok(1));
        assert_eq!(timeout(Duration::MAX, || 2), Ok(2));
        let late = timeout(Duration::from_millis(1), || {
            let start = Instant::now();
            while start.elapsed() < SHORT {}
            assert!(crore::deadline().unwrap() < Instant::now());
            3
        });
        assert_eq!(late, Ok(3));
        // Made of a failure.
        let failed = timeout_at(past, || catch_unwind(crore::park).is_err());
        assert!(failed.is_err());
        // Any other unwind goes through.
        let payload = catch_unwind(|| timeout(LONG, || resume_unwind(Box::new("mine"))));
        let payload = payload.map(|_: Result<(), _>| ()).unwrap_err();
        assert_eq!(*payload.downcast::<&str>().unwrap(), "mine");
    })
    .unwrap();
}

#[test]
fn one_that_swallows_the_unwind_meets_it_again() {
    crore::run(|| {
        let caught = std::cell::Cell::new(0);
        let result = timeout(SHORT, || {
            while caught.get() < 100 {
                assert!(catch_unwind(crore::park).is_err());
                caught.set(caught.get() + 1);
            }
        });
        assert!(result.is_err());
        assert_eq!(caught.get(), 100);
        crore::sleep(Duration::ZERO); // all is well outside
    })
    .unwrap();
}

#[test]
fn a_limit_that_is_ignored_becomes_a_cancellation() {
    let output = in_child("a_limit_that_is_ignored_becomes_a_cancellation", || {
        crore::run(|| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let deaf = crore::Builder::new().name("deaf".into()).spawn(move || {
                _ = timeout(SHORT, || {
                    loop {
                        let error = listener.accept().unwrap_err();
                        if error.raw_os_error() == Some(libc::ECANCELED) {
                            break;
                        }
                    }
                });
                crore::park();
            });
            assert!(deaf.unwrap().join().unwrap_err().is_cancelled());
        })
        .unwrap();
    });
    let text = stderr(&output);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("coroutine 'deaf'"), "{text}");
    assert!(
        text.contains("a timeout had failed 10000 of its waits; it is cancelled"),
        "{text}"
    );
}

#[test]
fn a_cancellation_goes_through_limits() {
    crore::run(|| {
        let child = crore::spawn(|| _ = timeout(LONG, || timeout(LONG, crore::park)));
        crore::yield_now();
        child.cancel();
        assert!(child.join().unwrap_err().is_cancelled());
    })
    .unwrap();
}

#[test]
fn limits_of_others_are_not_felt() {
    crore::run(|| {
        let other = crore::spawn(|| crore::sleep(4 * SHORT));
        let inside = timeout(SHORT, || {
            let born_inside = crore::spawn(|| crore::sleep(4 * SHORT));
            crore::yield_now();
            assert!(catch_unwind(crore::park).is_err());
            born_inside
        });
        assert!(inside.is_err());
        assert!(other.join().is_ok());
    })
    .unwrap();
}

#[test]
fn shared_coroutines_have_limits_too() {
    crore::run(|| {
        let handles: Vec<_> = (0..100)
            .map(|i| {
                // SAFETY: the closure hands out no reference to its frames.
                unsafe {
                    crore::spawn_shared(move || {
                        let end = Duration::from_millis(i % 7);
                        timeout(LONG, || timeout(end, crore::park).is_err())
                    })
                }
            })
            .collect();
        for handle in handles {
            assert_eq!(handle.join().unwrap(), Ok(true));
        }
    })
    .unwrap();
}

#[test]
fn outside_a_coroutine_it_says_so() {
    let payload = catch_unwind(|| timeout(SHORT, || ())).unwrap_err();
    assert!(
        payload
            .downcast_ref::<&str>()
            .unwrap()
            .contains("outside a coroutine")
    );
    assert_eq!(crore::deadline(), None);
    assert!(!crore::is_cancelled());
}
