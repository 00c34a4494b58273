//! The promise: who ends the process ends it, with his status, whatever the handlers
//! wait for, and whoever tries to end it meanwhile.
#![cfg(feature = "hook")]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use std::{process, thread};

use crore::{Builder, Runtime};

use crate::common::{has_own_locals, in_child, stderr};

const MOMENT: Duration = Duration::from_millis(100);
const LONG: Duration = Duration::from_secs(3600);

/// What `atexit` runs.
static HANDLER: Mutex<Option<fn()>> = Mutex::new(None);

/// The handler has begun.
static ENDING: AtomicBool = AtomicBool::new(false);

extern "C" fn handler() {
    ENDING.store(true, Relaxed);
    let handler = HANDLER.lock().unwrap().take();
    handler.expect("one handler")();
}

fn at_exit(handle: fn()) {
    *HANDLER.lock().unwrap() = Some(handle);
    // SAFETY: a function without arguments.
    assert_eq!(unsafe { libc::atexit(handler) }, 0);
}

fn exit_of_c(status: i32) -> ! {
    // SAFETY: no pointers.
    unsafe { libc::exit(status) }
}

/// Two of these ways to end the process; the first one's handler waits.
fn both(own: [bool; 2], exits: [fn(i32) -> !; 2], handle: fn()) {
    at_exit(handle);
    let runtime = Runtime::builder().build().unwrap();
    let run = runtime.run(|| {
        let go = |own: bool, f: Box<dyn FnOnce() + Send>| {
            let builder = Builder::new().own_thread_locals(own);
            builder.spawn(f).unwrap()
        };
        let first = go(own[0], Box::new(move || exits[0](5)));
        let second = move || {
            while !ENDING.load(Relaxed) {
                thread::sleep(Duration::from_millis(1));
            }
            exits[1](6)
        };
        let second = go(own[1], Box::new(second));
        drop((first, second));
        thread::sleep(LONG);
    });
    run.unwrap();
}

fn ends_with_5(name: &str, body: impl FnOnce()) {
    let output = in_child(name, body);
    assert_eq!(output.status.code(), Some(5), "{}", stderr(&output));
}

/// Without thread-locals of one's own nobody else runs on the worker any more.
#[test]
fn the_second_of_two_waits_for_the_first() {
    ends_with_5("the_second_of_two_waits_for_the_first", || {
        both([false; 2], [|s| process::exit(s); 2], || {
            thread::sleep(MOMENT)
        });
    });
}

#[test]
fn so_it_does_in_c() {
    ends_with_5("so_it_does_in_c", || {
        both([false; 2], [exit_of_c; 2], || thread::sleep(MOMENT));
    });
}

/// Another coroutine has to run for the handler to get on.
fn answered() {
    let (mut here, mut there) = UnixStream::pair().unwrap();
    crore::spawn(move || {
        thread::sleep(MOMENT);
        there.write_all(b"x").unwrap();
    });
    here.read_exact(&mut [0]).unwrap();
    thread::spawn(|| thread::sleep(MOMENT)).join().unwrap();
}

#[test]
fn with_own_thread_locals_handlers_park() {
    if has_own_locals() {
        ends_with_5("with_own_thread_locals_handlers_park", || {
            both([true; 2], [|s| process::exit(s); 2], answered);
        });
    }
}

#[test]
fn so_they_do_in_c() {
    if has_own_locals() {
        ends_with_5("so_they_do_in_c", || {
            both([true; 2], [exit_of_c; 2], answered);
        });
    }
}

/// What has no thread-locals of its own is `pause`d by std.
#[test]
fn kinds_can_be_mixed() {
    if has_own_locals() {
        ends_with_5("kinds_can_be_mixed", || {
            both([true, false], [|s| process::exit(s); 2], answered);
        });
    }
}

/// A plain thread ends the process, and a coroutine tries to: the handler waits for
/// another coroutine of its worker.
#[test]
fn a_thread_comes_first() {
    static ANSWER: AtomicBool = AtomicBool::new(false);
    ends_with_5("a_thread_comes_first", || {
        at_exit(|| {
            while !ANSWER.load(Relaxed) {
                thread::sleep(Duration::from_millis(1));
            }
        });
        thread::spawn(|| process::exit(5));
        let run = crore::run(|| {
            let second = crore::spawn(|| {
                while !ENDING.load(Relaxed) {
                    thread::sleep(Duration::from_millis(1));
                }
                crore::spawn(|| {
                    thread::sleep(MOMENT);
                    ANSWER.store(true, Relaxed);
                });
                process::exit(6)
            });
            let _: Result<(), _> = second.join();
        });
        run.unwrap();
    });
}

/// glibc lets a handler do that.
#[test]
fn a_handler_ends_the_process_once_more() {
    ends_with_5("a_handler_ends_the_process_once_more", || {
        let again = || {
            thread::sleep(MOMENT);
            exit_of_c(5)
        };
        both([false; 2], [|_| exit_of_c(7), |s| process::exit(s)], again);
    });
}
