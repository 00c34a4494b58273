//! A latch that blocks the thread and never parks a coroutine.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::sys::futex;

/// A latch: goes up once, for other threads to wait for.
#[derive(Debug, Default)]
pub(super) struct Latch(AtomicU32);

impl Latch {
    pub(super) fn raise(&self) {
        self.0.store(1, Ordering::Release);
        futex::wake(&self.0, u32::MAX >> 1);
    }

    pub(super) fn is_up(&self) -> bool {
        self.0.load(Ordering::Acquire) != 0
    }

    pub(super) fn wait(&self) {
        while !self.is_up() {
            futex::wait(&self.0, 0, None);
        }
    }
}
