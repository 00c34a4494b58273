//! A copy by way of a buffer, for ends that the kernel can't be asked not to wait for: a
//! read, and writes that park until all of it is taken. Costs a copy.

use std::ffi::{c_int, c_void};
use std::os::fd::RawFd;

use libc::{iovec, ssize_t};

use crate::sys::ready::poll_now;
use crate::sys::stat::{is_pipe, kind};
use crate::sys::syscall::{Answer, errno, sys};

/// Bytes that are on their way at one time: what a pipe holds.
const CHUNK: usize = 64 << 10;

/// Aligned as files with `O_DIRECT` want it.
#[derive(Clone, Copy)]
#[repr(align(4096))]
struct Page {
    _bytes: [u8; PAGE],
}

const PAGE: usize = 4096;

/// Where bytes come from.
pub(super) struct Source<'a> {
    fd: RawFd,
    /// Where in the file, unless at its own position.
    at: Option<&'a mut i64>,
    is_pipe: bool,
}

impl<'a> Source<'a> {
    pub(super) fn of(fd: RawFd) -> Self {
        Self {
            fd,
            at: None,
            is_pipe: is_pipe(fd),
        }
    }

    pub(super) fn from(fd: RawFd, at: Option<&'a mut i64>) -> Self {
        Self { at, ..Self::of(fd) }
    }

    /// Reads some, from the caller's place or from where the file is. A pipe that has
    /// none says `EAGAIN`.
    fn read(&self, place: *mut c_void, want: usize) -> Answer {
        let one = iovec {
            iov_base: place,
            iov_len: want,
        };
        if self.is_pipe {
            let (here, flags) = (-1_isize, libc::RWF_NOWAIT);
            // SAFETY: one buffer, of `want` bytes.
            match unsafe { sys!(SYS_preadv2, self.fd, &raw const one, 1, here, here, flags) } {
                Err(libc::EOPNOTSUPP | libc::ENOSYS | libc::EPERM) => {}
                answer => return answer,
            }
        }
        // SAFETY: a buffer of so many bytes; the calls are the hooked ones, which park.
        said(unsafe {
            match &self.at {
                Some(at) => libc::pread(self.fd, place, want, **at),
                None => libc::read(self.fd, place, want),
            }
        })
    }

    /// Of `got` bytes so many were passed on.
    fn passed_on(&mut self, got: usize, sent: usize) {
        match &mut self.at {
            Some(at) => **at += sent as i64,
            // A file goes back; that fails on pipes, as it may.
            None if sent < got => {
                let back = -((got - sent) as i64);
                // SAFETY: no pointers.
                let _ = unsafe { sys!(SYS_lseek, self.fd, back, libc::SEEK_CUR) };
            }
            None => {}
        }
    }

    /// Whether to read on: a pipe or a terminal gives what it has, a file all that is
    /// asked for.
    fn has_more(&self) -> bool {
        poll_now(self.fd, libc::POLLIN) & libc::POLLIN != 0
    }
}

/// Moves up to `n` bytes by reading and writing; `more` are flags of `send`. What was
/// read from a pipe is written whole, or lost with the connection that it was for; of a
/// file, only what was written counts as read.
pub(super) fn through_buffer(mut source: Source<'_>, to: RawFd, n: usize, more: c_int) -> Answer {
    let most = n.min(CHUNK);
    let mut chunk = vec![Page { _bytes: [0; PAGE] }; most.div_ceil(PAGE)];
    let is_socket = kind(to) == libc::S_IFSOCK;
    let mut done = 0;
    while done < n && (done == 0 || source.has_more()) {
        let place: *mut c_void = chunk.as_mut_ptr().cast();
        let (got, sent) = match source.read(place, (n - done).min(most)) {
            Ok(0) => return Ok(done),
            Ok(got) => {
                // SAFETY: as many bytes as were read there; as above.
                let sent = said(unsafe {
                    match is_socket {
                        true => libc::send(to, place, got, more),
                        false => libc::write(to, place, got),
                    }
                });
                source.passed_on(got, sent.unwrap_or(0));
                (got, sent)
            }
            Err(code) => (0, Err(code)),
        };
        match sent {
            Ok(sent) => done += sent,
            Err(_) if done > 0 => return Ok(done),
            Err(code) => return Err(code),
        }
        if sent.unwrap_or(0) < got {
            return Ok(done);
        }
    }
    Ok(done)
}

/// What a call of libc that was just made said.
fn said(result: ssize_t) -> Answer {
    usize::try_from(result).map_err(|_| errno())
}
