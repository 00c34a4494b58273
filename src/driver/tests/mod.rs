//! The driver on real descriptors. Whatever depends on time parks until it has happened: a lost wake-up hangs the test.

mod closed;
mod readiness;
mod table;
mod time;

use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};
use std::time::Instant;

use super::{Direction, Driver, Epoll, WaitKey};
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
        driver.poll(Instant::now(), woken).unwrap()
    })
}

/// Blocks until something happens.
fn park(driver: &mut Driver) -> usize {
    look(driver, |driver, woken| {
        driver.park(Instant::now(), woken).unwrap();
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
