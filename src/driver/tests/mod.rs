//! The driver on real descriptors. Whatever depends on time loops on blocking
//! turns until it has happened: a lost wake-up hangs the test.

mod closed;
mod readiness;
mod table;
mod time;

use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};
use std::time::Instant;

use super::{Direction, Driver, Turn, WaitKey};
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
    driver.turn(mode, Instant::now(), &mut woken).unwrap();
    driver.deliver(usize::MAX, &mut woken);
    let count = woken.len();
    woken.into_iter().for_each(Waker::wake);
    count
}

/// Blocks until somebody is woken.
fn park(driver: &mut Driver) {
    while turn(driver, Turn::Park) == 0 {}
}

/// A driver with a waiter for reading on `fd`, not yet ready.
fn waiting(fd: RawFd) -> (Driver, WaitKey) {
    let mut driver = Driver::new().unwrap();
    let key = driver.wait(fd, R, Waker::noop().clone()).unwrap();
    turn(&mut driver, Turn::Poll);
    (driver, key)
}
