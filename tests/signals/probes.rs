//! The promise: code that catches its faults (collectors probe for the ends of stacks,
//! engines for null) does so in coroutines and in generators as on threads: its handler
//! jumps back, and the coroutine goes on as one.
#![cfg(all(feature = "hook", not(target_feature = "crt-static")))]

use std::cell::Cell;
use std::ffi::c_int;
use std::ptr;
use std::time::Duration;

use crore::generator::Generator;

use crate::catching::{Buffer, catching, siglongjmp};
use crate::common::{kinds, succeeds};
use crate::handlers::handle;

thread_local! {
    /// Where the next fault of this thread leads: of the coroutine, where it has its own.
    static BACK: Cell<*mut Buffer> = const { Cell::new(ptr::null_mut()) };
}

extern "C" fn jump_back(_: c_int) {
    let back = BACK.replace(ptr::null_mut());
    // SAFETY: the buffer of the code that has faulted, or a crash.
    unsafe { siglongjmp(back.cast(), 7) }
}

/// Whether there is nothing to be read at null.
fn null_faults() -> bool {
    let mut buffer = Buffer::new();
    let at = &raw mut buffer;
    catching(at, || {
        BACK.set(at);
        // SAFETY: the fault is caught.
        unsafe { ptr::without_provenance::<u8>(std::hint::black_box(8)).read_volatile() };
    }) == 7
}

/// A coroutine still is one: it waits, and others run.
fn still_parks() {
    assert!(crore::try_current().is_some());
    let other = crore::spawn(|| std::thread::sleep(Duration::from_micros(10)));
    std::thread::sleep(Duration::from_micros(10));
    other.join().unwrap();
}

fn in_a_generator() {
    let mut probes = Generator::new(|out, ()| {
        for _ in 0..3 {
            out.yield_(null_faults());
        }
        let mut buffer = Buffer::new();
        let at = &raw mut buffer;
        // SAFETY: just set.
        out.yield_(catching(at, || unsafe { siglongjmp(at.cast(), 3) }) == 3);
    });
    assert!(probes.by_ref().all(|faulted| faulted));
    assert!(probes.is_done());
}

fn probes() {
    for _ in 0..20 {
        assert!(null_faults());
        still_parks();
    }
    in_a_generator();
    still_parks();
}

fn faults_are_caught(flags: c_int) {
    handle(libc::SIGSEGV, jump_back, flags);
    assert!(null_faults());
    in_a_generator();
    crore::run(move || {
        // The runtime's own handler was installed over it.
        handle(libc::SIGSEGV, jump_back, flags);
        for kind in kinds() {
            let all: Vec<_> = (0..5).map(|_| kind.spawn(probes)).collect();
            all.into_iter().for_each(|each| each.join().unwrap());
        }
    })
    .unwrap();
    assert!(null_faults());
    in_a_generator();
}

#[test]
fn faults_are_caught_on_the_stack_that_faults() {
    succeeds("faults_are_caught_on_the_stack_that_faults", || {
        faults_are_caught(0);
    });
}

#[test]
fn faults_are_caught_on_the_signal_stack() {
    succeeds("faults_are_caught_on_the_signal_stack", || {
        faults_are_caught(libc::SA_ONSTACK);
    });
}

#[test]
fn faults_are_caught_by_a_handler_that_the_runtime_found() {
    let name = "faults_are_caught_by_a_handler_that_the_runtime_found";
    succeeds(name, || {
        handle(libc::SIGSEGV, jump_back, libc::SA_ONSTACK);
        crore::run(probes).unwrap();
    });
}

/// A handler that interrupts another one, and probes in it.
extern "C" fn probe(_: c_int) {
    assert!(crore::try_current().is_none());
    assert!(null_faults());
    assert!(crore::try_current().is_none());
}

#[test]
fn a_handler_catches_its_own_faults_and_returns() {
    succeeds("a_handler_catches_its_own_faults_and_returns", || {
        let stacks = [0, libc::SA_ONSTACK];
        for (outer, inner) in stacks.iter().flat_map(|&o| stacks.map(|i| (o, i))) {
            crore::run(move || {
                handle(libc::SIGSEGV, jump_back, inner);
                handle(libc::SIGUSR1, probe, outer);
                // SAFETY: a handler is there.
                unsafe { libc::raise(libc::SIGUSR1) };
                still_parks();
            })
            .unwrap();
        }
    });
}
