//! Hints, events and waits on descriptors that stay what they are.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::task::Waker;

use super::super::*;
use super::{Bell, R, W, bell, park_until_woken, poll, waiting};
use crate::sys::fd::unseen;

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
    let mut driver = Driver::new(&Epoll).unwrap();
    assert_eq!(driver.reactor.table.hint(fd, R), Hint::Try);

    a.write_all(b"x").unwrap();
    let (rung, waker) = bell();
    let key = driver.reactor.wait(fd, R, waker).unwrap();
    park_until_woken(&mut driver);
    assert_eq!(
        (rung.rung(), driver.reactor.table.finish(key)),
        (1, Outcome::Ready)
    );

    b.read_exact(&mut [0]).unwrap();
    driver.reactor.table.clear_readiness(fd, R);
    assert_eq!(
        (
            driver.reactor.table.hint(fd, R),
            driver.reactor.table.hint(fd, W)
        ),
        (Hint::NotReady, Hint::Try)
    );
    let (rung, waker) = bell();
    let key = driver.reactor.wait(fd, R, waker).unwrap();
    assert_eq!(poll(&mut driver), 0);
    a.write_all(b"y").unwrap();
    park_until_woken(&mut driver);
    assert_eq!(driver.reactor.table.hint(fd, R), Hint::Try);
    assert_eq!(
        (rung.rung(), driver.reactor.table.finish(key)),
        (1, Outcome::Ready)
    );
}

#[test]
fn a_wait_given_up_is_pending_and_not_woken() {
    let (mut a, b) = UnixStream::pair().unwrap();
    let mut driver = Driver::new(&Epoll).unwrap();
    let (rung, waker) = bell();
    let given_up = driver.reactor.wait(b.as_raw_fd(), R, waker).unwrap();
    assert_eq!(driver.reactor.table.finish(given_up), Outcome::Pending);
    let key = driver
        .reactor
        .wait(b.as_raw_fd(), R, Waker::noop().clone())
        .unwrap();
    a.write_all(b"x").unwrap();
    park_until_woken(&mut driver);
    assert_eq!(
        (rung.rung(), driver.reactor.table.finish(key)),
        (0, Outcome::Ready)
    );
}

#[test]
fn waiters_in_both_directions_and_several_in_each() {
    let (mut a, mut b) = UnixStream::pair().unwrap();
    b.set_nonblocking(true).unwrap();
    let fd = b.as_raw_fd();
    let mut driver = Driver::new(&Epoll).unwrap();
    while b.write(&[0; 4096]).is_ok() {}
    let readers: Vec<_> = (0..3).map(|_| bell()).collect();
    let writers: Vec<_> = (0..2).map(|_| bell()).collect();
    let mut wait = |bells: &[(Arc<Bell>, Waker)], dir| -> Vec<WaitKey> {
        bells
            .iter()
            .map(|(_, waker)| driver.reactor.wait(fd, dir, waker.clone()).unwrap())
            .collect()
    };
    let (reading, writing) = (wait(&readers, R), wait(&writers, W));
    assert_eq!(poll(&mut driver), 0);

    a.write_all(b"x").unwrap();
    park_until_woken(&mut driver);
    assert!(writers.iter().all(|(bell, _)| bell.rung() == 0));
    in_turns(&mut driver, &readers, reading);

    a.set_nonblocking(true).unwrap();
    while a.read(&mut [0; 65536]).is_ok() {}
    park_until_woken(&mut driver);
    in_turns(&mut driver, &writers, writing);
}

/// One of those that wait has been woken, and each that leaves wakes the next.
fn in_turns(driver: &mut Driver, bells: &[(Arc<Bell>, Waker)], keys: Vec<WaitKey>) {
    let mut waits: Vec<_> = bells.iter().map(|(bell, _)| bell).zip(keys).collect();
    while !waits.is_empty() {
        let rung = |(bell, _): &(&Arc<Bell>, WaitKey)| bell.rung() == 1;
        assert_eq!(waits.iter().filter(|wait| rung(wait)).count(), 1);
        let (_, key) = waits.remove(waits.iter().position(rung).unwrap());
        assert_eq!(driver.reactor.table.finish(key), Outcome::Ready);
        let next = driver.reactor.table.take_next();
        next.into_iter().for_each(Waker::wake);
    }
}

#[test]
fn after_a_short_read_tcp_is_not_ready_and_the_end_still_arrives() {
    let (mut client, mut server) = tcp_pair();
    let fd = server.as_raw_fd();
    let mut driver = Driver::new(&Epoll).unwrap();
    assert!(!driver.reactor.is_stream(fd), "not before it is registered");
    let mut received = 0;
    let mut tries = 0;
    let mut buf = [0; 64];
    client.write_all(b"hello").unwrap();
    loop {
        if driver.reactor.table.hint(fd, R) == Hint::NotReady {
            let key = driver.reactor.wait(fd, R, Waker::noop().clone()).unwrap();
            if received == 10 {
                client.shutdown(std::net::Shutdown::Write).unwrap();
            } else {
                client.write_all(b"world").unwrap();
            }
            park_until_woken(&mut driver);
            assert_eq!(driver.reactor.table.finish(key), Outcome::Ready);
        }
        tries += 1;
        match server.read(&mut buf) {
            Ok(0) => break,
            Ok(n) => {
                received += n;
                if driver.reactor.is_stream(fd) {
                    driver.reactor.table.clear_readiness(fd, R);
                } else {
                    // Registers it.
                    let key = driver.reactor.wait(fd, R, Waker::noop().clone()).unwrap();
                    assert_eq!(driver.reactor.table.finish(key), Outcome::Pending);
                }
            }
            Err(e) => {
                assert_eq!(e.kind(), io::ErrorKind::WouldBlock);
                driver.reactor.table.clear_readiness(fd, R);
            }
        }
    }
    // hello · EAGAIN after registering · world · end.
    assert_eq!((received, tries), (10, 4));
    // The end stays readable for ever: its readiness is never cleared again.
    driver.reactor.table.clear_readiness(fd, R);
    assert_eq!(driver.reactor.table.hint(fd, R), Hint::Try);
}

#[test]
fn urgent_data_ends_the_trust_in_short_reads() {
    let (mut client, mut server) = tcp_pair();
    let fd = server.as_raw_fd();
    let (mut driver, key) = waiting(fd);
    assert!(driver.reactor.is_stream(fd));
    client.write_all(b"before").unwrap();
    unseen::send_urgent(client.as_raw_fd(), b'!');
    client.write_all(b"behind").unwrap();
    park_until_woken(&mut driver);
    assert_eq!(driver.reactor.table.finish(key), Outcome::Ready);
    let mut buf = [0; 64];
    let n = server.read(&mut buf).unwrap();
    assert!(
        n < 12,
        "the kernel stops at the mark: the case that matters"
    );
    // Either the mark was seen by now, or its event is still to come.
    while driver.reactor.is_stream(fd) {
        driver.reactor.table.clear_readiness(fd, R);
        let key = driver.reactor.wait(fd, R, Waker::noop().clone()).unwrap();
        park_until_woken(&mut driver);
        assert_eq!(driver.reactor.table.finish(key), Outcome::Ready);
    }
    assert_eq!(&buf[..n], b"before");
    let n = server.read(&mut buf).unwrap();
    assert_eq!(&buf[..n], b"behind");
}

#[test]
fn only_of_tcp_a_short_read_says_that_it_is_not_ready() {
    let (a, _b) = UnixStream::pair().unwrap();
    let (reader, _writer) = io::pipe().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    for (fd, stream) in [
        (a.as_raw_fd(), false),
        (reader.as_raw_fd(), false),
        (listener.as_raw_fd(), true),
    ] {
        let (mut driver, key) = waiting(fd);
        assert_eq!(driver.reactor.is_stream(fd), stream);
        driver.reactor.table.finish(key);
    }
}

#[test]
fn a_hang_up_wakes_both_directions_and_sticks() {
    let (a, mut b) = UnixStream::pair().unwrap();
    b.set_nonblocking(true).unwrap();
    let fd = b.as_raw_fd();
    let mut driver = Driver::new(&Epoll).unwrap();
    while b.write(&[0; 4096]).is_ok() {}
    let reading = driver.reactor.wait(fd, R, Waker::noop().clone()).unwrap();
    let writing = driver.reactor.wait(fd, W, Waker::noop().clone()).unwrap();
    drop(a);
    park_until_woken(&mut driver);
    assert_eq!(
        (
            driver.reactor.table.finish(reading),
            driver.reactor.table.finish(writing)
        ),
        (Outcome::Ready, Outcome::Ready)
    );
    for direction in [R, W] {
        driver.reactor.table.clear_readiness(fd, direction);
        assert_eq!(driver.reactor.table.hint(fd, direction), Hint::Try);
    }
}

#[test]
fn a_pipe_whose_reader_is_gone_wakes_the_writer() {
    let (reader, writer) = io::pipe().unwrap();
    let mut driver = Driver::new(&Epoll).unwrap();
    let key = driver
        .reactor
        .wait(writer.as_raw_fd(), R, Waker::noop().clone())
        .unwrap();
    poll(&mut driver);
    drop(reader);
    park_until_woken(&mut driver);
    assert_eq!(driver.reactor.table.finish(key), Outcome::Ready);
}

#[test]
fn eventfds_are_ready_after_every_write() {
    let fd = unseen::eventfd();
    let mut file = std::fs::File::from(fd);
    let (mut driver, mut key) = waiting(file.as_raw_fd());
    for round in 1..=3u64 {
        file.write_all(&round.to_ne_bytes()).unwrap();
        park_until_woken(&mut driver);
        assert_eq!(driver.reactor.table.finish(key), Outcome::Ready);
        let mut buf = [0; 8];
        file.read_exact(&mut buf).unwrap();
        assert_eq!(u64::from_ne_bytes(buf), round);
        driver.reactor.table.clear_readiness(file.as_raw_fd(), R);
        key = driver
            .reactor
            .wait(file.as_raw_fd(), R, Waker::noop().clone())
            .unwrap();
    }
    assert_eq!(driver.reactor.table.finish(key), Outcome::Pending);
}

#[test]
fn what_cannot_be_waited_for_is_an_error() {
    let mut driver = Driver::new(&Epoll).unwrap();
    let file = std::fs::File::open(std::env::current_exe().unwrap()).unwrap();
    let mut wait = |fd| {
        driver
            .reactor
            .wait(fd, R, Waker::noop().clone())
            .unwrap_err()
    };
    assert_eq!(wait(file.as_raw_fd()), WatchError::AlwaysReady);
    assert_eq!(wait(-1), WatchError::NotOpen);
    assert_eq!(wait(1_000_000), WatchError::NotOpen);
    assert_eq!(driver.reactor.table.hint(-1, R), Hint::Try);
    driver.reactor.table.clear_readiness(-1, R);
    assert!(!driver.reactor.is_stream(-1));
}

#[test]
fn events_are_dispatched_as_few_at_a_time_as_is_asked() {
    const PAIRS: usize = 10;
    let mut driver = Driver::new(&Epoll).unwrap();
    let mut pairs: Vec<_> = (0..PAIRS).map(|_| UnixStream::pair().unwrap()).collect();
    let waits: Vec<_> = pairs
        .iter_mut()
        .map(|(a, b)| {
            let (rung, waker) = bell();
            let key = driver.reactor.wait(b.as_raw_fd(), R, waker).unwrap();
            a.write_all(b"x").unwrap();
            (rung, key)
        })
        .collect();
    let mut woken = Vec::new();
    while driver.reactor.pending_events() < PAIRS {
        assert_eq!(
            driver.reactor.pending_events(),
            0,
            "a look shows all that is ready"
        );
        driver.park(driver.clock().moment(), &mut woken).unwrap();
    }
    for left in [PAIRS - 3, PAIRS - 6, PAIRS - 9, 0] {
        driver.reactor.dispatch(3, &mut woken);
        assert_eq!(
            (driver.reactor.pending_events(), woken.len()),
            (left, PAIRS - left)
        );
        // As long as there is a backlog nobody sleeps, and none is lost.
        driver.park(driver.clock().moment(), &mut woken).unwrap();
    }
    woken.into_iter().for_each(Waker::wake);
    for (rung, key) in waits {
        assert_eq!(
            (rung.rung(), driver.reactor.table.finish(key)),
            (1, Outcome::Ready)
        );
    }
}

/// Who reads what an event is about before the event is delivered is woken for
/// nothing, once; and what comes after that wakes him as well.
#[test]
fn an_event_that_comes_late_is_no_more_than_a_spurious_wake_up() {
    let (mut client, mut server) = tcp_pair();
    let fd = server.as_raw_fd();
    let (mut driver, key) = waiting(fd);
    assert_eq!(driver.reactor.table.finish(key), Outcome::Pending);
    client.write_all(b"x").unwrap();
    let mut woken = Vec::new();
    while driver.reactor.pending_events() == 0 {
        driver.park(driver.clock().moment(), &mut woken).unwrap();
    }
    server.read_exact(&mut [0]).unwrap();
    driver.reactor.moved_short(fd, R);
    let (rung, waker) = bell();
    let early = driver
        .reactor
        .wait_if_not_ready(fd, R, waker)
        .expect("it is not ready");
    driver.reactor.dispatch(1, &mut woken);
    woken.drain(..).for_each(Waker::wake);
    assert_eq!(
        (rung.rung(), driver.reactor.table.finish(early)),
        (1, Outcome::Ready)
    );
    assert_eq!(driver.reactor.table.hint(fd, R), Hint::Try);

    assert_eq!(
        server.read(&mut [0]).unwrap_err().kind(),
        io::ErrorKind::WouldBlock
    );
    driver.reactor.table.clear_readiness(fd, R);
    let (rung, waker) = bell();
    let key = driver
        .reactor
        .wait_if_not_ready(fd, R, waker)
        .expect("it is not ready");
    client.write_all(b"y").unwrap();
    park_until_woken(&mut driver);
    assert_eq!(
        (rung.rung(), driver.reactor.table.finish(key)),
        (1, Outcome::Ready)
    );
}
