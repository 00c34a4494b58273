//! The promise: while a coroutine polls a foreign future no other coroutine
//! runs without need, because executors keep in thread-locals what they do.
#![cfg(feature = "futex")]

use std::cell::Cell;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::Poll;
use std::thread;

/// Runs `poll` once, in a poll; whether another coroutine ran meanwhile.
fn disturbed(poll: impl Fn()) -> bool {
    let (turns, done) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(false)));
    let other = {
        let (turns, done) = (Rc::clone(&turns), Rc::clone(&done));
        crore::spawn_local(move || {
            while !done.get() {
                turns.set(turns.get() + 1);
                crore::yield_now();
            }
        })
    };
    while turns.get() == 0 {
        crore::yield_now();
    }
    let during = crore::block_on(pin!(std::future::poll_fn(|_| {
        let before = turns.get();
        poll();
        Poll::Ready(turns.get() - before)
    })));
    done.set(true);
    other.join().unwrap();
    during > 0
}

#[test]
fn fairness_waits_for_the_end_of_a_poll() {
    crore::run(|| {
        let (mut one, mut other) = UnixStream::pair().unwrap();
        let chat = |one: &mut UnixStream, other: &mut UnixStream| {
            for _ in 0..1_000 {
                one.write_all(b"x").unwrap();
                other.read_exact(&mut [0]).unwrap();
            }
        };
        let streams = std::cell::RefCell::new((&mut one, &mut other));
        let poll = || {
            let mut streams = streams.borrow_mut();
            let (one, other) = &mut *streams;
            chat(one, other);
        };
        assert!(!disturbed(poll));
    })
    .unwrap();
}

/// By chance the holder may be stopped for longer than the waiter has patience:
/// so it may take some attempts.
#[test]
fn a_lock_that_a_thread_holds_for_a_moment_is_waited_for_in_the_poll() {
    crore::run(|| {
        let quiet = (0..200).any(|_| {
            let (lock, held, wanted) = (
                Mutex::new(()),
                AtomicBool::new(false),
                AtomicBool::new(false),
            );
            thread::scope(|scope| {
                scope.spawn(|| {
                    let _held = lock.lock().unwrap();
                    held.store(true, SeqCst);
                    while !wanted.load(SeqCst) {
                        std::hint::spin_loop();
                    }
                    // Long enough for the other to have stopped spinning.
                    (0..20_000).for_each(|_| std::hint::spin_loop());
                });
                while !held.load(SeqCst) {
                    thread::yield_now();
                }
                !disturbed(|| {
                    wanted.store(true, SeqCst);
                    drop(lock.lock().unwrap());
                })
            })
        });
        assert!(quiet, "others run whenever a lock is met in a poll");
    })
    .unwrap();
}

/// It would wait for ever if the thread did: the holder is a coroutine of it.
#[test]
fn a_lock_that_a_sibling_holds_across_a_wait_is_waited_for_by_parking() {
    crore::run(|| {
        let lock = Rc::new(Mutex::new(0));
        let holder = {
            let lock = Rc::clone(&lock);
            crore::spawn_local(move || {
                let mut held = lock.lock().unwrap();
                crore::park();
                *held += 1;
            })
        };
        while lock.try_lock().is_ok() {
            crore::yield_now();
        }
        let release = {
            let holder = holder.coroutine().clone();
            crore::spawn_local(move || holder.unpark())
        };
        let seen = crore::block_on(async { *lock.lock().unwrap() });
        assert_eq!(seen, 1);
        release.join().unwrap();
        holder.join().unwrap();
    })
    .unwrap();
}
