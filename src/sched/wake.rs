//! Waking by address, from anywhere; and the `Waker` that is an address.

use std::ptr;
use std::task::{RawWaker, RawWakerVTable, Waker};

use super::Message;
use super::inbox::Remote;
use super::worker::Worker;
use crate::task::Addr;

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
        _ => post(addr, Message::Wake(addr)),
    }
}

/// Gives the task its park token, and wakes it.
pub(crate) fn unpark(addr: Addr) {
    match Worker::current() {
        Some(worker) if worker.has_read_of(addr) => worker.unpark(addr),
        _ => post(addr, Message::Unpark(addr)),
    }
}

/// Makes the task's blocking calls fail from now on, and wakes it.
pub(crate) fn cancel(addr: Addr) {
    match Worker::current() {
        Some(worker) if worker.has_read_of(addr) => worker.cancel(addr),
        _ => post(addr, Message::Cancel(addr)),
    }
}

#[cold]
fn post(addr: Addr, message: Message) {
    if let Some(remote) = Remote::by_index(addr.worker()) {
        // A closed gate: the runtime has ended, and its tasks with it.
        let _ = remote.post(message);
    }
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
