//! Promise: of many that wait for one descriptor each gets what is for it, at the cost
//! of one.

use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use crate::hook_common::in_coroutines;

/// As in the kernel, what comes wakes one of many: the costs of n messages for n
/// waiters are not those of n² wake-ups.
#[test]
fn what_comes_for_one_of_many_wakes_few() {
    in_coroutines(|_| {
        const MANY: usize = 300;
        let (one, mut other) = UnixStream::pair().unwrap();
        let one = Arc::new(one);
        let done = Arc::new(crore::sync::Semaphore::new(0));
        let read = |i| {
            let (one, done) = (Arc::clone(&one), Arc::clone(&done));
            let read = move || {
                (&*one).read_exact(&mut [0]).unwrap();
                done.add_permits(1);
            };
            match i % 2 {
                0 => crore::spawn(read),
                // SAFETY: nobody else uses its frames while it waits.
                _ => unsafe { crore::spawn_shared(read) },
            }
        };
        let all: Vec<_> = (0..MANY).map(read).collect();
        crore::yield_now();
        let resumed = || crore::Handle::current().unwrap().metrics().resumed;
        let before = resumed();
        for _ in 0..MANY {
            other.write_all(&[1]).unwrap();
            done.acquire(1).unwrap().forget();
        }
        let each = (resumed() - before) / MANY as u64;
        assert!(each < 10, "{each} were resumed for each message");
        all.into_iter().for_each(|each| each.join().unwrap());
    });
}

/// Who is woken and takes nothing leaves it to the next, until all have seen it.
#[test]
fn what_nobody_takes_is_seen_by_all() {
    in_coroutines(|_| {
        let (one, mut other) = UnixStream::pair().unwrap();
        let one = Arc::new(one);
        let peek = |one: &UnixStream| {
            let mut byte = 0_u8;
            // SAFETY: a place of one byte.
            let got = unsafe {
                let place = (&raw mut byte).cast();
                libc::recv(one.as_raw_fd(), place, 1, libc::MSG_PEEK)
            };
            assert_eq!((got, byte), (1, 7));
        };
        let poll = |one: &UnixStream| {
            let mut entry = libc::pollfd {
                fd: one.as_raw_fd(),
                events: libc::POLLIN,
                revents: 0,
            };
            // SAFETY: one entry.
            assert_eq!(unsafe { libc::poll(&raw mut entry, 1, -1) }, 1);
        };
        let look = |i| {
            let one = Arc::clone(&one);
            crore::spawn(move || match i % 2 {
                0 => peek(&one),
                _ => poll(&one),
            })
        };
        let mut all: Vec<_> = (0..20).map(look).collect();
        crore::yield_now();
        other.write_all(&[7]).unwrap();
        all.drain(..).for_each(|each| each.join().unwrap());
    });
}

/// An end is for all at once.
#[test]
fn the_end_of_a_stream_ends_all_waits() {
    in_coroutines(|_| {
        let (one, other) = UnixStream::pair().unwrap();
        let one = Arc::new(one);
        let read = |_| {
            let one = Arc::clone(&one);
            crore::spawn(move || (&*one).read(&mut [0]).unwrap())
        };
        let all: Vec<_> = (0..20).map(read).collect();
        crore::yield_now();
        drop(other);
        all.into_iter()
            .for_each(|each| assert_eq!(each.join().unwrap(), 0));
    });
}

/// An error that stays makes nothing ready: those who look in vain do not wake each
/// other without end.
#[test]
fn waiters_beside_an_end_do_not_keep_each_other_awake() {
    in_coroutines(|_| {
        // Its peer reads no more; what it sends still comes.
        let (one, mut other) = UnixStream::pair().unwrap();
        other.shutdown(std::net::Shutdown::Read).unwrap();
        let one = Arc::new(one);
        let read = |_| {
            let one = Arc::clone(&one);
            crore::spawn(move || (&*one).read_exact(&mut [0]).unwrap())
        };
        let all: Vec<_> = (0..10).map(read).collect();
        crore::sleep(std::time::Duration::from_millis(5));
        let resumed = || crore::Handle::current().unwrap().metrics().resumed;
        let before = resumed();
        for _ in 0..5 {
            other.write_all(&[1, 1]).unwrap();
            crore::sleep(std::time::Duration::from_millis(5));
        }
        assert!(resumed() - before < 500, "{}", resumed() - before);
        all.into_iter().for_each(|each| each.join().unwrap());
    });
}
