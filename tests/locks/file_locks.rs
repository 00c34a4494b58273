//! The locks of `FILE`s: one coroutine at a time holds one, the others park; plain
//! threads are kept out and keep out.

#![cfg(all(
    feature = "futex",
    target_env = "gnu",
    not(target_feature = "crt-static")
))]

use std::ffi::{c_char, c_int};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use libc::FILE;

use crate::common::{Kind, kinds};

unsafe extern "C" {
    fn flockfile(file: *mut FILE);
    fn ftrylockfile(file: *mut FILE) -> c_int;
    fn funlockfile(file: *mut FILE);
}

/// A file that all may use.
#[derive(Clone, Copy)]
struct Shared(*mut FILE);
// SAFETY: libc locks it.
unsafe impl Send for Shared {}

impl Shared {
    fn new() -> Self {
        // SAFETY: C strings.
        let file = unsafe { libc::fopen(c"/dev/null".as_ptr(), c"w".as_ptr()) };
        assert!(!file.is_null());
        Self(file)
    }

    fn lock(self) {
        // SAFETY: a file that is never closed.
        unsafe { flockfile(self.0) }
    }

    fn try_lock(self) -> bool {
        // SAFETY: as above.
        unsafe { ftrylockfile(self.0) == 0 }
    }

    fn unlock(self) {
        // SAFETY: as above.
        unsafe { funlockfile(self.0) }
    }

    fn write(self, text: &std::ffi::CStr) {
        // SAFETY: as above.
        assert!(unsafe { libc::fputs(text.as_ptr() as *const c_char, self.0) } >= 0);
    }
}

fn each_kind(f: fn(Kind)) {
    for kind in kinds() {
        crore::run(move || kind.spawn(move || f(kind)).join().unwrap()).unwrap();
    }
}

#[test]
fn one_at_a_time_on_any_worker_and_thread() {
    for kind in kinds() {
        let file = Shared::new();
        static INSIDE: AtomicU32 = AtomicU32::new(0);
        let user = move || {
            for _ in 0..20 {
                file.lock();
                assert_eq!(INSIDE.fetch_add(1, Ordering::SeqCst), 0);
                // Parks, while it holds the lock.
                std::thread::sleep(Duration::from_micros(100));
                assert_eq!(INSIDE.fetch_sub(1, Ordering::SeqCst), 1);
                file.unlock();
            }
        };
        let thread = std::thread::spawn(user);
        let runtime = crore::Runtime::builder().workers(2).build().unwrap();
        runtime
            .run(move || {
                let all: Vec<_> = (0..8).map(|_| kind.spawn(user)).collect();
                all.into_iter().for_each(|one| one.join().unwrap());
            })
            .unwrap();
        thread.join().unwrap();
    }
}

#[test]
fn the_holder_may_take_it_again() {
    each_kind(|kind| {
        let file = Shared::new();
        file.lock();
        assert!(file.try_lock());
        file.lock();
        file.write(c"by its holder");
        let other = kind.spawn(move || file.try_lock());
        assert!(!other.join().unwrap());
        let thread = std::thread::spawn(move || file.try_lock());
        assert!(!thread.join().unwrap());
        file.unlock();
        file.unlock();
        let other = kind.spawn(move || file.try_lock());
        assert!(!other.join().unwrap());
        file.unlock();
        let other = kind.spawn(move || {
            file.try_lock() && {
                file.unlock();
                true
            }
        });
        assert!(other.join().unwrap());
        let thread = std::thread::spawn(move || {
            file.try_lock() && {
                file.unlock();
                true
            }
        });
        assert!(thread.join().unwrap());
    });
}

#[test]
fn what_libc_locks_inside_waits_too() {
    each_kind(|kind| {
        let file = Shared::new();
        static STEPS: AtomicU32 = AtomicU32::new(0);
        STEPS.store(0, Ordering::SeqCst);
        file.lock();
        let other = kind.spawn(move || {
            file.write(c"when it is free");
            STEPS.fetch_add(1, Ordering::SeqCst)
        });
        for _ in 0..3 {
            crore::sleep(Duration::from_millis(1));
            assert_eq!(STEPS.load(Ordering::SeqCst), 0);
        }
        STEPS.store(10, Ordering::SeqCst);
        file.unlock();
        assert_eq!(other.join().unwrap(), 10);
    });
}

#[test]
fn a_threads_lock_is_waited_for_without_stopping_the_worker() {
    each_kind(|kind| {
        let file = Shared::new();
        let (locked, taken) = std::sync::mpsc::channel();
        let (let_go, end) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            file.lock();
            locked.send(()).unwrap();
            end.recv().unwrap();
            file.unlock();
        });
        while taken.try_recv().is_err() {
            crore::sleep(Duration::from_millis(1));
        }
        let waits = kind.spawn(move || {
            file.lock();
            file.unlock();
        });
        crore::sleep(Duration::from_millis(5));
        // It would never come here, were the worker stopped.
        let_go.send(()).unwrap();
        waits.join().unwrap();
        while !thread.is_finished() {
            crore::sleep(Duration::from_millis(1));
        }
        thread.join().unwrap();
    });
}

/// Who holds which is known of each, in whatever order they come and go.
#[test]
fn many_locks_are_held_at_one_time() {
    each_kind(|kind| {
        let files: Vec<_> = (0..20).map(|_| Shared::new()).collect();
        let begin = std::sync::Arc::new(AtomicU32::new(0));
        let holders = files.iter().enumerate().map(|(at, &file)| {
            let begin = begin.clone();
            kind.spawn(move || {
                file.lock();
                file.lock();
                // Each lets go of it once and ends in another order than they came.
                while begin.load(Ordering::SeqCst) <= at as u32 * 7 % 20 {
                    crore::yield_now();
                }
                file.unlock();
                assert!(file.try_lock());
                crore::yield_now();
                file.unlock();
                file.unlock();
            })
        });
        let holders: Vec<_> = holders.collect();
        crore::yield_now();
        let all = files.clone();
        let tries = kind.spawn(move || all.iter().any(|file| file.try_lock()));
        assert!(!tries.join().unwrap());
        for _ in 0..20 {
            begin.fetch_add(1, Ordering::SeqCst);
            crore::yield_now();
        }
        holders
            .into_iter()
            .for_each(|holder| holder.join().unwrap());
        let tries = kind.spawn(move || {
            files.iter().all(|file| {
                let free = file.try_lock();
                file.unlock();
                free
            })
        });
        assert!(tries.join().unwrap());
    });
}
