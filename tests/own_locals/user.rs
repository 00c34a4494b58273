//! The user of the process can be changed while coroutines run that have
//! thread-locals of their own, whatever they do meanwhile.
#![cfg(all(target_os = "linux", target_env = "gnu"))]

use crate::common;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crore::{Builder, JoinHandle};

fn own<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    Builder::new().own_thread_locals(true).spawn(f).unwrap()
}

/// Whoever waits for ever is killed, and fails.
fn not_for_ever() {
    // SAFETY: no preconditions.
    unsafe { libc::alarm(120) };
}

/// All calls that change the user or the group, to what they are.
fn change_to_the_same() {
    const SAME: u32 = u32::MAX;
    // SAFETY: no pointers, but an empty list, and a name.
    unsafe {
        let (user, group) = (libc::getuid(), libc::getgid());
        assert_eq!(libc::setresuid(SAME, SAME, SAME), 0);
        assert_eq!(libc::setreuid(SAME, SAME), 0);
        assert_eq!(libc::setresgid(SAME, SAME, SAME), 0);
        assert_eq!(libc::setregid(SAME, SAME), 0);
        assert_eq!(libc::setegid(group), 0);
        assert_eq!(libc::setgid(group), 0);
        assert_eq!(libc::setuid(user), 0);
        if libc::geteuid() == 0 {
            // Only root may; in a process of the test's own.
            assert_eq!(libc::setgroups(0, std::ptr::null()), 0);
            assert_eq!(libc::initgroups(c"root".as_ptr(), group), 0);
        }
    }
}

/// Calls `change` in a plain thread, again and again, while on each of two
/// workers a coroutine calls `busy` and nothing else.
fn beside_two(busy: fn(), change: fn(round: usize), rounds: usize) {
    static RUN: AtomicUsize = AtomicUsize::new(0);
    static DONE: AtomicBool = AtomicBool::new(false);
    let runtime = crore::Runtime::builder().workers(2).build().unwrap();
    runtime
        .run(move || {
            let one = || {
                own(move || {
                    RUN.fetch_add(1, Ordering::SeqCst);
                    while !DONE.load(Ordering::SeqCst) {
                        busy();
                    }
                })
            };
            let there = one();
            // Without parking, so that only the other worker takes it.
            while RUN.load(Ordering::SeqCst) == 0 {
                std::hint::spin_loop();
            }
            let here = one();
            let changes = thread::spawn(move || {
                while RUN.load(Ordering::SeqCst) < 2 {
                    thread::yield_now();
                }
                (0..rounds).for_each(change);
                DONE.store(true, Ordering::SeqCst);
            });
            here.join().unwrap();
            there.join().unwrap();
            changes.join().unwrap();
        })
        .unwrap();
}

fn succeeds(name: &str, body: fn()) {
    let output = common::in_child(name, || {
        not_for_ever();
        body();
    });
    assert!(output.status.success(), "{}", common::stderr(&output));
}

#[test]
fn while_coroutines_compute() {
    succeeds("while_coroutines_compute", || {
        beside_two(std::hint::spin_loop, |_| change_to_the_same(), 200);
    });
}

/// Starting a thread waits for what glibc has locked while it asks all threads.
#[test]
fn while_coroutines_wait_for_glibc() {
    succeeds("while_coroutines_wait_for_glibc", || {
        let start = || {
            let start = || thread::spawn(|| ()).join().unwrap();
            #[cfg(feature = "hook")]
            let start = || crore::hook::unhooked(start);
            start();
        };
        beside_two(start, |_| change_to_the_same(), 200);
    });
}

#[test]
fn by_coroutines_themselves() {
    succeeds("by_coroutines_themselves", || {
        let runtime = crore::Runtime::builder().workers(2).build().unwrap();
        runtime
            .run(|| {
                let change = || (0..100).for_each(|_| change_to_the_same());
                let all: Vec<_> = (0..8).map(|_| own(change)).collect();
                all.into_iter().for_each(|one| one.join().unwrap());
            })
            .unwrap();
    });
}

/// A child has another thread, though the same coroutine.
#[test]
fn in_a_forked_child() {
    succeeds("in_a_forked_child", || {
        let child = || {
            static DONE: AtomicBool = AtomicBool::new(false);
            thread::spawn(|| {
                (0..50).for_each(|_| change_to_the_same());
                DONE.store(true, Ordering::SeqCst);
            });
            while !DONE.load(Ordering::SeqCst) {
                std::hint::spin_loop();
            }
        };
        let fork = move || {
            let mut status = 0;
            // SAFETY: the child does what a child of a process with threads may
            // (glibc's heap and threads are usable), and goes without cleaning up.
            unsafe {
                let number = libc::fork();
                if number == 0 {
                    not_for_ever();
                    child();
                    libc::_exit(7);
                }
                assert_eq!(libc::waitpid(number, &mut status, 0), number);
            }
            assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 7);
        };
        crore::run(move || own(fork).join().unwrap()).unwrap();
    });
}

/// The kernel has changed every thread's.
#[test]
fn and_every_thread_has_the_new_one() {
    // SAFETY: no preconditions.
    if unsafe { libc::geteuid() } != 0 {
        eprintln!("left out: only root can become somebody else");
        return;
    }
    fn become_other(round: usize) {
        let user = if round % 2 == 0 { 65_534 } else { 0 };
        // SAFETY: no pointers.
        assert_eq!(unsafe { libc::seteuid(user) }, 0);
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let mut seen = 0;
        for task in tasks {
            let path = task.unwrap().path().join("status");
            // One that ends keeps what it has: glibc leaves it alone.
            let is_right = || {
                let status = std::fs::read_to_string(&path).ok()?;
                let users = status.lines().find_map(|line| line.strip_prefix("Uid:"));
                let effective = users.unwrap().split_whitespace().nth(1);
                Some(effective == Some(user.to_string().as_str()))
            };
            while is_right() == Some(false) {
                thread::sleep(Duration::from_millis(1));
            }
            seen += u32::from(is_right() == Some(true));
        }
        assert!(seen >= 3, "two workers and this thread");
    }
    succeeds("and_every_thread_has_the_new_one", || {
        beside_two(std::hint::spin_loop, become_other, 100);
    });
}
