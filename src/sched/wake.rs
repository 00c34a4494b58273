//! Waking by address, from anywhere; and the `Waker` that is an address.

use std::ptr;
use std::task::{RawWaker, RawWakerVTable, Waker};

use super::remote::{Message, Remote};
use super::worker::Worker;
use crate::task::Addr;
use crate::task::alias::{self, Ask};

/// A waker for the task: no allocation, clone and drop are free, and it may
/// outlive task, worker and runtime (I4).
#[inline]
pub(crate) fn waker(addr: Addr) -> Waker {
    // SAFETY: the vtable's functions take any bits as an address and keep the
    // `RawWaker` contract: they are thread-safe and own nothing.
    unsafe { Waker::from_raw(raw(addr)) }
}

/// Wakes the task if it still exists.
#[inline]
pub(crate) fn wake(addr: Addr) {
    match Worker::current() {
        Some(worker) if worker.index() == addr.worker() => worker.wake(addr),
        _ => elsewhere(Ask::Wake, addr),
    }
}

/// Asks something of a task, if it still exists, on whatever worker it is.
#[inline]
pub(crate) fn ask(what: Ask, addr: Addr) {
    match Worker::current() {
        Some(worker) if worker.index() == addr.worker() => worker.ask(what, addr),
        _ => elsewhere(what, addr),
    }
}

#[cold]
fn elsewhere(what: Ask, addr: Addr) {
    if alias::is_alias(addr) {
        if let Some(addr) = alias::ask(addr, what) {
            ask(what, addr);
        }
    } else if let Some(remote) = Remote::by_index(addr.worker()) {
        remote.mailbox.post(Message::Ask(what, addr));
    }
}

/// The task that a waker of ours wakes.
pub(super) fn whom(waker: &Waker) -> Option<Addr> {
    ptr::eq(waker.vtable(), &VTABLE).then(|| addr(waker.data()))
}

fn raw(addr: Addr) -> RawWaker {
    RawWaker::new(ptr::without_provenance(addr.to_bits() as usize), &VTABLE)
}

fn addr(data: *const ()) -> Addr {
    Addr::from_bits(data.addr() as u64)
}

static VTABLE: RawWakerVTable = RawWakerVTable::new(
    |data| RawWaker::new(data, &VTABLE),
    |data| wake(addr(data)),
    |data| wake(addr(data)),
    |_| {},
);
