//! What tests need of the kernel: a child process to die in the parent's
//! place, and a thread that Rust's standard library knows nothing of.

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Output};
use std::{env, mem, process, ptr};

const CHILD: &str = "CRORE_TEST_CHILD";

/// As in `tests/common`.
const RUNNER: &str = "CRORE_TEST_RUNNER";

/// Runs `body` in a child process: the test binary once more, with only the
/// test `name` (`concat!(module_path!(), "::name")`), which comes here again.
pub(crate) fn in_child(name: &str, body: impl FnOnce()) -> Output {
    if env::var(CHILD).as_deref() == Ok(name) {
        body();
        process::exit(0);
    }
    let (_crate_name, test) = name.split_once("::").expect("a full path");
    let binary = env::current_exe().expect("a test binary");
    let runner = env::var(RUNNER).unwrap_or_default();
    let mut words = runner.split_whitespace();
    let mut command = match words.next() {
        Some(program) => Command::new(program),
        None => Command::new(&binary),
    };
    if !runner.is_empty() {
        command.args(words).arg(binary);
    }
    let output = command
        .args(["--exact", test, "--nocapture", "--include-ignored"])
        .env(CHILD, name)
        .env_remove("RUST_BACKTRACE")
        .output()
        .expect("the test binary starts");
    // A child in which nothing happened ends well.
    let ran = output
        .stdout
        .windows(15)
        .all(|said| said != b"running 0 tests");
    assert!(ran, "there is no test {test}");
    output
}

/// Runs `body` on a bare pthread, on the given stack (lowest byte, length) or
/// one of libc's choice, and joins it.
///
/// # Safety
///
/// - The stack is writable and used by nothing else meanwhile.
pub(crate) unsafe fn on_foreign_thread<F: FnOnce() + Send>(stack: Option<(usize, usize)>, body: F) {
    extern "C" fn start<F: FnOnce()>(body: *mut c_void) -> *mut c_void {
        // SAFETY: the `Some(body)` below, which outlives this thread.
        let body = unsafe { &mut *body.cast::<Option<F>>() }
            .take()
            .expect("started once");
        match catch_unwind(AssertUnwindSafe(body)) {
            Ok(()) => ptr::null_mut(),
            Err(_) => ptr::dangling_mut(),
        }
    }
    let mut body = Some(body);
    // SAFETY: attr and thread are initialised by the calls; `body` is alive
    // until the join; F is Send; the stack is the caller's promise.
    unsafe {
        let mut attr = mem::zeroed();
        assert_eq!(libc::pthread_attr_init(&mut attr), 0);
        if let Some((base, len)) = stack {
            let base = ptr::with_exposed_provenance_mut(base);
            assert_eq!(libc::pthread_attr_setstack(&mut attr, base, len), 0);
        }
        let mut thread = mem::zeroed();
        let argument = (&raw mut body).cast();
        assert_eq!(
            libc::pthread_create(&mut thread, &attr, start::<F>, argument),
            0
        );
        let mut result = ptr::null_mut();
        assert_eq!(libc::pthread_join(thread, &mut result), 0);
        libc::pthread_attr_destroy(&mut attr);
        assert!(result.is_null(), "the foreign thread panicked");
    }
}
