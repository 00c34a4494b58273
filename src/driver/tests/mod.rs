//! The driver on real descriptors. Whatever depends on time parks until it has happened: a lost wake-up hangs the test.

mod closed;
mod memory;
mod readiness;
mod table;
mod time;

use std::os::fd::RawFd;
use std::task::Waker;

use super::fuzz_ops::{Bell, bell};
use super::{Direction, Driver, Epoll, WaitKey};
use Direction::{Read as R, Write as W};

/// One look; wakes all that it says to wake and counts them.
fn look(driver: &mut Driver, look: impl FnOnce(&mut Driver, &mut Vec<Waker>)) -> usize {
    let mut woken = Vec::new();
    look(driver, &mut woken);
    driver.reactor.dispatch(usize::MAX, &mut woken);
    let count = woken.len();
    woken.into_iter().for_each(Waker::wake);
    count
}

/// Never blocks.
fn poll(driver: &mut Driver) -> usize {
    look(driver, |driver, woken| {
        driver.poll(driver.clock().moment(), woken).unwrap()
    })
}

/// Blocks until something happens.
fn park(driver: &mut Driver) -> usize {
    look(driver, |driver, woken| {
        driver.park(driver.clock().moment(), woken).unwrap();
    })
}

/// Blocks until a waker is woken.
fn park_until_woken(driver: &mut Driver) {
    while park(driver) == 0 {}
}

/// A driver with a waiter for reading on `fd`, not yet ready.
fn waiting(fd: RawFd) -> (Driver, WaitKey) {
    let mut driver = Driver::new(&Epoll).unwrap();
    let key = driver.reactor.wait(fd, R, Waker::noop().clone()).unwrap();
    poll(&mut driver);
    (driver, key)
}
