//! What tests need of the kernel: a child process to die in the parent's
//! place, and a thread that Rust's standard library knows nothing of.

use std::ffi::{c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, mem, process, ptr};

use super::handlers::Info;
use super::signal::SignalStack;
use super::syscall::sys;

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

/// What std's own signal stack leaves to a handler on a processor with much state
/// (AVX-512 and AMX), whose registers fill the rest.
pub(crate) const LEAST_HANDLER_ROOM: usize = 448;

/// Where the kernel put the context of the last signal that [`note_context`] handled.
static CONTEXT: AtomicUsize = AtomicUsize::new(0);

/// A former handler that needs next to nothing.
pub(crate) unsafe extern "C" fn note_context(_: c_int, _: *mut Info, context: *mut c_void) {
    // SAFETY: an address; read after the handler.
    unsafe { CONTEXT.as_ptr().write(context as usize) };
}

/// How many bytes of its signal stack the handler of a signal uses, below what the
/// kernel puts there, when `send` sends it; one that ends in [`note_context`] first.
pub(crate) fn handler_bytes(sends: [fn(); 2]) -> [usize; 2] {
    const PAINT: u8 = 0x5a;
    let memory = Box::leak(vec![PAINT; 1 << 16].into_boxed_slice());
    // SAFETY: leaked, and looked at between signals only.
    unsafe { SignalStack::new(memory.as_mut_ptr(), memory.len()).install() }.unwrap();
    sends.map(|send| {
        memory.fill(PAINT);
        send();
        let touched = memory.iter().position(|&byte| byte != PAINT).unwrap();
        CONTEXT.load(Ordering::Relaxed) - (memory.as_ptr().addr() + touched)
    })
}

/// Sends a fault to this thread as the kernel does, with an address: null.
pub(crate) fn send_fault(signal: c_int) {
    // SAFETY: our own thread, a valid info; zeros are one.
    let sent = unsafe {
        let mut info: libc::siginfo_t = mem::zeroed();
        info.si_signo = signal;
        info.si_code = 1;
        let (process, thread) = (libc::getpid(), super::syscall::tid());
        sys!(
            SYS_rt_tgsigqueueinfo,
            process,
            thread,
            signal,
            &raw const info
        )
    };
    assert_eq!(sent, Ok(0));
}
