//! The oracle of the hook tests: the same scenario runs on plain threads and
//! in coroutines, and must say the same.

#![allow(dead_code, reason = "each test file uses its part")]

use std::fmt::Debug;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::panic::{catch_unwind, resume_unwind};

/// Who runs a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum On {
    Threads,
    Coroutines,
}

/// Something that was started and can be joined.
pub(crate) struct Started<T>(Box<dyn FnOnce() -> T>);

impl<T> Started<T> {
    /// What is done when it is joined.
    pub(crate) fn later(f: impl FnOnce() -> T + 'static) -> Self {
        Self(Box::new(f))
    }

    pub(crate) fn join(self) -> T {
        (self.0)()
    }
}

impl On {
    /// Starts `f` beside the caller.
    pub(crate) fn go<T: Send + 'static>(
        self,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> Started<T> {
        match self {
            Self::Threads => {
                let handle = std::thread::spawn(f);
                Started(Box::new(move || handle.join().unwrap()))
            }
            Self::Coroutines => {
                let handle = crore::spawn(f);
                Started(Box::new(move || handle.join().unwrap()))
            }
        }
    }
}

/// Runs `scenario` both ways and compares what it returns.
pub(crate) fn same<T: Debug + PartialEq + Send + 'static>(scenario: fn(On) -> T) {
    let plain = std::thread::spawn(move || scenario(On::Threads))
        .join()
        .unwrap();
    let ours = in_coroutines(scenario);
    assert_eq!(ours, plain, "left: coroutines, right: threads");
}

/// Runs `scenario` in coroutines only: for what threads can't do. One that fails is not
/// waited for: others may wait for what it did not do.
pub(crate) fn in_coroutines<T: Send + 'static>(scenario: fn(On) -> T) -> T {
    let (tell, told) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        crore::run(|| {
            let result = catch_unwind(|| scenario(On::Coroutines));
            tell.send(result).unwrap();
        })
        .unwrap();
    });
    match told.recv() {
        Ok(Err(failure)) => resume_unwind(failure),
        result => {
            thread.join().unwrap();
            result.unwrap().unwrap()
        }
    }
}

/// Whether a call, made again and again, parks its coroutine: a helper may be done
/// before there is something to wait for, but not each time.
pub(crate) fn parks(mut call: impl FnMut()) -> bool {
    let resumed = || crore::Handle::current().unwrap().metrics().resumed;
    (0..1000).any(|_| {
        let before = resumed();
        call();
        resumed() > before
    })
}

/// A result that can be compared: the value, or the raw error number.
pub(crate) fn code<T>(result: io::Result<T>) -> Result<T, i32> {
    result.map_err(|e| {
        e.raw_os_error()
            .unwrap_or_else(|| panic!("not from the system: {e}"))
    })
}

/// The result of a call of libc that was just made.
pub(crate) fn said(result: isize) -> Result<usize, i32> {
    if result >= 0 {
        Ok(result as usize)
    } else {
        Err(io::Error::last_os_error().raw_os_error().unwrap())
    }
}

/// `F_GETFL`, from the kernel itself.
pub(crate) fn flags(fd: &impl AsRawFd) -> i64 {
    // SAFETY: F_GETFL takes no pointer.
    unsafe { libc::syscall(libc::SYS_fcntl, fd.as_raw_fd(), libc::F_GETFL) }
}

/// `F_GETFL`, as libc says it.
pub(crate) fn libc_flags(fd: &impl AsRawFd) -> i64 {
    // SAFETY: F_GETFL takes no pointer.
    i64::from(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) })
}

/// Reads once, through libc.
pub(crate) fn read(fd: RawFd, buf: &mut [u8]) -> Result<usize, i32> {
    // SAFETY: a valid buffer.
    said(unsafe { libc::read(fd, buf.as_mut_ptr().cast(), buf.len()) })
}

/// Receives once with flags, through libc.
pub(crate) fn recv(fd: RawFd, buf: &mut [u8], flags: i32) -> Result<usize, i32> {
    // SAFETY: a valid buffer.
    said(unsafe { libc::recv(fd, buf.as_mut_ptr().cast(), buf.len(), flags) })
}

/// A pair of connected TCP streams.
pub(crate) fn tcp_pair() -> (std::net::TcpStream, std::net::TcpStream) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let a = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (a, listener.accept().unwrap().0)
}

/// Bytes that tell where they are.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at ^ at >> 8 ^ at >> 16) as u8).collect()
}
