//! The driver on real descriptors. Whatever depends on time loops on blocking
//! turns until it has happened: a lost wake-up hangs the test.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use super::rng::Rng;
use super::*;
use crate::sys::fd::{EBADF, unseen};
use Direction::{Read as R, Write as W};

/// Counts its wakes.
#[derive(Default)]
struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Bell {
    fn rung(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

fn bell() -> (Arc<Bell>, Waker) {
    let bell = Arc::new(Bell::default());
    (Arc::clone(&bell), Waker::from(bell))
}

/// One turn; wakes all that it says to wake and counts them.
fn turn(driver: &mut Driver, mode: Turn) -> usize {
    let mut woken = Vec::new();
    driver.turn(mode, &mut woken).unwrap();
    let count = woken.len();
    woken.into_iter().for_each(Waker::wake);
    count
}

/// Blocks until somebody is woken.
fn park(driver: &mut Driver) {
    while turn(driver, Turn::Park) == 0 {}
}

/// Declares a close to the driver, as the hooks do.
fn gone(driver: &mut Driver, fd: RawFd) -> usize {
    assert!(epoch::bump(fd), "tracked");
    let mut woken = Vec::new();
    driver.fd_gone(fd, &mut woken);
    woken.len()
}

/// A driver with a waiter for reading on `fd`, not yet ready.
fn waiting(fd: RawFd) -> (Driver, WaitKey) {
    let mut driver = Driver::new().unwrap();
    let key = driver.wait(fd, R, Waker::noop().clone()).unwrap();
    turn(&mut driver, Turn::Poll);
    (driver, key)
}

/// The same, of a fd that is registered and checked already and whose state
/// was reported: nothing more will come for what is the case now.
fn waiting_again(fd: RawFd) -> (Driver, WaitKey) {
    let (mut driver, key) = waiting(fd);
    assert_eq!(driver.finish(key), Outcome::Pending);
    driver.drained(fd, R);
    let key = driver.wait(fd, R, Waker::noop().clone()).unwrap();
    (driver, key)
}

fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let server = listener.accept().unwrap().0;
    server.set_nonblocking(true).unwrap();
    server.set_nodelay(true).unwrap();
    client.set_nodelay(true).unwrap();
    (client, server)
}

#[test]
fn ready_before_and_after_the_wait() {
    let (mut a, mut b) = UnixStream::pair().unwrap();
    let fd = b.as_raw_fd();
    let mut driver = Driver::new().unwrap();
    assert_eq!(driver.hint(fd, R), Hint::Try);

    a.write_all(b"x").unwrap();
    let (rung, waker) = bell();
    let key = driver.wait(fd, R, waker).unwrap();
    park(&mut driver);
    assert_eq!((rung.rung(), driver.finish(key)), (1, Outcome::Ready));

    b.read_exact(&mut [0]).unwrap();
    driver.drained(fd, R);
    assert_eq!(
        (driver.hint(fd, R), driver.hint(fd, W)),
        (Hint::Drained, Hint::Try)
    );
    let (rung, waker) = bell();
    let key = driver.wait(fd, R, waker).unwrap();
    assert_eq!(turn(&mut driver, Turn::Poll), 0);
    a.write_all(b"y").unwrap();
    park(&mut driver);
    assert_eq!(driver.hint(fd, R), Hint::Try);
    assert_eq!((rung.rung(), driver.finish(key)), (1, Outcome::Ready));
}

#[test]
fn a_wait_given_up_is_pending_and_not_woken() {
    let (mut a, b) = UnixStream::pair().unwrap();
    let mut driver = Driver::new().unwrap();
    let (rung, waker) = bell();
    let given_up = driver.wait(b.as_raw_fd(), R, waker).unwrap();
    assert_eq!(driver.finish(given_up), Outcome::Pending);
    let key = driver
        .wait(b.as_raw_fd(), R, Waker::noop().clone())
        .unwrap();
    a.write_all(b"x").unwrap();
    park(&mut driver);
    assert_eq!((rung.rung(), driver.finish(key)), (0, Outcome::Ready));
}

#[test]
fn waiters_in_both_directions_and_several_in_each() {
    let (mut a, mut b) = UnixStream::pair().unwrap();
    b.set_nonblocking(true).unwrap();
    let fd = b.as_raw_fd();
    let mut driver = Driver::new().unwrap();
    while b.write(&[0; 4096]).is_ok() {}
    let readers: Vec<_> = (0..3).map(|_| bell()).collect();
    let writers: Vec<_> = (0..2).map(|_| bell()).collect();
    let mut wait = |bells: &[(Arc<Bell>, Waker)], dir| -> Vec<WaitKey> {
        bells
            .iter()
            .map(|(_, waker)| driver.wait(fd, dir, waker.clone()).unwrap())
            .collect()
    };
    let (reading, writing) = (wait(&readers, R), wait(&writers, W));
    assert_eq!(turn(&mut driver, Turn::Poll), 0);

    a.write_all(b"x").unwrap();
    park(&mut driver);
    assert!(readers.iter().all(|(bell, _)| bell.rung() == 1));
    assert!(writers.iter().all(|(bell, _)| bell.rung() == 0));
    assert!(
        reading
            .into_iter()
            .all(|key| driver.finish(key) == Outcome::Ready)
    );

    a.set_nonblocking(true).unwrap();
    while a.read(&mut [0; 65536]).is_ok() {}
    park(&mut driver);
    assert!(writers.iter().all(|(bell, _)| bell.rung() == 1));
    assert!(
        writing
            .into_iter()
            .all(|key| driver.finish(key) == Outcome::Ready)
    );
}

#[test]
fn a_short_read_drains_tcp_and_the_end_still_arrives() {
    let (mut client, mut server) = tcp_pair();
    let fd = server.as_raw_fd();
    let mut driver = Driver::new().unwrap();
    assert!(!driver.stream(fd), "not before it is registered");
    let mut received = 0;
    let mut tries = 0;
    let mut buf = [0; 64];
    client.write_all(b"hello").unwrap();
    loop {
        if driver.hint(fd, R) == Hint::Drained {
            let key = driver.wait(fd, R, Waker::noop().clone()).unwrap();
            if received == 10 {
                client.shutdown(std::net::Shutdown::Write).unwrap();
            } else {
                client.write_all(b"world").unwrap();
            }
            park(&mut driver);
            assert_eq!(driver.finish(key), Outcome::Ready);
        }
        tries += 1;
        match server.read(&mut buf) {
            Ok(0) => break,
            Ok(n) => {
                received += n;
                if driver.stream(fd) {
                    driver.drained(fd, R);
                } else {
                    // Registers it.
                    let key = driver.wait(fd, R, Waker::noop().clone()).unwrap();
                    assert_eq!(driver.finish(key), Outcome::Pending);
                }
            }
            Err(e) => {
                assert_eq!(e.kind(), io::ErrorKind::WouldBlock);
                driver.drained(fd, R);
            }
        }
    }
    // hello · EAGAIN after registering · world · end.
    assert_eq!((received, tries), (10, 4));
    // The end stays readable for ever: never drained again.
    driver.drained(fd, R);
    assert_eq!(driver.hint(fd, R), Hint::Try);
}

#[test]
fn urgent_data_ends_the_trust_in_short_reads() {
    let (mut client, mut server) = tcp_pair();
    let fd = server.as_raw_fd();
    let (mut driver, key) = waiting(fd);
    assert!(driver.stream(fd));
    client.write_all(b"before").unwrap();
    unseen::send_urgent(client.as_raw_fd(), b'!');
    client.write_all(b"behind").unwrap();
    park(&mut driver);
    assert_eq!(driver.finish(key), Outcome::Ready);
    let mut buf = [0; 64];
    let n = server.read(&mut buf).unwrap();
    assert!(
        n < 12,
        "the kernel stops at the mark: the case that matters"
    );
    // Either the mark was seen by now, or its event is still to come.
    while driver.stream(fd) {
        driver.drained(fd, R);
        let key = driver.wait(fd, R, Waker::noop().clone()).unwrap();
        park(&mut driver);
        assert_eq!(driver.finish(key), Outcome::Ready);
    }
    assert_eq!(&buf[..n], b"before");
    let n = server.read(&mut buf).unwrap();
    assert_eq!(&buf[..n], b"behind");
}

#[test]
fn only_tcp_drains_by_short_reads() {
    let (a, _b) = UnixStream::pair().unwrap();
    let (reader, _writer) = io::pipe().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    for (fd, stream) in [
        (a.as_raw_fd(), false),
        (reader.as_raw_fd(), false),
        (listener.as_raw_fd(), true),
    ] {
        let (mut driver, key) = waiting(fd);
        assert_eq!(driver.stream(fd), stream);
        driver.finish(key);
    }
}

#[test]
fn a_hang_up_wakes_both_directions_and_sticks() {
    let (a, mut b) = UnixStream::pair().unwrap();
    b.set_nonblocking(true).unwrap();
    let fd = b.as_raw_fd();
    let mut driver = Driver::new().unwrap();
    while b.write(&[0; 4096]).is_ok() {}
    let reading = driver.wait(fd, R, Waker::noop().clone()).unwrap();
    let writing = driver.wait(fd, W, Waker::noop().clone()).unwrap();
    drop(a);
    park(&mut driver);
    assert_eq!(
        (driver.finish(reading), driver.finish(writing)),
        (Outcome::Ready, Outcome::Ready)
    );
    for direction in [R, W] {
        driver.drained(fd, direction);
        assert_eq!(driver.hint(fd, direction), Hint::Try);
    }
}

#[test]
fn a_pipe_whose_reader_is_gone_wakes_the_writer() {
    let (reader, writer) = io::pipe().unwrap();
    let mut driver = Driver::new().unwrap();
    let key = driver
        .wait(writer.as_raw_fd(), R, Waker::noop().clone())
        .unwrap();
    turn(&mut driver, Turn::Poll);
    drop(reader);
    park(&mut driver);
    assert_eq!(driver.finish(key), Outcome::Ready);
}

#[test]
fn eventfds_are_ready_after_every_write() {
    let fd = unseen::eventfd();
    let mut file = std::fs::File::from(fd);
    let (mut driver, mut key) = waiting(file.as_raw_fd());
    for round in 1..=3u64 {
        file.write_all(&round.to_ne_bytes()).unwrap();
        park(&mut driver);
        assert_eq!(driver.finish(key), Outcome::Ready);
        let mut buf = [0; 8];
        file.read_exact(&mut buf).unwrap();
        assert_eq!(u64::from_ne_bytes(buf), round);
        driver.drained(file.as_raw_fd(), R);
        key = driver
            .wait(file.as_raw_fd(), R, Waker::noop().clone())
            .unwrap();
    }
    assert_eq!(driver.finish(key), Outcome::Pending);
}

#[test]
fn closing_resolves_the_waiters_as_closed() {
    let (_a, b) = UnixStream::pair().unwrap();
    let fd = b.as_raw_fd();
    let (mut driver, reading) = waiting_again(fd);
    let writing = driver.wait(fd, W, Waker::noop().clone()).unwrap();
    assert_eq!(driver.hint(fd, R), Hint::Drained);
    assert_eq!(gone(&mut driver, fd), 2);
    assert_eq!(driver.hint(fd, R), Hint::Try);
    // The descriptor lives on until the real close; a second notice is void.
    assert_eq!(gone(&mut driver, fd), 0);
    drop(b);
    assert_eq!(driver.finish(reading), Outcome::Closed);
    assert_eq!(driver.finish(writing), Outcome::Closed);
}

#[test]
fn woken_but_closed_before_it_ran_is_closed() {
    let (mut a, b) = UnixStream::pair().unwrap();
    let (mut driver, key) = waiting(b.as_raw_fd());
    a.write_all(b"x").unwrap();
    park(&mut driver);
    assert_eq!(gone(&mut driver, b.as_raw_fd()), 0);
    assert_eq!(driver.finish(key), Outcome::Closed);
}

#[test]
fn a_bump_alone_makes_way_for_the_new_file() {
    let (_a, b) = UnixStream::pair().unwrap();
    let (mut c, d) = UnixStream::pair().unwrap();
    let (b, d) = (OwnedFd::from(b), OwnedFd::from(d));
    let fd = b.as_raw_fd();
    let (mut driver, old) = waiting_again(fd);
    assert!(epoch::bump(fd));
    unseen::replace(&d, &b);
    assert_eq!(driver.hint(fd, R), Hint::Try);
    let (rung, waker) = bell();
    let new = driver.wait(fd, R, waker).unwrap();
    // A notice that comes late does not touch the new registration.
    let mut woken = Vec::new();
    driver.fd_gone(fd, &mut woken);
    assert!(woken.is_empty());
    // The old waiter is woken by the next turn, which does not block for it.
    assert_eq!(turn(&mut driver, Turn::Park), 1);
    assert_eq!(driver.finish(old), Outcome::Closed);
    c.write_all(b"x").unwrap();
    park(&mut driver);
    assert_eq!((rung.rung(), driver.finish(new)), (1, Outcome::Ready));
}

#[test]
fn an_unseen_replacement_costs_a_delay_not_the_wake_up() {
    let (_a, b) = UnixStream::pair().unwrap();
    let (mut c, d) = UnixStream::pair().unwrap();
    let (b, d) = (OwnedFd::from(b), OwnedFd::from(d));
    let (mut driver, key) = waiting_again(b.as_raw_fd());
    unseen::replace(&d, &b);
    c.write_all(b"x").unwrap();
    park(&mut driver);
    assert_eq!(driver.finish(key), Outcome::Ready);
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
    park(&mut driver);
    assert_eq!(
        (driver.finish(key), driver.stream(fd)),
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
    park(&mut driver);
    assert_eq!(driver.finish(key), Outcome::Closed);
}

#[test]
fn an_unseen_turn_into_a_plain_file_makes_the_waiter_try() {
    let (_a, b) = UnixStream::pair().unwrap();
    let b = OwnedFd::from(b);
    let file = OwnedFd::from(std::fs::File::open(std::env::current_exe().unwrap()).unwrap());
    let (mut driver, key) = waiting_again(b.as_raw_fd());
    unseen::replace(&file, &b);
    park(&mut driver);
    assert_eq!(driver.finish(key), Outcome::Ready);
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
    assert_eq!(driver.finish(key), Outcome::Pending);
    assert!(epoch::bump(fd));
    let (rung, waker) = bell();
    let key = driver.wait(fd, R, waker).unwrap();
    turn(&mut driver, Turn::Poll);
    driver.drained(fd, R);
    a.write_all(b"for the old file").unwrap();
    assert_eq!(turn(&mut driver, Turn::Poll), 0);
    assert_eq!((rung.rung(), driver.hint(fd, R)), (0, Hint::Drained));
    c.write_all(b"x").unwrap();
    park(&mut driver);
    assert_eq!((rung.rung(), driver.finish(key)), (1, Outcome::Ready));
    drop(alive);
}

#[test]
fn a_seen_close_ends_the_registration_that_a_dup_would_keep() {
    let (mut a, b) = UnixStream::pair().unwrap();
    let alive = b.try_clone().unwrap();
    let (mut driver, key) = waiting(b.as_raw_fd());
    gone(&mut driver, b.as_raw_fd());
    assert_eq!(driver.finish(key), Outcome::Closed);
    drop(b);
    a.write_all(b"x").unwrap();
    // Somebody must wait, or the turn would not ask the kernel at all.
    let (_c, d) = UnixStream::pair().unwrap();
    let key = driver
        .wait(d.as_raw_fd(), R, Waker::noop().clone())
        .unwrap();
    turn(&mut driver, Turn::Poll);
    assert!(
        driver
            .reactor
            .last_tokens()
            .all(|t| t.0 as u32 as RawFd == d.as_raw_fd())
    );
    driver.finish(key);
    drop(alive);
}

#[test]
fn bumped_but_not_closed_is_registered_again() {
    let (mut a, b) = UnixStream::pair().unwrap();
    let (mut driver, old) = waiting(b.as_raw_fd());
    assert!(epoch::bump(b.as_raw_fd()));
    let new = driver
        .wait(b.as_raw_fd(), R, Waker::noop().clone())
        .unwrap();
    assert_eq!(driver.finish(old), Outcome::Closed);
    turn(&mut driver, Turn::Poll);
    a.write_all(b"x").unwrap();
    park(&mut driver);
    assert_eq!(driver.finish(new), Outcome::Ready);
}

#[test]
fn what_cannot_be_waited_for_is_an_error() {
    let mut driver = Driver::new().unwrap();
    let file = std::fs::File::open(std::env::current_exe().unwrap()).unwrap();
    let mut wait = |fd| driver.wait(fd, R, Waker::noop().clone()).unwrap_err();
    assert_eq!(
        wait(file.as_raw_fd()).kind(),
        io::ErrorKind::PermissionDenied
    );
    assert_eq!(wait(-1).raw_os_error(), Some(EBADF));
    assert_eq!(wait(1_000_000).raw_os_error(), Some(EBADF));
    assert_eq!(driver.hint(-1, R), Hint::Try);
    driver.drained(-1, R);
    assert!(!driver.stream(-1));
}

#[test]
fn a_checked_waiter_costs_nothing_more() {
    let (_a, b) = UnixStream::pair().unwrap();
    let (mut driver, key) = waiting_again(b.as_raw_fd());
    assert!(driver.reactor.next_check().is_some());
    while driver.reactor.next_check().is_some() {
        // The check's MOD reports that the socket is writable: no one's wake.
        assert_eq!(turn(&mut driver, Turn::Park), 0);
    }
    // Nothing is due: a turn would block, so end it from here.
    driver.remote_waker().wake().unwrap();
    assert_eq!(turn(&mut driver, Turn::Park), 0);
    assert_eq!(driver.reactor.next_check(), None);
    assert_eq!(driver.finish(key), Outcome::Pending);
}

#[test]
fn timers_are_never_early_and_short_ones_are_short() {
    let mut driver = Driver::new().unwrap();
    for micros in [0, 1, 50, 200, 1000, 5000] {
        let wanted = Duration::from_micros(micros);
        let mut best = Duration::MAX;
        for _ in 0..10 {
            let start = Instant::now();
            let (rung, waker) = bell();
            let key = driver.insert_timer(start + wanted, waker);
            assert!(driver.next_timer().unwrap() <= start + wanted + Duration::from_micros(66));
            park(&mut driver);
            let took = start.elapsed();
            assert!(took >= wanted, "{took:?} for {wanted:?}");
            assert_eq!(rung.rung(), 1);
            assert!(!driver.remove_timer(key), "it has fired");
            best = best.min(took);
        }
        // The best of ten: a loaded machine may be late, a tick of 1 ms is
        // late every time.
        assert!(
            best < wanted + Duration::from_micros(300),
            "{best:?} for {wanted:?}"
        );
    }
}

#[test]
fn removed_timers_do_not_ring_and_later_ones_do() {
    let mut driver = Driver::new().unwrap();
    let now = Instant::now();
    let (soon, waker) = bell();
    let key = driver.insert_timer(now + Duration::from_millis(2), waker);
    let far = driver.insert_timer(now + Duration::from_secs(1 << 40), Waker::noop().clone());
    let (_, waker) = bell();
    driver.insert_timer(now, waker);
    park(&mut driver);
    assert!(driver.remove_timer(key));
    assert!(!driver.remove_timer(key));
    let (later, waker) = bell();
    driver.insert_timer(now + Duration::from_millis(4), waker);
    park(&mut driver);
    assert_eq!((soon.rung(), later.rung()), (0, 1));
    assert!(now.elapsed() >= Duration::from_millis(4));
    assert!(driver.remove_timer(far));
    assert_eq!(driver.next_timer(), None);
}

#[test]
fn another_thread_ends_a_blocking_turn() {
    let mut driver = Driver::new().unwrap();
    let remote = driver.remote_waker();
    let thread = std::thread::spawn(move || remote.wake().unwrap());
    assert_eq!(turn(&mut driver, Turn::Park), 0);
    thread.join().unwrap();
    // And one that came before the turn.
    driver.remote_waker().wake().unwrap();
    assert_eq!(turn(&mut driver, Turn::Park), 0);
}

/// Random traffic, closes seen and unseen: whoever waits where there is
/// something to read is woken.
#[test]
fn no_wake_up_is_lost_in_random_traffic() {
    const PAIRS: usize = 8;
    let mut rng = Rng::new(42);
    let mut driver = Driver::new().unwrap();
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
                if driver.hint(fd, R) == Hint::Try {
                    match pairs[i].1.read(&mut [0; 3]) {
                        Ok(n) => {
                            unread[i] -= n;
                            continue;
                        }
                        Err(e) => assert_eq!(e.kind(), io::ErrorKind::WouldBlock),
                    }
                    driver.drained(fd, R);
                }
                waits[i] = Some(driver.wait(fd, R, Waker::noop().clone()).unwrap());
            }
            80..97 => {
                turn(&mut driver, Turn::Poll);
            }
            97 => {
                if let Some(key) = waits[i].take() {
                    driver.finish(key);
                }
            }
            98 => {
                if epoch::bump(fd) {
                    driver.fd_gone(fd, &mut Vec::new());
                }
                replace(&mut pairs[i], fresh());
                unread[i] = 0;
            }
            // Only now and then: each costs the delay of a check.
            _ if step % 10 == 0 => {
                if let Some(key) = waits[i].take() {
                    driver.finish(key);
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
                    turn(&mut driver, Turn::Park);
                }
                assert_ne!(driver.finish(key), Outcome::Pending);
            }
        }
    }
    waits
        .into_iter()
        .flatten()
        .for_each(|key| drop(driver.finish(key)));
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
