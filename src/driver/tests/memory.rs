//! The driver on files in memory, where time passes only in its sleep.

use std::task::Waker;
use std::time::{Duration, Instant};

use super::super::memory::{FileKind, MemoryBackend};
use super::super::poller::Readiness;
use super::super::*;
use super::{R, W, bell, park, park_until_woken, poll};

/// Numbers that nobody else in this process has.
const FD: RawFd = 8_000;

fn on_memory() -> (MemoryBackend, Driver) {
    let memory = MemoryBackend::new();
    let driver = Driver::new(&memory).unwrap();
    (memory, driver)
}

#[test]
fn hours_of_timers_pass_at_once_and_none_is_early_or_late() {
    let (_memory, mut driver) = on_memory();
    let (real, start) = (Instant::now(), driver.clock().now());
    let hour = Duration::from_secs(3600);
    let timers = [3, 1, 2].map(|hours| {
        let (rung, waker) = bell();
        let deadline = start + hour * hours;
        (driver.insert_timer(deadline, waker), rung, deadline)
    });
    // One that is taken back when the sleep has been set to end for it: that
    // ends once for nothing.
    let (removed, waker) = bell();
    let soon = driver.insert_timer(start + hour / 2, waker);
    driver.reactor.notifier()();
    assert_eq!(park(&mut driver), 0);
    assert!(driver.remove_timer(soon));
    assert_eq!(park(&mut driver), 0);
    assert!(driver.clock().now() - start < hour);
    for hours in 1..=3 {
        let at = start + hour * hours;
        let expected = timers.iter().find(|(.., deadline)| *deadline == at);
        let (_, rung, _) = expected.unwrap();
        park_until_woken(&mut driver);
        let late = driver.clock().now() - at;
        assert!(late < Duration::from_millis(1), "{late:?}");
        assert_eq!(rung.rung(), 1);
    }
    assert_eq!(removed.rung(), 0);
    assert!(real.elapsed() < hour, "the time is not the machine's");
}

#[test]
fn a_waiter_is_woken_by_its_file_and_knows_how_long_it_waited() {
    let (memory, mut driver) = on_memory();
    memory.open(FD, FileKind::Tcp);
    let (rung, waker) = bell();
    let key = driver.reactor.wait(FD, R, waker).unwrap();
    let minute = Duration::from_secs(60);
    let start = driver.clock().now();
    let (_, waker) = bell();
    driver.insert_timer(start + minute, waker);
    park_until_woken(&mut driver);
    let waits: Vec<_> = driver
        .waits()
        .map(|(_, target, since)| (target, since))
        .collect();
    let [(WaitTarget::Descriptor(FD, Condition::Read), Some(since))] = waits[..] else {
        panic!("{waits:?}");
    };
    assert!(since >= minute && since < minute * 2, "{since:?}");
    assert_eq!(rung.rung(), 0);
    memory.set_ready(FD, Readiness::READABLE, true);
    assert_eq!(poll(&mut driver), 1);
    assert_eq!(
        (rung.rung(), driver.reactor.table.finish(key)),
        (1, Outcome::Ready)
    );
}

#[test]
fn a_file_or_a_notifier_ends_a_sleep_without_a_timer() {
    let (memory, mut driver) = on_memory();
    memory.open(FD + 1, FileKind::Other);
    let key = driver
        .reactor
        .wait(FD + 1, W, Waker::noop().clone())
        .unwrap();
    // Time for its registration to be validated: then nothing is due.
    let second = driver.clock().now() + Duration::from_secs(1);
    driver.insert_timer(second, Waker::noop().clone());
    park_until_woken(&mut driver);
    assert_eq!(driver.reactor.next_validation(), None);
    let notify = driver.reactor.notifier();
    let thread = std::thread::spawn(notify);
    assert_eq!(park(&mut driver), 0);
    thread.join().unwrap();
    let ready = Readiness {
        write: true,
        ..Readiness::READABLE
    };
    let thread = std::thread::spawn(move || memory.set_ready(FD + 1, ready, true));
    assert_eq!(park(&mut driver), 1);
    thread.join().unwrap();
    assert_eq!(driver.reactor.table.finish(key), Outcome::Ready);
}

#[test]
fn each_reason_not_to_watch_is_told() {
    let (memory, mut driver) = on_memory();
    let mut wait = |fd| driver.reactor.wait(fd, R, Waker::noop().clone());
    assert_eq!(wait(FD + 2).unwrap_err(), WatchError::NotOpen);
    memory.open(FD + 2, FileKind::Regular);
    assert_eq!(wait(FD + 2).unwrap_err(), WatchError::AlwaysReady);
    memory.open(FD + 2, FileKind::Other);
    memory.set_exhausted(true);
    assert!(matches!(
        wait(FD + 2).unwrap_err(),
        WatchError::Exhausted(_)
    ));
    memory.set_exhausted(false);
    let key = wait(FD + 2).unwrap();
    assert_eq!(driver.reactor.table.finish(key), Outcome::Pending);
}

#[test]
fn a_close_between_registering_and_the_wait_is_one_of_the_number_that_waits() {
    let (memory, mut driver) = on_memory();
    memory.open(FD + 3, FileKind::Other);
    memory.close_when_registered();
    let (rung, waker) = bell();
    let key = driver.reactor.wait(FD + 3, R, waker).unwrap();
    let mut woken = Vec::new();
    driver.reactor.fd_gone(FD + 3, &mut woken);
    woken.into_iter().for_each(Waker::wake);
    assert_eq!(rung.rung(), 1);
    assert_eq!(driver.reactor.table.finish(key), Outcome::Closed);
}
