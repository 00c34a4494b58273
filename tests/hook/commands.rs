//! The rows of the hooks' table about commands of the shell.

#![allow(clippy::incompatible_msrv, reason = "tests may use what is younger")]

use std::ffi::{CString, c_char};
use std::io::Write;
use std::os::fd::AsRawFd;

use crate::hook_common::{On, in_coroutines, said, same};

/// A pipe whose reading end commands inherit.
fn inherited_pipe() -> (std::io::PipeReader, std::io::PipeWriter) {
    let (from, to) = std::io::pipe().unwrap();
    // SAFETY: no pointers.
    unsafe { libc::fcntl(from.as_raw_fd(), libc::F_SETFD, 0) };
    (from, to)
}

fn system(command: &str) -> Result<usize, i32> {
    let command = CString::new(command).unwrap();
    // SAFETY: a C string.
    said(unsafe { libc::system(command.as_ptr()) } as isize)
}

fn popen(command: &str, mode: &std::ffi::CStr) -> *mut libc::FILE {
    let command = CString::new(command).unwrap();
    // SAFETY: C strings.
    let file = unsafe { libc::popen(command.as_ptr(), mode.as_ptr()) };
    assert!(!file.is_null());
    file
}

#[test]
fn a_command_that_waits_for_another_coroutine() {
    same(|on| {
        let (from, mut to) = inherited_pipe();
        let writer = on.go(move || to.write_all(b"5\n").unwrap());
        let status = system(&format!("read x </dev/fd/{}; exit $x", from.as_raw_fd()));
        writer.join();
        // SAFETY: null asks whether there is a shell.
        let shell = unsafe { libc::system(std::ptr::null()) } != 0;
        (
            status,
            system("kill -9 $$"),
            system("no-such-command 2>&-"),
            shell,
        )
    });
}

#[test]
fn a_command_inherits_the_signals_that_its_caller_blocks() {
    same(|on| {
        // SAFETY: a set of our own; the thread ends with the test.
        unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigaddset(&mut set, libc::SIGUSR2);
            libc::pthread_sigmask(libc::SIG_SETMASK, &set, std::ptr::null_mut());
        }
        // glibc 2.31 leaves SIGCHLD blocked on a thread whose command ends while those of
        // other threads run.
        let or_child = if on == On::Threads { "[01]" } else { "0" };
        let blocked =
            format!("exec grep -q 'SigBlk:.*00000000000{or_child}0800' /proc/self/status");
        (system(&blocked), system(&blocked))
    });
}

#[test]
fn the_end_of_a_pipe_to_a_command() {
    same(|on| {
        let (from, mut to) = inherited_pipe();
        let mut line = [0 as c_char; 16];
        let output = popen("echo it; exit 3", c"r");
        // SAFETY: a file of ours, until it is closed; a place.
        let (said_it, status) = unsafe {
            let text = libc::fgets(line.as_mut_ptr(), 16, output);
            let it = !text.is_null() && std::ffi::CStr::from_ptr(text) == c"it\n";
            (it, libc::pclose(output))
        };
        let input = popen(
            &format!("read x; read y </dev/fd/{}; exit $x$y", from.as_raw_fd()),
            c"w",
        );
        let writer = on.go(move || to.write_all(b"2\n").unwrap());
        // SAFETY: as above. What is buffered goes to the command.
        let second = unsafe {
            libc::fputs(c"1\n".as_ptr(), input);
            libc::pclose(input)
        };
        writer.join();
        (said_it, status, second)
    });
}

#[test]
fn any_number_of_commands_wait_at_once() {
    in_coroutines(|_| {
        let (from, to) = inherited_pipe();
        let command = format!("read x </dev/fd/{}; exit 7", from.as_raw_fd());
        let all: Vec<_> = (0..70)
            .map(|_| {
                let command = command.clone();
                crore::spawn(move || system(&command))
            })
            .collect();
        // The hooks' other helpers are not used up by those that wait.
        std::fs::File::open("/tmp").unwrap().sync_all().unwrap();
        drop(to);
        for one in all {
            assert_eq!(one.join().unwrap(), Ok(7 << 8));
        }
    });
}

#[test]
fn a_cancelled_wait_leaves_the_command_alone() {
    in_coroutines(|_| {
        let (from, mut to) = inherited_pipe();
        let (mut done, tell) = std::io::pipe().unwrap();
        // SAFETY: no pointers.
        unsafe { libc::fcntl(tell.as_raw_fd(), libc::F_SETFD, 0) };
        let number = tell.as_raw_fd();
        let script = format!(
            "read x </dev/fd/{}; echo $x >/dev/fd/{number}",
            from.as_raw_fd()
        );
        for close in [false, true] {
            let script = script.clone();
            let waits = crore::spawn(move || {
                if close {
                    let file = popen(&script, c"r");
                    // SAFETY: a file of ours, for the last time.
                    said(unsafe { libc::pclose(file) } as isize)
                } else {
                    system(&script)
                }
            });
            crore::sleep(std::time::Duration::from_millis(20));
            waits.cancel();
            assert_eq!(waits.join().unwrap(), Err(libc::ECANCELED));
            to.write_all(b"on\n").unwrap();
            let mut line = [0; 3];
            std::io::Read::read_exact(&mut done, &mut line).unwrap();
            assert_eq!(&line, b"on\n");
        }
    });
}
