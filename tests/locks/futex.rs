//! Promise: `syscall(SYS_futex, …)` says in a coroutine what it says on a
//! thread, and every other system call goes through untouched.

use std::ptr::null;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::hook_common::{On, in_coroutines, said, same};
use crate::locks_common::after;
use libc::{c_int, timespec};

const PRIVATE: c_int = libc::FUTEX_PRIVATE_FLAG;
const REALTIME: c_int = libc::FUTEX_CLOCK_REALTIME;
const ALL: u32 = u32::MAX;

fn futex(
    word: &AtomicU32,
    op: c_int,
    value: u32,
    time: *const timespec,
    bits: u32,
) -> Result<usize, i32> {
    // SAFETY: a live word, a valid time or none.
    said(unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            op,
            value,
            time,
            null::<u32>(),
            bits,
        )
    } as isize)
}

fn wait(word: &AtomicU32, value: u32) -> Result<usize, i32> {
    futex(word, libc::FUTEX_WAIT | PRIVATE, value, null(), 0)
}

fn wake(word: &AtomicU32, most: u32) -> Result<usize, i32> {
    futex(word, libc::FUTEX_WAKE | PRIVATE, most, null(), 0)
}

#[test]
fn answers_are_the_kernels() {
    same(|_| {
        let word = AtomicU32::new(7);
        let short = timespec {
            tv_sec: 0,
            tv_nsec: 2_000_000,
        };
        let none = timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let invalid = [(0, 1_000_000_000), (0, -1), (-1, 0)]
            .map(|(tv_sec, tv_nsec)| timespec { tv_sec, tv_nsec });
        let past = timespec {
            tv_sec: 1,
            tv_nsec: 0,
        };
        let mut answers = vec![
            wait(&word, 8),
            futex(&word, libc::FUTEX_WAIT | PRIVATE, 7, &short, 0),
            futex(&word, libc::FUTEX_WAIT | PRIVATE, 7, &none, 0),
            futex(&word, libc::FUTEX_WAIT | PRIVATE | REALTIME, 7, &short, 0),
            futex(&word, libc::FUTEX_WAIT_BITSET | PRIVATE, 7, &past, ALL),
            futex(&word, libc::FUTEX_WAIT_BITSET | PRIVATE, 8, &past, ALL),
            futex(&word, libc::FUTEX_WAIT_BITSET | PRIVATE, 7, &past, 0),
            futex(&word, libc::FUTEX_WAKE_BITSET | PRIVATE, 1, null(), 0),
            futex(&word, 1_000, 1, null(), 0),
            wake(&word, 1),
            wake(&word, 0),
            futex(&word, libc::FUTEX_WAKE_BITSET | PRIVATE, 1, null(), ALL),
        ];
        for time in &invalid {
            answers.push(futex(&word, libc::FUTEX_WAIT | PRIVATE, 7, time, 0));
            answers.push(futex(&word, libc::FUTEX_WAIT | PRIVATE, 8, time, 0));
        }
        for (clock, flag) in [(libc::CLOCK_MONOTONIC, 0), (libc::CLOCK_REALTIME, REALTIME)] {
            let time = after(clock, Duration::from_millis(2));
            let begin = Instant::now();
            answers.push(futex(
                &word,
                libc::FUTEX_WAIT_BITSET | PRIVATE | flag,
                7,
                &time,
                ALL,
            ));
            assert!(begin.elapsed() >= Duration::from_millis(1));
        }
        // SAFETY: refused before anything is read.
        let unaligned = said(unsafe {
            let at = word.as_ptr().cast::<u8>().wrapping_add(1);
            libc::syscall(libc::SYS_futex, at, libc::FUTEX_WAIT | PRIVATE, 7, 0, 0, 0)
        } as isize);
        answers.push(unaligned);
        // SAFETY: as above.
        let nowhere = said(unsafe {
            libc::syscall(libc::SYS_futex, 0, libc::FUTEX_WAIT | PRIVATE, 7, 0, 0, 0)
        } as isize);
        answers.push(nowhere);
        answers
    });
}

#[test]
fn other_calls_go_through() {
    same(|_| {
        // SAFETY: no pointers but our own buffer.
        unsafe {
            *libc::__errno_location() = 99;
            let mut text = [0_u8; 4];
            let pid = libc::syscall(libc::SYS_getpid);
            let kept = *libc::__errno_location();
            let bad = said(libc::syscall(libc::SYS_close, -1) as isize);
            let none = said(libc::syscall(100_000) as isize);
            let six =
                said(libc::syscall(libc::SYS_pread64, -1, text.as_mut_ptr(), 4, 0, 0, 0) as isize);
            (pid, kept, bad, none, six)
        }
    });
}

/// Waits until `n` have said that they are about to wait, and gives them the
/// time to do so: whether they have is seen from what waking says.
fn woken(word: &Arc<AtomicU32>, mut wake: impl FnMut() -> usize, n: usize) {
    let mut seen = 0;
    while seen < n {
        std::thread::yield_now();
        seen += wake();
    }
    assert_eq!((seen, word.load(Ordering::SeqCst)), (n, 0));
}

#[test]
fn wakes_are_counted() {
    same(|on| {
        errno_is_kept();
        let word = Arc::new(AtomicU32::new(0));
        let waiters: Vec<_> = (0..3)
            .map(|_| {
                let word = word.clone();
                on.go(move || wait(&word, 0))
            })
            .collect();
        woken(&word, || wake(&word, 1).unwrap(), 3);
        waiters.into_iter().map(|w| w.join()).collect::<Vec<_>>()
    });
}

fn errno_is_kept() {
    let word = AtomicU32::new(0);
    // SAFETY: libc's own thread-local.
    unsafe { *libc::__errno_location() = 99 };
    wake(&word, 1).unwrap();
    // SAFETY: as above.
    assert_eq!(unsafe { *libc::__errno_location() }, 99);
}

#[test]
fn bits_choose() {
    same(|on| {
        let word = Arc::new(AtomicU32::new(0));
        let done = Arc::new(AtomicUsize::new(0));
        let waiters: Vec<_> = [1, 2, 4]
            .into_iter()
            .map(|bits: u32| {
                let (word, done) = (word.clone(), done.clone());
                on.go(move || {
                    let answer = futex(&word, libc::FUTEX_WAIT_BITSET | PRIVATE, 0, null(), bits);
                    done.fetch_add(bits as usize, Ordering::SeqCst);
                    answer
                })
            })
            .collect();
        let bitset =
            |bits| futex(&word, libc::FUTEX_WAKE_BITSET | PRIVATE, 10, null(), bits).unwrap();
        let mut order = Vec::new();
        for (bits, all) in [(2, 2), (5, 7)] {
            let n = u32::count_ones(bits) as usize;
            woken(&word, || bitset(bits), n);
            while done.load(Ordering::SeqCst) != all {
                std::thread::yield_now();
            }
            order.push(all);
        }
        (
            waiters.into_iter().map(|w| w.join()).collect::<Vec<_>>(),
            order,
        )
    });
}

/// The kernel moves its own; a coroutine that waits at the first word wakes.
#[test]
fn whoever_is_moved_wakes() {
    in_coroutines(|on: On| {
        for op in [libc::FUTEX_REQUEUE, libc::FUTEX_CMP_REQUEUE] {
            let words = Arc::new([AtomicU32::new(0), AtomicU32::new(0)]);
            let theirs = words.clone();
            let waiter = on.go(move || wait(&theirs[0], 0));
            let mut moved = 0;
            while moved == 0 {
                std::thread::yield_now();
                // SAFETY: live words.
                let answer = said(unsafe {
                    libc::syscall(
                        libc::SYS_futex,
                        words[0].as_ptr(),
                        op | PRIVATE,
                        0,
                        10_usize,
                        words[1].as_ptr(),
                        0,
                    )
                } as isize);
                moved = answer.unwrap();
            }
            assert_eq!(waiter.join(), Ok(0));
            // SAFETY: live words.
            let refused = said(unsafe {
                libc::syscall(
                    libc::SYS_futex,
                    words[0].as_ptr(),
                    libc::FUTEX_CMP_REQUEUE | PRIVATE,
                    0,
                    10_usize,
                    words[1].as_ptr(),
                    9,
                )
            } as isize);
            assert_eq!(refused, Err(libc::EAGAIN));
        }
    });
}

/// A word that other processes may know: nobody relies on the table for it.
#[test]
fn shared_words_are_looked_at_again() {
    in_coroutines(|_| {
        let word = AtomicU32::new(0);
        let mut looks = 0;
        while looks < 3 {
            assert_eq!(futex(&word, libc::FUTEX_WAIT, 0, null(), 0), Ok(0));
            looks += 1;
        }
    });
}

/// Thousands wait at one word, and as many at words of their own. As in the kernel,
/// whoever waits may be woken in vain, by a lock of another test: hence several tries.
#[test]
fn many_wait() {
    in_coroutines(|on| assert!((0..5).any(|_| many_are_counted(on))));
}

/// Whether each of them was woken by the call that was to wake it.
fn many_are_counted(on: On) -> bool {
    const MANY: usize = 2_000;
    // Not on the heap: who unlocks a lock of another test may wake whoever waits where
    // the lock was, as with the kernel.
    static ONE: AtomicU32 = AtomicU32::new(0);
    static OWN: [AtomicU32; MANY] = [const { AtomicU32::new(0) }; MANY];
    let waiters: Vec<_> = (0..2 * MANY)
        .map(|i| on.go(move || wait(OWN.get(i).unwrap_or(&ONE), 0)))
        .collect();
    std::thread::yield_now();
    let first = wake(&ONE, 7).unwrap();
    let rest = wake(&ONE, i32::MAX as u32).unwrap();
    let own: Vec<_> = OWN.iter().map(|word| wake(word, 9).unwrap()).collect();
    assert!(waiters.into_iter().all(|w| w.join() == Ok(0)));
    assert!(first <= 7 && rest <= MANY - first && own.iter().all(|&n| n <= 1));
    (first, rest) == (7, MANY - 7) && own.iter().all(|&n| n == 1)
}

#[test]
fn the_self_test_knows() {
    assert_eq!(crore::hook::status(), crore::hook::Status::Active);
}

/// One that is woken at its deadline was woken: its waker has counted it.
#[test]
fn woken_at_the_deadline_is_woken() {
    in_coroutines(|on| {
        let word = Arc::new(AtomicU32::new(0));
        let theirs = Arc::clone(&word);
        let waiter = on.go(move || {
            let time = timespec {
                tv_sec: 0,
                tv_nsec: 20_000_000,
            };
            futex(&theirs, libc::FUTEX_WAIT | PRIVATE, 0, &raw const time, 0)
        });
        std::thread::yield_now();
        // Nobody else runs until its time is over.
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(40) {}
        assert_eq!(wake(&word, 1), Ok(1));
        assert_eq!(waiter.join(), Ok(0));
    });
}

/// A coroutine and a plain thread at one word: waking one is no wake-up for the thread
/// in place of the coroutine, since that may be what the thread's worker has to run.
#[test]
fn a_thread_is_not_woken_in_place_of_a_coroutine() {
    in_coroutines(|on| {
        let word = Arc::new(AtomicU32::new(0));
        let theirs = Arc::clone(&word);
        let (tid, rx) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            // SAFETY: no preconditions.
            tid.send(unsafe { libc::gettid() }).unwrap();
            wait(&theirs, 0)
        });
        let tid = crore::spawn_blocking(move || rx.recv().unwrap())
            .join()
            .unwrap();
        // It sleeps in the kernel.
        let waits = format!("{} ", libc::SYS_futex);
        let call = format!("/proc/self/task/{tid}/syscall");
        while !std::fs::read_to_string(&call).unwrap().starts_with(&waits) {
            std::thread::yield_now();
        }
        let theirs = Arc::clone(&word);
        let coroutine = on.go(move || wait(&theirs, 0));
        std::thread::yield_now();
        assert_eq!(wake(&word, 1), Ok(1));
        assert_eq!(coroutine.join(), Ok(0));
        wake(&word, 1).unwrap();
        assert_eq!(thread.join().unwrap(), Ok(0));
    });
}
