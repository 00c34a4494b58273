//! The promise: a call is tried where it may succeed, though `poll` has found the file
//! not ready, or a larger call no room.

use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::hook_common::{On, said, same, tcp_pair};

/// A call that waits, which none here is to do, ends after this.
const SOON: Option<Duration> = Some(Duration::from_secs(60));

/// Makes a call that is not to wait.
fn at_once(call: impl FnOnce() -> std::io::Result<()>) {
    let resumed = || crore::Handle::current().map(|handle| handle.metrics().resumed);
    let before = resumed();
    call().unwrap();
    assert_eq!(resumed(), before, "it has waited");
}

/// What `poll` says after a moment, twice: the first wait of a number registers it.
fn polled(file: &impl AsRawFd, events: i16) -> i16 {
    let ask = || {
        let fd = file.as_raw_fd();
        let mut entry = libc::pollfd {
            fd,
            events,
            revents: 0,
        };
        // SAFETY: one entry.
        unsafe { libc::poll(&raw mut entry, 1, 1) };
        entry.revents
    };
    ask() | ask()
}

fn send_now(file: &impl AsRawFd, bytes: &[u8]) -> Result<usize, i32> {
    let (place, len) = (bytes.as_ptr().cast(), bytes.len());
    // SAFETY: so many bytes.
    said(unsafe { libc::send(file.as_raw_fd(), place, len, libc::MSG_DONTWAIT) })
}

/// A pair of which the first has waited to write, so that all is known of it.
fn pair_that_has_waited(on: On) -> (UnixStream, UnixStream) {
    let (mut a, mut b) = UnixStream::pair().unwrap();
    a.set_write_timeout(SOON).unwrap();
    let reader = on.go(move || {
        b.read_exact(&mut vec![0; 1 << 20]).unwrap();
        b
    });
    a.write_all(&vec![1; 1 << 20]).unwrap();
    (a, reader.join())
}

#[test]
fn a_small_write_succeeds_though_poll_says_that_there_is_little_room() {
    same(|on| {
        let (mut a, mut b) = pair_that_has_waited(on);
        let mut sent = 0;
        // A quarter of the room.
        while polled(&a, libc::POLLOUT) != 0 {
            sent += send_now(&a, &[2; 1000]).unwrap();
        }
        at_once(|| a.write_all(&[3; 100]));
        b.read_exact(&mut vec![0; sent + 100]).unwrap();
    });
}

#[test]
fn a_write_finds_the_room_that_another_still_waits_to_be_told_of() {
    same(|on| {
        let (a, mut b) = pair_that_has_waited(on);
        while send_now(&a, &[2; 100]).is_ok() {}
        let mut other = a.try_clone().unwrap();
        let waits = on.go(move || other.write_all(&[3; 100]).unwrap());
        // Less than the kernel would tell a writer of that waits.
        std::thread::sleep(Duration::from_millis(5));
        b.read_exact(&mut [0; 300]).unwrap();
        at_once(|| (&a).write_all(&[4; 100]));
        b.set_nonblocking(true).unwrap();
        while b.read(&mut [0; 4096]).is_ok() {}
        waits.join();
    });
}

#[test]
fn a_read_takes_what_is_there_though_poll_waits_for_more() {
    same(|on| {
        let (mut a, mut b) = tcp_pair();
        a.set_read_timeout(SOON).unwrap();
        let first = on.go(move || {
            a.read_exact(&mut [0]).unwrap();
            a
        });
        std::thread::sleep(Duration::from_millis(1));
        b.write_all(&[1]).unwrap();
        let mut a = first.join();
        let least: i32 = 100;
        // SAFETY: an int of its length.
        let set = unsafe {
            let (level, name) = (libc::SOL_SOCKET, libc::SO_RCVLOWAT);
            libc::setsockopt(a.as_raw_fd(), level, name, (&raw const least).cast(), 4)
        };
        assert_eq!(set, 0);
        b.write_all(&[2; 50]).unwrap();
        assert_eq!(polled(&a, libc::POLLIN), 0);
        if crore::try_current().is_some() {
            let waited = crore::timeout(Duration::from_millis(1), || crore::io::readable(&a));
            assert!(!matches!(waited, Ok(Ok(()))));
        }
        let mut got = [0; 10];
        at_once(|| a.read_exact(&mut got));
        got
    });
}
