//! The promise: an overflow of a coroutine's stack is told with its name, whichever
//! handlers stand before ours, and whatever ran on the stack.
#![cfg(all(feature = "hook", not(target_feature = "crt-static")))]

use std::ffi::{c_int, c_void};
use std::os::unix::process::ExitStatusExt;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use crore::generator::Generator;

use crate::common::{in_child, stderr};
use crate::handlers::handle;

type Handler = extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);

static BEFORE: AtomicUsize = AtomicUsize::new(0);

extern "C" fn chain(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: what was installed before is a handler with all three.
    let before = unsafe { std::mem::transmute::<usize, Handler>(BEFORE.load(SeqCst)) };
    before(signal, info, context);
}

/// Puts a handler of the program's before that of the runtime.
fn install_chain() {
    // SAFETY: a handler that does what handlers may; zeros are valid.
    unsafe {
        let (mut new, mut old): (libc::sigaction, _) = (std::mem::zeroed(), std::mem::zeroed());
        assert_eq!(libc::sigaction(libc::SIGSEGV, null(), &mut old), 0);
        BEFORE.store(old.sa_sigaction, SeqCst);
        new.sa_sigaction = chain as *const () as usize;
        new.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        assert_eq!(libc::sigaction(libc::SIGSEGV, &new, null_mut()), 0);
    }
}

fn recurse(depth: usize) -> usize {
    let frame = std::hint::black_box([depth; 32]);
    if frame[31] == usize::MAX {
        return 0;
    }
    recurse(std::hint::black_box(depth + 1)) + frame[depth % 32]
}

extern "C" fn overflow(_: c_int) {
    recurse(0);
}

/// What the report of a coroutine named "deep" says, that does this.
fn report_of(test: &str, does: fn()) -> String {
    let output = in_child(test, || {
        crore::run(move || {
            let deep = crore::Builder::new().name("deep".to_owned()).spawn(does);
            deep.unwrap().join().unwrap();
        })
        .unwrap();
    });
    let text = stderr(&output);
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{text}");
    text
}

#[test]
fn a_handler_that_chains_to_the_report_has_it_named() {
    let text = report_of("a_handler_that_chains_to_the_report_has_it_named", || {
        install_chain();
        recurse(0);
    });
    assert!(
        text.contains("crore: stack overflow in coroutine 'deep'"),
        "{text}"
    );
}

#[test]
fn a_handler_that_uses_up_the_stack_has_its_coroutine_named() {
    let name = "a_handler_that_uses_up_the_stack_has_its_coroutine_named";
    let text = report_of(name, || {
        install_chain();
        handle(libc::SIGUSR1, overflow, 0);
        // SAFETY: a handler is there.
        unsafe { libc::raise(libc::SIGUSR1) };
    });
    assert!(
        text.contains("crore: stack overflow in coroutine 'deep'"),
        "{text}"
    );
}

extern "C" fn raise_again(signal: c_int) {
    // SAFETY: a handler is there.
    unsafe { libc::raise(signal) };
}

/// The kernel finds no room for the frame of one of them, and says nothing of where.
#[test]
fn handlers_upon_handlers_that_use_up_the_stack_have_their_coroutine_named() {
    let name = "handlers_upon_handlers_that_use_up_the_stack_have_their_coroutine_named";
    let text = report_of(name, || {
        handle(libc::SIGUSR1, raise_again, libc::SA_NODEFER);
        // SAFETY: a handler is there.
        unsafe { libc::raise(libc::SIGUSR1) };
    });
    assert!(
        text.contains("crore: stack overflow in coroutine 'deep'"),
        "{text}"
    );
}

/// More stack for the coroutine would not help.
#[test]
fn a_generator_that_uses_up_its_stack_in_a_coroutine_is_blamed_itself() {
    let name = "a_generator_that_uses_up_its_stack_in_a_coroutine_is_blamed_itself";
    let text = report_of(name, || {
        Generator::new(|out, ()| out.yield_(recurse(0))).for_each(drop);
    });
    assert!(
        text.contains("crore: stack overflow in a generator"),
        "{text}"
    );
}
