//! What a wait for several descriptors waits for.

use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use crate::driver::Condition;
use crate::hook::wait::clock::after;
use crate::sched::CurrentTask;

/// One pair without allocation, several (or just the time) on the heap, never in
/// the frame.
pub(super) enum WaitSet {
    One([(RawFd, Condition); 1]),
    Many(Vec<(RawFd, Condition)>),
    /// A mask lets signals in: asked again every few milliseconds.
    Special,
}

impl WaitSet {
    /// Waits for some to be readable, some to be writable, or some to have urgent data,
    /// errors or ends.
    pub(super) fn of(
        readable: impl Iterator<Item = RawFd>,
        writable: impl Iterator<Item = RawFd>,
        exceptional: impl Iterator<Item = RawFd>,
    ) -> Self {
        let readable = readable.map(|fd| (fd, Condition::PollRead));
        let writable = writable.map(|fd| (fd, Condition::PollWrite));
        let exceptional = exceptional.map(|fd| (fd, Condition::Exception));
        let mut all = readable.chain(writable).chain(exceptional);
        match (all.next(), all.next()) {
            (Some(one), None) => Self::One([one]),
            (first, second) => Self::Many(first.into_iter().chain(second).chain(all).collect()),
        }
    }

    /// Parks until something may have changed.
    pub(super) fn park(&self, cx: CurrentTask, until: Option<Instant>) {
        match self {
            Self::One(one) => cx.wait_on_any(one, until),
            Self::Many(many) => cx.wait_on_any(many, until),
            Self::Special => {
                let soon = after(FEW_MILLIS);
                cx.park_regardless_until(Some(until.map_or(soon, |at| at.min(soon))));
            }
        }
    }
}

/// How often what no event tells is looked at.
const FEW_MILLIS: Duration = Duration::from_millis(5);
