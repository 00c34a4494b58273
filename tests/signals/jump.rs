//! The promise: a jump to where no code of its thread may go on ends the process with the
//! reason, be it a handler's or not.
#![cfg(feature = "hook")]

use std::ffi::{c_int, c_void};
use std::os::unix::process::ExitStatusExt;
use std::process::Output;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use crate::common::{in_child, stderr};
use crate::handlers::handle;

unsafe extern "C" {
    fn _setjmp(buffer: *mut c_void) -> c_int;
    fn longjmp(buffer: *mut c_void, value: c_int) -> !;
    fn _longjmp(buffer: *mut c_void, value: c_int) -> !;
    fn siglongjmp(buffer: *mut c_void, value: c_int) -> !;
    fn __longjmp_chk(buffer: *mut c_void, value: c_int) -> !;
}

/// All names of it.
const JUMPS: [unsafe extern "C" fn(*mut c_void, c_int) -> !; 4] =
    [longjmp, _longjmp, siglongjmp, __longjmp_chk];
/// Which one the handler takes.
static WHICH: AtomicUsize = AtomicUsize::new(2);

static BUFFER: AtomicPtr<c_void> = AtomicPtr::new(null_mut());

extern "C" fn jump(_: c_int) {
    // SAFETY: it is to be refused.
    unsafe { JUMPS[WHICH.load(SeqCst)](BUFFER.load(SeqCst), 1) }
}

/// A place to jump to, in the calling code's frames.
fn mark() {
    let buffer = Box::leak(Box::new([0_u64; 64])).as_mut_ptr().cast();
    // SAFETY: room for a `jmp_buf`. Nobody comes back here.
    unsafe { _setjmp(buffer) };
    BUFFER.store(buffer, SeqCst);
}

/// Sends this thread the signal when it sleeps.
fn soon() {
    // SAFETY: always fine.
    let us = unsafe { libc::pthread_self() };
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        // SAFETY: the thread lives until the process ends.
        unsafe { libc::pthread_kill(us, libc::SIGUSR1) };
    });
}

fn refused(output: &Output, why: &str) {
    let text = stderr(output);
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{text}");
    assert!(text.contains("siglongjmp") && text.contains(why), "{text}");
}

#[test]
fn a_jump_into_a_parked_coroutine_is_refused() {
    let output = in_child("a_jump_into_a_parked_coroutine_is_refused", || {
        handle(libc::SIGUSR1, jump, 0);
        crore::run(|| {
            mark();
            soon();
            crore::sleep(Duration::from_secs(5));
        })
        .unwrap();
    });
    refused(&output, "does not run here");
}

/// From a handler that interrupts one into another.
fn into_another(name: &str, which: usize) {
    let output = in_child(name, || {
        WHICH.store(which, SeqCst);
        handle(libc::SIGUSR1, jump, 0);
        crore::run(|| {
            let parked = crore::spawn(|| {
                mark();
                crore::park();
            });
            crore::yield_now();
            // SAFETY: a handler is there.
            unsafe { libc::raise(libc::SIGUSR1) };
            drop(parked);
        })
        .unwrap();
    });
    refused(&output, "does not run here");
}

macro_rules! into_another {
    ($($name:ident: $which:expr;)*) => {$(
                #[test]
        fn $name() {
            into_another(stringify!($name), $which);
        }
    )*};
}

into_another! {
    a_longjmp_into_another_coroutine_is_refused: 0;
    an_underscored_longjmp_into_another_coroutine_is_refused: 1;
    a_siglongjmp_into_another_coroutine_is_refused: 2;
    a_checked_longjmp_into_another_coroutine_is_refused: 3;
}

#[test]
fn a_jump_out_of_a_run_is_refused() {
    let output = in_child("a_jump_out_of_a_run_is_refused", || {
        handle(libc::SIGUSR1, jump, 0);
        mark();
        crore::run(|| {
            soon();
            crore::sleep(Duration::from_secs(5));
        })
        .unwrap();
    });
    refused(&output, "leaves crore::run");
}

/// A jump that no signal handler makes.
fn jump_now() {
    jump(0);
}

#[test]
fn a_coroutine_does_not_jump_out_of_its_run() {
    let output = in_child("a_coroutine_does_not_jump_out_of_its_run", || {
        mark();
        crore::run(jump_now).unwrap();
    });
    refused(&output, "leaves crore::run");
}

#[test]
fn a_coroutine_does_not_jump_out_of_its_run_over_many_frames() {
    let output = in_child(
        "a_coroutine_does_not_jump_out_of_its_run_over_many_frames",
        || {
            #[inline(never)]
            fn below(room: &[u8; 512 << 10]) -> u8 {
                crore::run(|| crore::spawn(jump_now).join().unwrap()).unwrap();
                std::hint::black_box(room)[0]
            }
            mark();
            below(&std::hint::black_box([0; 512 << 10]));
        },
    );
    refused(&output, "leaves crore::run");
}

#[test]
fn a_handler_that_has_interrupted_a_coroutine_does_not_jump_out_of_its_run() {
    let name = "a_handler_that_has_interrupted_a_coroutine_does_not_jump_out_of_its_run";
    let output = in_child(name, || {
        handle(libc::SIGUSR1, jump, libc::SA_ONSTACK);
        mark();
        crore::run(|| {
            // SAFETY: a handler is there.
            unsafe { libc::raise(libc::SIGUSR1) };
        })
        .unwrap();
    });
    refused(&output, "leaves crore::run");
}

/// From the body of a generator to the frames of its resumer.
fn out_of_a_generator(name: &str, run: fn(fn())) {
    let output = in_child(name, || {
        run(|| {
            mark();
            crore::generator::Generator::<(), ()>::new(|_, ()| jump_now()).for_each(drop);
        });
    });
    refused(&output, "leaves the body of a generator");
}

#[test]
fn a_body_does_not_jump_out_of_its_generator() {
    out_of_a_generator("a_body_does_not_jump_out_of_its_generator", |f| f());
}

#[test]
fn a_body_does_not_jump_out_of_its_generator_in_a_coroutine() {
    let name = "a_body_does_not_jump_out_of_its_generator_in_a_coroutine";
    out_of_a_generator(name, |f| crore::run(f).unwrap());
}

#[test]
fn a_body_does_not_jump_out_of_its_generator_in_a_shared_coroutine() {
    let name = "a_body_does_not_jump_out_of_its_generator_in_a_shared_coroutine";
    out_of_a_generator(name, |f| {
        // SAFETY: nothing outside points into its frames.
        crore::run(move || unsafe { crore::spawn_shared(f) }.join().unwrap()).unwrap();
    });
}
