//! Descriptors that are closed and replaced, seen and unseen.

use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::task::Waker;

use super::super::*;
use super::{R, W, bell, park, park_until_woken, poll, waiting};
use crate::sys::fd::{table, unseen};
use crate::util::fuzz::Random;

/// Declares a close to the driver, as the hooks do.
fn gone(driver: &mut Driver, fd: RawFd) -> usize {
    assert!(table::renew(fd), "registered");
    noticed(driver, fd)
}

fn noticed(driver: &mut Driver, fd: RawFd) -> usize {
    let mut woken = Vec::new();
    driver.reactor.fd_gone(fd, &mut woken);
    woken.len()
}

/// The same, of a fd that is registered and validated already and whose state
/// was reported: nothing more will come for what is the case now.
fn waiting_again(fd: RawFd) -> (Driver, WaitKey) {
    let (mut driver, key) = waiting(fd);
    assert_eq!(driver.reactor.table.finish(key), Outcome::Pending);
    driver.reactor.table.clear_readiness(fd, R);
    let key = driver.reactor.wait(fd, R, Waker::noop().clone()).unwrap();
    (driver, key)
}

#[test]
fn closing_resolves_the_waiters_as_closed() {
    let (_a, b) = UnixStream::pair().unwrap();
    let fd = b.as_raw_fd();
    let (mut driver, reading) = waiting_again(fd);
    let writing = driver.reactor.wait(fd, W, Waker::noop().clone()).unwrap();
    assert_eq!(driver.reactor.table.hint(fd, R), Hint::NotReady);
    assert_eq!(gone(&mut driver, fd), 2);
    assert_eq!(driver.reactor.table.hint(fd, R), Hint::Try);
    // The descriptor lives on until the real close; a second notice is void.
    assert!(!table::renew(fd));
    assert_eq!(noticed(&mut driver, fd), 0);
    drop(b);
    assert_eq!(driver.reactor.table.finish(reading), Outcome::Closed);
    assert_eq!(driver.reactor.table.finish(writing), Outcome::Closed);
}

#[test]
fn woken_but_closed_before_it_ran_is_closed() {
    let (mut a, b) = UnixStream::pair().unwrap();
    let (mut driver, key) = waiting(b.as_raw_fd());
    a.write_all(b"x").unwrap();
    park_until_woken(&mut driver);
    assert_eq!(gone(&mut driver, b.as_raw_fd()), 0);
    assert_eq!(driver.reactor.table.finish(key), Outcome::Closed);
}

/// Another thread closes the number between a wake-up and the next wait of the
/// same call: that must not wait for what the number means next.
#[test]
fn woken_then_closed_then_waiting_again_is_closed() {
    let (mut a, b) = UnixStream::pair().unwrap();
    let fd = b.as_raw_fd();
    let (mut driver, key) = waiting(fd);
    a.write_all(b"x").unwrap();
    park_until_woken(&mut driver);
    assert_eq!(driver.reactor.table.finish(key), Outcome::Ready);
    let key = driver
        .reactor
        .wait_again(fd, R, Waker::noop().clone())
        .unwrap();
    assert_eq!(driver.reactor.table.finish(key), Outcome::Pending);
    // The other thread's notice is still under way.
    assert!(table::renew(fd));
    let error = driver
        .reactor
        .wait_again(fd, R, Waker::noop().clone())
        .unwrap_err();
    assert_eq!(error, WatchError::NotOpen);
    // A call that begins now is about the new file.
    let key = driver.reactor.wait(fd, R, Waker::noop().clone()).unwrap();
    assert_eq!(driver.reactor.table.finish(key), Outcome::Pending);
}

#[test]
fn a_new_generation_alone_makes_way_for_the_new_file() {
    let (_a, b) = UnixStream::pair().unwrap();
    let (mut c, d) = UnixStream::pair().unwrap();
    let (b, d) = (OwnedFd::from(b), OwnedFd::from(d));
    let fd = b.as_raw_fd();
    let (mut driver, old) = waiting_again(fd);
    assert!(table::renew(fd));
    unseen::replace(&d, &b);
    assert_eq!(driver.reactor.table.hint(fd, R), Hint::Try);
    let (rung, waker) = bell();
    let new = driver.reactor.wait(fd, R, waker).unwrap();
    // A notice that comes late does not touch the new registration.
    let mut woken = Vec::new();
    driver.reactor.fd_gone(fd, &mut woken);
    assert!(woken.is_empty());
    // The old waiter is woken by the next look, which does not block for it.
    assert_eq!(park(&mut driver), 1);
    assert_eq!(driver.reactor.table.finish(old), Outcome::Closed);
    c.write_all(b"x").unwrap();
    park_until_woken(&mut driver);
    assert_eq!(
        (rung.rung(), driver.reactor.table.finish(new)),
        (1, Outcome::Ready)
    );
}

#[test]
fn an_unseen_replacement_costs_a_delay_not_the_wake_up() {
    let (_a, b) = UnixStream::pair().unwrap();
    let (mut c, d) = UnixStream::pair().unwrap();
    let (b, d) = (OwnedFd::from(b), OwnedFd::from(d));
    let (mut driver, key) = waiting_again(b.as_raw_fd());
    unseen::replace(&d, &b);
    c.write_all(b"x").unwrap();
    park_until_woken(&mut driver);
    assert_eq!(driver.reactor.table.finish(key), Outcome::Ready);
}

#[test]
fn an_unseen_close_and_reopen_costs_a_delay_not_the_wake_up() {
    let (_a, b) = UnixStream::pair().unwrap();
    let (mut c, d) = UnixStream::pair().unwrap();
    // A number that no other test of this process opens meanwhile.
    let fd = 700;
    let b = unseen::open_as(&OwnedFd::from(b), fd);
    let (mut driver, key) = waiting_again(fd);
    unseen::close(b);
    let d = unseen::open_as(&OwnedFd::from(d), fd);
    c.write_all(b"x").unwrap();
    park_until_woken(&mut driver);
    assert_eq!(
        (
            driver.reactor.table.finish(key),
            driver.reactor.is_stream(fd)
        ),
        (Outcome::Ready, false)
    );
    drop(d);
}

#[test]
fn an_unseen_close_is_found() {
    let (_a, b) = UnixStream::pair().unwrap();
    let b = unseen::open_as(&OwnedFd::from(b), 701);
    let (mut driver, key) = waiting_again(701);
    unseen::close(b);
    park_until_woken(&mut driver);
    assert_eq!(driver.reactor.table.finish(key), Outcome::Closed);
}

#[test]
fn an_unseen_turn_into_a_plain_file_makes_the_waiter_try() {
    let (_a, b) = UnixStream::pair().unwrap();
    let b = OwnedFd::from(b);
    let file = OwnedFd::from(std::fs::File::open(std::env::current_exe().unwrap()).unwrap());
    let (mut driver, key) = waiting_again(b.as_raw_fd());
    unseen::replace(&file, &b);
    park_until_woken(&mut driver);
    assert_eq!(driver.reactor.table.finish(key), Outcome::Ready);
}

#[test]
fn a_dup_that_keeps_the_old_file_alive_does_not_confuse() {
    let (mut a, b) = UnixStream::pair().unwrap();
    let (mut c, d) = UnixStream::pair().unwrap();
    let (b, d) = (OwnedFd::from(b), OwnedFd::from(d));
    let fd = b.as_raw_fd();
    let alive = b.try_clone().unwrap();
    // Unseen, so that the old registration stays in the epoll.
    let (mut driver, key) = waiting_again(fd);
    unseen::replace(&d, &b);
    assert_eq!(driver.reactor.table.finish(key), Outcome::Pending);
    assert!(table::renew(fd));
    let (rung, waker) = bell();
    let key = driver.reactor.wait(fd, R, waker).unwrap();
    poll(&mut driver);
    driver.reactor.table.clear_readiness(fd, R);
    a.write_all(b"for the old file").unwrap();
    assert_eq!(poll(&mut driver), 0);
    assert_eq!(
        (rung.rung(), driver.reactor.table.hint(fd, R)),
        (0, Hint::NotReady)
    );
    c.write_all(b"x").unwrap();
    park_until_woken(&mut driver);
    assert_eq!(
        (rung.rung(), driver.reactor.table.finish(key)),
        (1, Outcome::Ready)
    );
    drop(alive);
}

#[test]
fn a_seen_close_ends_the_registration_that_a_dup_would_keep() {
    let (mut a, b) = UnixStream::pair().unwrap();
    let alive = b.try_clone().unwrap();
    let (mut driver, key) = waiting(b.as_raw_fd());
    gone(&mut driver, b.as_raw_fd());
    assert_eq!(driver.reactor.table.finish(key), Outcome::Closed);
    drop(b);
    a.write_all(b"x").unwrap();
    // Somebody must wait, or a look would not ask the kernel at all.
    let (_c, d) = UnixStream::pair().unwrap();
    let key = driver
        .reactor
        .wait(d.as_raw_fd(), R, Waker::noop().clone())
        .unwrap();
    poll(&mut driver);
    assert!(
        driver
            .reactor
            .last_events()
            .iter()
            .all(|event| event.fd == d.as_raw_fd())
    );
    driver.reactor.table.finish(key);
    drop(alive);
}

#[test]
fn renewed_but_not_closed_is_registered_again() {
    let (mut a, b) = UnixStream::pair().unwrap();
    let (mut driver, old) = waiting(b.as_raw_fd());
    assert!(table::renew(b.as_raw_fd()));
    let new = driver
        .reactor
        .wait(b.as_raw_fd(), R, Waker::noop().clone())
        .unwrap();
    assert_eq!(driver.reactor.table.finish(old), Outcome::Closed);
    poll(&mut driver);
    a.write_all(b"x").unwrap();
    park_until_woken(&mut driver);
    assert_eq!(driver.reactor.table.finish(new), Outcome::Ready);
}

#[test]
fn a_validated_waiter_costs_nothing_more() {
    let (_a, b) = UnixStream::pair().unwrap();
    let (mut driver, key) = waiting_again(b.as_raw_fd());
    assert!(driver.reactor.next_validation().is_some());
    while driver.reactor.next_validation().is_some() {
        // The validation's MOD reports that the socket is writable: no one's wake.
        assert_eq!(park(&mut driver), 0);
    }
    // Nothing is due: a park would block, so end it from here.
    driver.reactor.notifier()();
    assert_eq!(park(&mut driver), 0);
    assert_eq!(driver.reactor.next_validation(), None);
    assert_eq!(driver.reactor.table.finish(key), Outcome::Pending);
}

/// Random traffic, closes seen and unseen: whoever waits where there is
/// something to read is woken.
#[test]
fn no_wake_up_is_lost_in_random_traffic() {
    const PAIRS: usize = 8;
    let mut rng = Random::new(42);
    let mut driver = Driver::new(&Epoll).unwrap();
    let fresh = || {
        let (a, b) = UnixStream::pair().unwrap();
        b.set_nonblocking(true).unwrap();
        (a, b)
    };
    let mut pairs: Vec<_> = (0..PAIRS).map(|_| fresh()).collect();
    let mut unread = [0usize; PAIRS];
    let mut waits: [Option<WaitKey>; PAIRS] = Default::default();
    for step in 0..20_000 {
        let i = rng.below(PAIRS as u64) as usize;
        let fd = pairs[i].1.as_raw_fd();
        match rng.below(100) {
            0..40 if unread[i] < 100 => {
                pairs[i].0.write_all(b"x").unwrap();
                unread[i] += 1;
            }
            0..80 => {
                if waits[i].is_some() {
                    continue;
                }
                if driver.reactor.table.hint(fd, R) == Hint::Try {
                    match pairs[i].1.read(&mut [0; 3]) {
                        Ok(n) => {
                            unread[i] -= n;
                            continue;
                        }
                        Err(e) => assert_eq!(e.kind(), io::ErrorKind::WouldBlock),
                    }
                    driver.reactor.table.clear_readiness(fd, R);
                }
                waits[i] = Some(driver.reactor.wait(fd, R, Waker::noop().clone()).unwrap());
            }
            80..97 => {
                poll(&mut driver);
            }
            97 => {
                if let Some(key) = waits[i].take() {
                    driver.reactor.table.finish(key);
                }
            }
            98 => {
                if table::renew(fd) {
                    driver.reactor.fd_gone(fd, &mut Vec::new());
                }
                replace(&mut pairs[i], fresh());
                unread[i] = 0;
            }
            // Only now and then: each costs the delay of a validation.
            _ if step % 10 == 0 => {
                if let Some(key) = waits[i].take() {
                    driver.reactor.table.finish(key);
                }
                replace(&mut pairs[i], fresh());
                unread[i] = 0;
            }
            _ => {}
        }
        if step % 50 == 0 {
            for i in (0..PAIRS).filter(|&i| unread[i] > 0) {
                let Some(key) = waits[i].take() else { continue };
                while driver.reactor.is_pending(&key) {
                    park(&mut driver);
                }
                assert_ne!(driver.reactor.table.finish(key), Outcome::Pending);
            }
        }
    }
    for key in waits.into_iter().flatten() {
        driver.reactor.table.finish(key);
    }
}

/// Puts the file of `new.1` under the number of `old.1`, unseen.
fn replace(old: &mut (UnixStream, UnixStream), new: (UnixStream, UnixStream)) {
    let number = old.1.as_raw_fd();
    let spare = OwnedFd::from(old.1.try_clone().unwrap());
    let target = OwnedFd::from(std::mem::replace(&mut old.1, UnixStream::from(spare)));
    unseen::replace(&OwnedFd::from(new.1), &target);
    assert_eq!(target.as_raw_fd(), number);
    *old = (new.0, UnixStream::from(target));
}

/// Between the look that showed an event and its delivery the number is closed
/// and means another file: the event is not for those who wait for that.
#[test]
fn an_event_from_before_a_close_is_not_delivered() {
    let (mut a, b) = UnixStream::pair().unwrap();
    let b = OwnedFd::from(b);
    let fd = b.as_raw_fd();
    let (mut driver, old) = waiting_again(fd);
    a.write_all(b"x").unwrap();
    let mut woken = Vec::new();
    while driver.reactor.pending_events() == 0 {
        driver.park(driver.clock().moment(), &mut woken).unwrap();
    }
    assert_eq!(gone(&mut driver, fd), 1);
    let (_c, d) = UnixStream::pair().unwrap();
    unseen::replace(&OwnedFd::from(d), &b);
    let (rung, waker) = bell();
    let new = driver.reactor.wait(fd, R, waker).unwrap();
    driver.reactor.dispatch(usize::MAX, &mut woken);
    woken.into_iter().for_each(Waker::wake);
    assert_eq!(
        (rung.rung(), driver.reactor.table.finish(new)),
        (0, Outcome::Pending)
    );
    assert_eq!(driver.reactor.table.finish(old), Outcome::Closed);
}
