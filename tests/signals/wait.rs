//! The promise: signals can be waited for, and nobody else is disturbed.

use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use crore::CoroutineState;
use crore::signal::{self, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};

use crate::common::{in_child, succeeds};

fn raise(signal: i32) {
    // SAFETY: no pointers.
    assert_eq!(unsafe { libc::kill(libc::getpid(), signal) }, 0);
}

#[test]
fn all_who_wait_get_it_and_others_run_on() {
    succeeds("all_who_wait_get_it_and_others_run_on", || {
        let runtime = crore::Runtime::builder().workers(2).build().unwrap();
        runtime
            .run(|| {
                // From here on none of them ends the process.
                let all = [SIGINT, SIGTERM, SIGUSR1, SIGUSR2];
                assert!(crore::timeout(Duration::ZERO, || signal::wait(&all)).is_err());
                let thread = std::thread::spawn(|| signal::wait(&[SIGUSR2]).unwrap());
                let both: Vec<_> = (0..4)
                    .map(|_| crore::spawn(|| signal::wait(&[SIGINT, SIGTERM]).unwrap()))
                    .collect();
                let other = crore::spawn(|| signal::wait(&[SIGUSR1]).unwrap());
                let parked = || {
                    let all = crore::Handle::current().unwrap().dump();
                    all.iter()
                        .filter(|info| info.state() == CoroutineState::Parked)
                        .count()
                };
                while parked() < 5 {
                    crore::sleep(Duration::from_millis(1));
                }
                raise(SIGTERM);
                for waiter in both {
                    assert_eq!(waiter.join().unwrap(), SIGTERM);
                }
                assert!(!other.is_finished());
                raise(SIGUSR1);
                assert_eq!(other.join().unwrap(), SIGUSR1);
                raise(SIGUSR2);
                assert_eq!(thread.join().unwrap(), SIGUSR2);
            })
            .unwrap();
    });
}

#[test]
fn what_comes_between_two_waits_is_kept() {
    succeeds("what_comes_between_two_waits_is_kept", || {
        crore::run(|| {
            let first = crore::spawn(|| signal::wait(&[SIGUSR1, SIGUSR2]).unwrap());
            crore::yield_now();
            raise(SIGUSR1);
            assert_eq!(first.join().unwrap(), SIGUSR1);
            raise(SIGUSR1);
            assert_eq!(signal::wait(&[SIGUSR1]).unwrap(), SIGUSR1);
            raise(SIGUSR2);
            assert_eq!(signal::wait(&[SIGUSR1, SIGUSR2]).unwrap(), SIGUSR2);
            // Whether two count as one depends on when the first was noted;
            // what is certain is that it ends, and gives the signal once.
            let wait = || signal::wait(&[SIGUSR2]);
            raise(SIGUSR2);
            raise(SIGUSR2);
            assert_eq!(wait().unwrap(), SIGUSR2);
            while crore::timeout(Duration::from_millis(5), wait).is_ok() {}
            // One that gave up left nothing behind.
            raise(SIGUSR2);
            assert_eq!(wait().unwrap(), SIGUSR2);
        })
        .unwrap();
    });
}

#[test]
fn an_earlier_handler_is_still_called() {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    extern "C" fn count(signal: libc::c_int) {
        CALLS.fetch_add(signal as u32, Relaxed);
    }
    succeeds("an_earlier_handler_is_still_called", || {
        // SAFETY: the handler adds to an atomic.
        unsafe { libc::signal(SIGUSR1, count as *const () as usize) };
        crore::run(|| {
            let waiter = crore::spawn(|| signal::wait(&[SIGUSR1]).unwrap());
            crore::yield_now();
            raise(SIGUSR1);
            waiter.join().unwrap();
        })
        .unwrap();
        // On whichever thread, and after those who wait have heard.
        while CALLS.load(Relaxed) == 0 {
            std::thread::yield_now();
        }
        assert_eq!(CALLS.load(Relaxed), SIGUSR1 as u32);
    });
}

#[test]
fn what_is_not_waited_for_keeps_its_default() {
    let output = in_child("what_is_not_waited_for_keeps_its_default", || {
        crore::run(|| {
            let waiter = crore::spawn(|| signal::wait(&[SIGUSR1]));
            crore::yield_now();
            raise(SIGTERM);
            let _ = waiter.join();
        })
        .unwrap();
    });
    assert_eq!(output.status.signal(), Some(SIGTERM));
}

#[test]
fn nonsense_is_refused() {
    for signals in [
        &[][..],
        &[0],
        &[-1],
        &[65],
        &[1000],
        &[libc::SIGKILL],
        &[libc::SIGSEGV],
    ] {
        // The second time, too.
        for _ in 0..2 {
            let error = signal::wait(signals).unwrap_err();
            let kind = error.kind();
            assert_eq!(kind, ErrorKind::InvalidInput, "{signals:?}: {error}");
        }
    }
}
