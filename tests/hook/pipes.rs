//! The rows of the hooks' table about pipes, eventfds and the output of terminals.

#![allow(clippy::incompatible_msrv, reason = "tests may use what is younger")]

use std::ffi::c_int;
use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::hook_common::{in_coroutines, parks, said, same};

/// Fills a pipe, and says with how much.
fn fill(to: &PipeWriter) -> usize {
    // SAFETY: no pointers.
    unsafe { libc::fcntl(to.as_raw_fd(), libc::F_SETPIPE_SZ, 4096) as usize }
        .min((&*to).write(&[b'f'; 4096]).unwrap())
}

fn take(from: &PipeReader, bytes: usize) -> Vec<u8> {
    let mut all = vec![0; bytes];
    (&*from).read_exact(&mut all).unwrap();
    all
}

fn tee(from: &PipeReader, to: &PipeWriter, n: usize, flags: u32) -> Result<usize, i32> {
    // SAFETY: no pointers.
    said(unsafe { libc::tee(from.as_raw_fd(), to.as_raw_fd(), n, flags) })
}

#[test]
fn tee_waits_for_its_source_and_for_room() {
    same(|on| {
        let ((from, mut feed), (drain, to)) = (pipe().unwrap(), pipe().unwrap());
        let mut out = vec![
            tee(&from, &to, 10, libc::SPLICE_F_NONBLOCK),
            tee(&from, &to, 0, 0),
        ];
        let writer = on.go(move || {
            feed.write_all(b"hello").unwrap();
            feed
        });
        out.push(tee(&from, &to, 10, 0));
        let feed = writer.join();
        assert_eq!(
            (take(&drain, 5), take(&from, 5)),
            (b"hello".into(), b"hello".into())
        );
        let full = fill(&to);
        (&feed).write_all(b"more").unwrap();
        let reader = on.go(move || {
            take(&drain, full);
            drain
        });
        out.push(tee(&from, &to, 10, 0));
        let drain = reader.join();
        drop(feed);
        take(&from, 4);
        take(&drain, 4);
        out.push(tee(&from, &to, 10, 0));
        // SAFETY: no pointers.
        unsafe { libc::fcntl(to.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
        let (empty, _feed) = pipe().unwrap();
        out.push(tee(&empty, &to, 10, 0));
        // SAFETY: no pointers: no pipe at all.
        out.push(said(unsafe { libc::tee(-1, to.as_raw_fd(), 1, 0) }));
        out
    });
}

#[test]
fn vmsplice_waits_for_room_and_for_bytes() {
    same(|on| {
        let (from, to) = pipe().unwrap();
        let full = fill(&to);
        static BYTES: [u8; 5] = *b"bytes";
        let mut place = [0_u8; 16];
        let part = |base: *const u8, iov_len| libc::iovec {
            iov_base: base.cast_mut().cast(),
            iov_len,
        };
        let splice = |fd: c_int, part: &libc::iovec, flags| {
            // SAFETY: memory that lives as long as the pipe; or a place.
            said(unsafe { libc::vmsplice(fd, part, 1, flags) })
        };
        let out_part = part(BYTES.as_ptr(), 5);
        let mut out = vec![splice(to.as_raw_fd(), &out_part, libc::SPLICE_F_NONBLOCK)];
        let reader = on.go(move || {
            take(&from, full);
            from
        });
        out.push(splice(to.as_raw_fd(), &out_part, 0));
        let from = reader.join();
        take(&from, 5);
        let writer = on.go(move || {
            (&to).write_all(b"abc").unwrap();
            to
        });
        out.push(splice(from.as_raw_fd(), &part(place.as_ptr(), 16), 0));
        out.push(splice(-1, &out_part, 0));
        let _to = writer.join();
        place[3] = 0;
        (out, place[..3].to_vec())
    });
}

#[test]
fn eventfds_by_their_own_calls() {
    same(|on| {
        // SAFETY: no pointers.
        let fd = unsafe { OwnedFd::from_raw_fd(libc::eventfd(0, 0)) };
        let number = fd.as_raw_fd();
        let write = move |value| {
            // SAFETY: no pointers.
            said(unsafe { libc::eventfd_write(number, value) } as isize)
        };
        let mut value = 0;
        let writer = on.go(move || write(3));
        // SAFETY: a place.
        let read = said(unsafe { libc::eventfd_read(number, &mut value) } as isize);
        let mut out = vec![(writer.join(), 0), (read, value)];
        out.push((write(u64::MAX - 1), 0));
        let reader = on.go(move || {
            let mut value = 0;
            // SAFETY: a place.
            (
                said(unsafe { libc::eventfd_read(number, &mut value) } as isize),
                value,
            )
        });
        // There is room once it was read.
        out.push((write(2), 0));
        out.push(reader.join());
        out.push((write(u64::MAX), 0));
        drop(fd);
        out.push((write(1), 0));
        out
    });
}

/// Both ends of a terminal.
fn terminal() -> [OwnedFd; 2] {
    let mut ends: [c_int; 2] = [-1; 2];
    let [a, b] = &mut ends;
    let (name, modes, size) = (std::ptr::null_mut(), std::ptr::null(), std::ptr::null());
    // SAFETY: places for two descriptors.
    assert_eq!(unsafe { libc::openpty(a, b, name, modes, size) }, 0);
    // SAFETY: made just now.
    ends.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
}

#[test]
fn what_waits_for_a_terminals_output() {
    same(|_| {
        let [_master, tty] = terminal();
        let mut out = Vec::new();
        for fd in [tty.as_raw_fd(), pipe().unwrap().0.as_raw_fd(), -1] {
            // SAFETY: a place of our own.
            unsafe {
                let mut modes: libc::termios = std::mem::zeroed();
                let got = libc::tcgetattr(fd, &mut modes) == 0;
                out.push(said(libc::tcdrain(fd) as isize));
                out.push(said(libc::tcsendbreak(fd, 0) as isize));
                if got {
                    modes.c_lflag &= !libc::ECHO;
                    out.push(said(libc::tcsetattr(fd, libc::TCSADRAIN, &modes) as isize));
                    libc::tcgetattr(fd, &mut modes);
                    out.push(Ok((modes.c_lflag & libc::ECHO) as usize));
                }
                out.push(said(libc::ioctl(fd, libc::TCSBRK, 1) as isize));
                out.push(said(
                    libc::ioctl(fd, libc::TIOCMIWAIT, libc::TIOCM_CD) as isize
                ));
            }
        }
        out
    });
}

/// On a thread of its own a call is over before or after others run here; it must not
/// be made here, where it could wait.
#[test]
fn others_run_while_a_terminal_drains() {
    in_coroutines(|_| {
        let [_master, tty] = terminal();
        assert!(parks(|| {
            // SAFETY: no pointers.
            let drained = unsafe { libc::tcdrain(tty.as_raw_fd()) };
            assert_eq!(drained, 0);
        }));
    });
}
