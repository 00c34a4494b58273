//! Closes that wait (`SO_LINGER`): until the peer has taken all, or the time is over,
//! while other coroutines run.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

use crate::hook_common::{On, code, in_coroutines, said, same, tcp_pair};

/// So long that nobody waits to the end of it.
const LONG: i32 = 600;

/// A connection whose peer has not read what was sent, which is more than there is room
/// for at its side; and how much that is.
fn full(seconds: i32) -> (TcpStream, TcpStream, usize) {
    let (mut near, far) = tcp_pair();
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: seconds,
    };
    // SAFETY: a value with its length.
    let set = unsafe {
        libc::setsockopt(
            near.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            size_of_val(&linger) as u32,
        )
    };
    assert_eq!(set, 0);
    near.set_nonblocking(true).unwrap();
    let mut sent = 0;
    while let Ok(some) = near.write(&[7; 65536]) {
        sent += some;
    }
    near.set_nonblocking(false).unwrap();
    (near, far, sent)
}

/// How much comes to its end.
fn drained(mut far: TcpStream) -> Result<usize, i32> {
    let mut all = Vec::new();
    code(far.read_to_end(&mut all))
}

/// Reads all from another coroutine, which a stopped worker would not let run, while
/// `close` ends the connection.
fn while_read(on: On, close: impl FnOnce(TcpStream)) -> bool {
    let (near, far, sent) = full(LONG);
    let reader = on.go(move || drained(far));
    close(near);
    reader.join() == Ok(sent)
}

#[test]
fn a_close_that_lingers_lets_the_reader_run() {
    same(|on| {
        let other = std::fs::File::open("/dev/null").unwrap();
        [
            while_read(on, drop),
            while_read(on, |near| {
                let number = near.into_raw_fd();
                // SAFETY: ours, in both; what was there is closed by the first.
                let number = unsafe {
                    assert_eq!(libc::dup2(other.as_raw_fd(), number), number);
                    OwnedFd::from_raw_fd(number)
                };
                drop(number);
            }),
            while_read(on, |near| {
                // Another number keeps the connection: nothing is waited for.
                let kept = near.try_clone().unwrap();
                drop(near);
                kept.shutdown(std::net::Shutdown::Write).unwrap();
                drop(kept);
            }),
            // No coroutine waits while it unwinds.
            while_read(on, |near| {
                let unwinds = std::panic::AssertUnwindSafe(|| {
                    let _near = near;
                    std::panic::resume_unwind(Box::new(()));
                });
                assert!(std::panic::catch_unwind(unwinds).is_err());
            }),
        ]
    });
}

/// What tells a socket from all others; nothing where there is none.
fn cookie(number: RawFd) -> Option<u64> {
    let (mut cookie, mut len) = (0_u64, 8);
    // SAFETY: a place with its length.
    let got = unsafe {
        let place = (&raw mut cookie).cast();
        libc::getsockopt(number, libc::SOL_SOCKET, libc::SO_COOKIE, place, &mut len)
    };
    (got == 0).then_some(cookie)
}

#[test]
fn a_lingering_close_says_what_closes_say() {
    in_coroutines(|_| {
        let (near, far, sent) = full(LONG);
        let (number, was) = (near.as_raw_fd(), cookie(near.as_raw_fd()));
        let closes = crore::spawn(move || {
            let number = near.into_raw_fd();
            // SAFETY: ours, given up.
            said(unsafe { libc::close(number) } as isize)
        });
        crore::yield_now();
        assert!(!closes.is_finished(), "it lingers");
        assert!(
            was.is_some() && cookie(number) != was,
            "but the number is free"
        );
        assert_eq!(drained(far), Ok(sent));
        assert_eq!(closes.join().unwrap(), Ok(0));
    });
}

/// One that is cancelled does not wait; the bytes arrive nonetheless.
#[test]
fn a_cancelled_coroutine_does_not_linger() {
    in_coroutines(|_| {
        let (near, far, sent) = full(LONG);
        let closes = crore::spawn(move || drop(near));
        crore::yield_now();
        closes.cancel();
        closes.join().unwrap();
        assert_eq!(drained(far), Ok(sent));
    });
}

#[test]
fn the_time_ends_it() {
    in_coroutines(|_| {
        let (near, far, _) = full(1);
        let closes = crore::spawn(move || drop(near));
        closes.join().unwrap();
        drop(far);
    });
}
