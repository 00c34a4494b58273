//! What a runtime's end, a fork and a refusal do to threads that are coroutines.

use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use crate::common::succeeds;
use crate::with_coroutines;

#[test]
fn a_thread_that_has_not_ended_is_cancelled_with_the_runtime() {
    let held = Arc::new(());
    let theirs = Arc::clone(&held);
    with_coroutines(1, move || {
        thread::spawn(move || {
            let _held = theirs;
            let (here, _there) = std::os::unix::net::UnixStream::pair().unwrap();
            // Fails once the runtime ends.
            let mut byte = [0];
            // SAFETY: a place of that length.
            let got = unsafe { libc::read(here.as_raw_fd(), byte.as_mut_ptr().cast(), 1) };
            assert_eq!(got, -1);
        });
        crore::yield_now();
    });
    assert_eq!(Arc::strong_count(&held), 1);
}

#[test]
fn threads_are_started_and_joined_by_the_thousand_without_a_trace() {
    static DONE: AtomicU32 = AtomicU32::new(0);
    with_coroutines(2, || {
        for _ in 0..50 {
            let threads: Vec<_> = (0..100)
                .map(|_| thread::spawn(|| DONE.fetch_add(1, Ordering::Relaxed)))
                .collect();
            threads.into_iter().for_each(|thread| drop(thread.join()));
        }
        // Detached ones, too.
        for _ in 0..1_000 {
            thread::spawn(|| DONE.fetch_add(1, Ordering::Relaxed));
        }
        while DONE.load(Ordering::Relaxed) < 6_000 {
            thread::sleep(Duration::from_millis(1));
        }
    });
}

#[test]
fn a_forked_child_starts_real_threads() {
    // In a process of its own: std takes a lock where a thread begins, which another test's
    // may have when it is forked.
    succeeds("a_forked_child_starts_real_threads", || {
        with_coroutines(1, || {
            thread::spawn(|| {
                // SAFETY: the child starts a thread, which it may as the parent's lock
                // holders are all coroutines that do not hold any, and ends.
                let child = unsafe { libc::fork() };
                if child == 0 {
                    let fine = thread::spawn(|| 7).join().is_ok_and(|seven| seven == 7);
                    // SAFETY: no preconditions.
                    unsafe { libc::_exit(i32::from(!fine)) };
                }
                let mut status = -1;
                // SAFETY: a place of ours.
                assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
                assert_eq!(status, 0);
            })
            .join()
            .unwrap();
        });
    });
}
