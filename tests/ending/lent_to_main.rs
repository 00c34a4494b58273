//! The promise: what `run`'s closure borrows from its caller is not used after
//! `run` has returned, whatever the closure does to its own cancellation.

use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use crate::common::{in_child, stderr};

const SIGABRT: i32 = 6;

/// Waits, and takes no failure for an answer.
fn ignore_the_end() -> ! {
    loop {
        let _ = catch_unwind(AssertUnwindSafe(crore::yield_now));
    }
}

/// Runs `main` in a child, which must die rather than return from `run`.
fn never_returns(name: &str, main: fn(&AtomicBool)) {
    let output = in_child(name, || {
        let lent = AtomicBool::new(false);
        let result = crore::run(|| main(&lent));
        eprintln!("run returned {result:?}");
    });
    let said = stderr(&output);
    assert!(!said.contains("run returned"), "{said}");
    assert_eq!(output.status.signal(), Some(SIGABRT), "{said}");
    assert!(said.contains("the main coroutine was abandoned"), "{said}");
}

#[test]
fn threads_that_borrow_from_an_abandoned_main_keep_what_they_have() {
    never_returns(
        "threads_that_borrow_from_an_abandoned_main_keep_what_they_have",
        |lent| {
            thread::scope(|scope| {
                scope.spawn(|| {
                    while !lent.load(Relaxed) {
                        std::thread::yield_now();
                    }
                });
                crore::current().cancel();
                ignore_the_end();
            });
        },
    );
}

#[test]
fn so_do_those_that_borrow_from_an_abandoned_child_of_its_scope() {
    never_returns(
        "so_do_those_that_borrow_from_an_abandoned_child_of_its_scope",
        |lent| {
            crore::scope(|scope| {
                let child = scope.spawn(|| {
                    thread::scope(|threads| {
                        threads.spawn(|| while !lent.load(Relaxed) {});
                        ignore_the_end();
                    });
                });
                crore::yield_now();
                child.cancel();
            });
        },
    );
}

#[test]
fn a_main_that_is_cancelled_and_unwinds_gives_all_back() {
    let lent = AtomicBool::new(false);
    let result = crore::run(|| {
        thread::scope(|scope| {
            scope.spawn(|| {
                while !lent.load(Relaxed) {
                    std::thread::yield_now();
                }
            });
            crore::current().cancel();
            let ended = catch_unwind(AssertUnwindSafe(crore::park));
            lent.store(true, Relaxed);
            std::panic::resume_unwind(ended.unwrap_err());
        });
    });
    assert!(result.is_err() && lent.into_inner());
}
