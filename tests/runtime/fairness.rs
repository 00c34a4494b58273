//! The promise: a coroutine that waits for nothing, again and again, lets the
//! others run; and those who wait for each other on helper threads get on.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crore::sync::{Condvar, Mutex, Semaphore, channel};

/// More than anybody does between two turns of the others.
const MANY: u32 = 10_000;

/// How often `call` is done before another coroutine runs.
fn calls_of_a_turn(mut call: impl FnMut()) -> usize {
    let calls = crore::run(|| {
        let ran = Rc::new(Cell::new(false));
        let theirs = Rc::clone(&ran);
        let other = crore::spawn_local(move || theirs.set(true));
        let rounds = (0..MANY).take_while(|_| {
            call();
            !ran.get()
        });
        let calls = rounds.count();
        other.join().unwrap();
        calls
    });
    calls.unwrap()
}

/// Whether another coroutine runs while `wait` is done over and over.
fn gives_way(wait: impl FnMut()) {
    assert!(calls_of_a_turn(wait) < MANY as usize, "nobody else ran");
}

#[test]
fn timed_waits_that_are_over_give_way() {
    let moment = Duration::from_nanos(1);
    let past = Instant::now();
    gives_way(|| crore::sleep(Duration::ZERO));
    gives_way(|| crore::sleep(moment));
    gives_way(|| crore::sleep_until(past));
    gives_way(|| crore::park_timeout(Duration::ZERO));
    gives_way(|| crore::park_timeout(moment));
    gives_way(|| assert!(crore::timeout(Duration::ZERO, crore::yield_now).is_err()));
    let (_sender, receiver) = channel::bounded::<u8>(1);
    gives_way(|| assert!(receiver.recv_timeout(Duration::ZERO).is_err()));
    let (full, _receiver) = channel::rendezvous::<u8>();
    gives_way(|| assert!(full.send_timeout(1, moment).is_err()));
    let none = Semaphore::new(0);
    gives_way(|| assert!(none.acquire_timeout(1, Duration::ZERO).is_err()));
    let mutex = Mutex::new(());
    let condvar = Condvar::new();
    gives_way(|| {
        let guard = mutex.lock().unwrap();
        drop(condvar.wait_timeout(guard, Duration::ZERO).unwrap());
    });
}

/// A turn is so much work, not so many calls.
#[cfg(feature = "hook")]
#[test]
fn calls_that_move_more_end_a_turn_sooner() {
    use std::fs::File;
    use std::io::Read;

    let mut zeros = File::open("/dev/zero").unwrap();
    let mut buffer = vec![0; 64 << 10];
    let mut calls = |bytes| {
        let place = &mut buffer[..bytes];
        calls_of_a_turn(|| zeros.read_exact(place).unwrap())
    };
    let (few, less_than_a_page, many) = (calls(1), calls(4_000), calls(64 << 10));
    assert!(less_than_a_page > few / 2, "{few} {less_than_a_page}");
    assert!(many < few / 4, "{few} {many}");
}

#[cfg(feature = "hook")]
#[test]
fn hooked_waits_that_are_over_give_way() {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    let moment = Duration::from_nanos(1);
    // (A sleep of no time at all never leaves std.)
    gives_way(|| std::thread::sleep(moment));
    let (mut near, _far) = UnixStream::pair().unwrap();
    near.set_read_timeout(Some(Duration::from_micros(1)))
        .unwrap();
    gives_way(|| assert!(near.read(&mut [0]).is_err()));
    gives_way(|| {
        // SAFETY: no entries.
        assert_eq!(unsafe { libc::poll(std::ptr::null_mut(), 0, 0) }, 0);
    });
    gives_way(|| {
        // SAFETY: no sets, a time that is zero.
        let none = unsafe {
            let mut zero = libc::timeval {
                tv_sec: 0,
                tv_usec: 0,
            };
            let null = std::ptr::null_mut();
            libc::select(0, null, null, null, &mut zero)
        };
        assert_eq!(none, 0);
    });
}

#[cfg(feature = "futex")]
#[test]
fn locks_of_std_and_c_that_are_late_give_way() {
    let pair = (std::sync::Mutex::new(()), std::sync::Condvar::new());
    gives_way(|| {
        let guard = pair.0.lock().unwrap();
        let (guard, late) = pair.1.wait_timeout(guard, Duration::ZERO).unwrap();
        drop(guard);
        assert!(late.timed_out());
    });
    let long_ago = libc::timespec {
        tv_sec: 1,
        tv_nsec: 0,
    };
    // SAFETY: a mutex and a condition variable that stay where they are.
    unsafe {
        let mut mutex = libc::PTHREAD_MUTEX_INITIALIZER;
        let mut condition = libc::PTHREAD_COND_INITIALIZER;
        let (mutex, condition) = (&raw mut mutex, &raw mut condition);
        gives_way(|| {
            assert_eq!(libc::pthread_mutex_lock(mutex), 0);
            let late = libc::pthread_cond_timedwait(condition, mutex, &long_ago);
            assert_eq!(late, libc::ETIMEDOUT);
            assert_eq!(libc::pthread_mutex_unlock(mutex), 0);
        });
    }
}

/// Closures that fill all helper threads wait for a coroutine that waits for a
/// hook's own work.
#[cfg(feature = "hook")]
#[test]
fn closures_cannot_use_up_the_hooks_threads() {
    use crate::common::succeeds;
    use std::net::ToSocketAddrs;
    use std::sync::mpsc;

    succeeds("closures_cannot_use_up_the_hooks_threads", || {
        crore::blocking::set_max_threads(2);
        crore::run(|| {
            let closures: Vec<_> = (0..4)
                .map(|_| {
                    let (sender, receiver) = mpsc::channel();
                    let closure = crore::spawn_blocking(move || receiver.recv().unwrap());
                    crore::spawn(move || {
                        let found = "localhost:80".to_socket_addrs().unwrap().count();
                        sender.send(found).unwrap();
                    });
                    closure
                })
                .collect();
            assert!(
                closures
                    .into_iter()
                    .all(|closure| closure.join().unwrap() > 0)
            );
        })
        .unwrap();
    });
}
