//! The rows of the hooks' table about functions with `...`: what is printed arrives as
//! on a thread, whatever the arguments are, and however full the pipe is.

#![allow(clippy::incompatible_msrv, reason = "tests may use what is younger")]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::io::{Read, pipe};
use std::os::fd::IntoRawFd;
use std::process::{Command, Stdio};

use libc::FILE;

use crate::common::kinds;
use crate::hook_common::{On, Started, parks, same};

unsafe extern "C" {
    static stdout: *mut FILE;
    fn dprintf(fd: c_int, format: *const c_char, ...) -> c_int;
    fn __fprintf_chk(file: *mut FILE, flag: c_int, format: *const c_char, ...) -> c_int;
    fn __printf_chk(flag: c_int, format: *const c_char, ...) -> c_int;
    fn __dprintf_chk(fd: c_int, flag: c_int, format: *const c_char, ...) -> c_int;
    fn __syslog_chk(priority: c_int, flag: c_int, format: *const c_char, ...);
    fn __vfprintf_chk(f: *mut FILE, n: c_int, t: *const c_char, all: *mut c_void) -> c_int;
    fn __vprintf_chk(flag: c_int, format: *const c_char, all: *mut c_void) -> c_int;
    fn __vdprintf_chk(fd: c_int, n: c_int, t: *const c_char, all: *mut c_void) -> c_int;
    fn __vsyslog_chk(priority: c_int, flag: c_int, format: *const c_char, all: *mut c_void);
    fn vsyslog(priority: c_int, format: *const c_char, all: *mut c_void);
}

const MANY: &CStr = c"%d %s %c %ld %f %g|%lx %e %d %d %.2f %d %s %f %f %f %f %f %d\n";

/// All of `MANY`'s arguments: more than there are registers, of both kinds.
macro_rules! many {
    ($call:ident($($first:expr),*)) => {
        $call(
            $($first,)* MANY.as_ptr(), 1, c"two".as_ptr(), c_int::from(b'3'), 4_i64, 5.5, 6.5,
            7_u64, 8.5, 9, 10, 11.5, 12, c"13".as_ptr(), 14.5, 15.5, 16.5, 17.5, 18.5, 19,
        )
    };
}

/// Nothing is taken from it.
fn no_arguments() -> [usize; 4] {
    [0; 4]
}

fn reader(on: On, mut from: std::io::PipeReader) -> Started<String> {
    on.go(move || {
        let mut all = String::new();
        from.read_to_string(&mut all).unwrap();
        all
    })
}

#[test]
fn arguments_of_every_kind_and_number() {
    use libc::fprintf;
    same(|on| {
        let (from, to) = pipe().unwrap();
        let fd = to.into_raw_fd();
        let text = reader(on, from);
        let mut out = Vec::new();
        // SAFETY: a file of ours, formats and their arguments.
        unsafe {
            let file = libc::fdopen(fd, c"w".as_ptr());
            for _ in 0..1000 {
                out.push(many!(fprintf(file)));
            }
            out.push(many!(__fprintf_chk(file, 1)));
            let mut none = no_arguments();
            let list = none.as_mut_ptr().cast();
            out.push(__vfprintf_chk(file, 1, c"100%%\n".as_ptr(), list));
            libc::fflush(file);
            out.push(many!(dprintf(fd)));
            out.push(many!(__dprintf_chk(fd, 1)));
            out.push(__vdprintf_chk(fd, 1, c"%%d\n".as_ptr(), list));
            out.push(dprintf(-1, c"nobody".as_ptr()));
            libc::fclose(file);
        }
        (out, text.join())
    });
}

/// Runs this test's other half in a child, and returns what that printed to its
/// standard output and error.
fn child(test: &str, kind: &str) -> [String; 2] {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env("CRORE_FORMATS_CHILD", kind)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap())
}

/// In the child, runs it as `kind` says.
fn run_as(kind: &str, f: fn()) {
    match kind {
        "thread" => f(),
        kind => {
            let kind = kinds().find(|known| format!("{known:?}") == kind);
            crore::run(move || kind.expect("a kind").spawn(f).join().unwrap()).unwrap();
        }
    }
    // SAFETY: null means all files.
    unsafe { libc::fflush(std::ptr::null_mut()) };
}

#[test]
fn standard_output() {
    use libc::printf;
    if let Ok(kind) = std::env::var("CRORE_FORMATS_CHILD") {
        run_as(&kind, || {
            // SAFETY: formats and their arguments.
            unsafe {
                many!(printf());
                many!(__printf_chk(1));
                let mut none = no_arguments();
                __vprintf_chk(1, c"the %% end\n".as_ptr(), none.as_mut_ptr().cast());
                libc::fflush(stdout);
            }
        });
        return;
    }
    let [thread, _] = child("formats::standard_output", "thread");
    let wanted = "1 two 3 4 5.500000 6.5|7 8.500000e+00 9 10 11.50 12 13 14.500000";
    assert_eq!(thread.matches(wanted).count(), 2, "{thread}");
    let printed = |text: &str| text.split("the % end").next().unwrap().to_owned();
    for kind in kinds().map(|kind| format!("{kind:?}")) {
        let [text, _] = child("formats::standard_output", &kind);
        assert_eq!(printed(&text), printed(&thread), "{kind}");
    }
}

#[test]
fn the_systems_log() {
    if let Ok(kind) = std::env::var("CRORE_FORMATS_CHILD") {
        // SAFETY: an identity that lives for ever.
        unsafe { libc::openlog(c"crore".as_ptr(), libc::LOG_PERROR, libc::LOG_USER) };
        run_as(&kind, || {
            // SAFETY: formats and their arguments.
            unsafe {
                let mut none = no_arguments();
                let list = none.as_mut_ptr().cast();
                libc::close(-1);
                let debug = libc::LOG_DEBUG;
                libc::syslog(
                    debug,
                    c"%s: 100%% of %d, %f, %m".as_ptr(),
                    c"it".as_ptr(),
                    3,
                    0.5,
                );
                let kept = std::io::Error::last_os_error().raw_os_error();
                dprintf(2, c"errno %d\n".as_ptr(), kept.unwrap());
                __syslog_chk(debug, 1, c"checked %s".as_ptr(), c"%s%n".as_ptr());
                vsyslog(debug, c"a %% list".as_ptr(), list);
                __vsyslog_chk(debug, 1, c"the last".as_ptr(), list);
            }
        });
        return;
    }
    let [_, thread] = child("formats::the_systems_log", "thread");
    assert!(thread.contains("crore: it: 100% of 3, 0.500000, Bad file descriptor\nerrno 9\n"));
    let logged = |text: &str| text[text.find("crore: it").unwrap()..].to_owned();
    for kind in kinds().map(|kind| format!("{kind:?}")) {
        let [_, text] = child("formats::the_systems_log", &kind);
        assert_eq!(logged(&text), logged(&thread), "{kind}");
    }
}

/// It is not the worker that waits for the log.
#[test]
fn the_log_has_a_thread_of_its_own() {
    let parked = crore::run(|| {
        // SAFETY: a text.
        parks(|| unsafe { libc::syslog(libc::LOG_DEBUG, c"from a test of crore's".as_ptr()) })
    });
    assert!(parked.unwrap());
}
