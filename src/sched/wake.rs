//! Wake-ups by address, from any thread; and the `Waker` that is an address.

use std::ptr;
use std::task::{RawWaker, RawWakerVTable, Waker};

use super::worker::Worker;
use super::worker_handle::{Message, WorkerHandle};
use crate::task::provisional_id::{self, TaskRequest};
use crate::task::{Addr, Flags, Slot, TaskState, unseen};

/// A waker for the task: no allocation, clone and drop are free, and it may
/// outlive task, worker and runtime (I4).
#[inline]
pub(crate) fn waker(addr: Addr) -> Waker {
    // SAFETY: the vtable's functions take any bits as an address and keep the
    // `RawWaker` contract: they are thread-safe and own nothing.
    unsafe { Waker::from_raw(raw(addr)) }
}

/// As [`waker`]; and the task looks whether it is asked to end.
pub(super) fn asker(addr: Addr) -> Waker {
    let raw = RawWaker::new(ptr::without_provenance(addr.to_bits() as usize), &ASKER);
    // SAFETY: as above.
    unsafe { Waker::from_raw(raw) }
}

/// Wakes the task if it still exists.
#[inline]
pub(crate) fn wake(addr: Addr) {
    match Worker::current() {
        Some(worker) if worker.index() == addr.worker() => worker.wake(addr),
        _ => elsewhere(TaskRequest::Wake, addr),
    }
}

/// Requests something of a task, if it still exists, on whatever worker it is.
#[inline]
pub(crate) fn request(what: TaskRequest, addr: Addr) {
    match Worker::current() {
        Some(worker) if worker.index() == addr.worker() => worker.request(what, addr),
        _ => elsewhere(what, addr),
    }
}

#[cold]
fn elsewhere(what: TaskRequest, addr: Addr) {
    Worker::step_wakes(addr);
    if provisional_id::is_provisional(addr) {
        if let Some(addr) = provisional_id::forward(addr, what) {
            request(what, addr);
        }
    } else if let Some(handle) = WorkerHandle::by_index(addr.worker()) {
        handle.mailbox.post(Message::Task(what, addr));
    }
}

/// The task that a waker of ours wakes.
pub(super) fn woken_by(waker: &Waker) -> Option<Addr> {
    ptr::eq(waker.vtable(), &VTABLE).then(|| addr(waker.data()))
}

impl Worker {
    /// Wakes a task of this worker, if the address is not stale.
    #[inline]
    pub(crate) fn wake(&self, addr: Addr) {
        if let Some((index, slot)) = self.slots.find(addr) {
            self.wake_slot(index, slot);
        }
    }

    #[inline]
    fn wake_slot(&self, index: u32, slot: &Slot) {
        self.step_woken(slot);
        unseen(|| match slot.state() {
            TaskState::Parked => {
                slot.set_state(TaskState::Woken);
                self.push_cold(index);
            }
            TaskState::Running => slot.set(Flags::NOTIFIED),
            // It will look at what it waits for when it runs.
            TaskState::New | TaskState::Queued | TaskState::Woken | TaskState::Free => {}
        });
    }

    /// Requests something of a task of this worker, if the address is not stale.
    #[inline]
    pub(crate) fn request(&self, what: TaskRequest, addr: Addr) {
        if let Some((index, slot)) = self.slots.find(addr) {
            match what {
                TaskRequest::Wake => {}
                TaskRequest::Unpark => slot.set(Flags::TOKEN),
                TaskRequest::Cancel => slot.set(Flags::CANCELLED),
                TaskRequest::SeeAsked => slot.set(Flags::LIMITED),
                TaskRequest::Interrupt => self.note_interruption(slot),
            }
            self.wake_slot(index, slot);
        }
    }

    /// Wakes all, and keeps the list's memory for next time.
    pub(super) fn wake_all(&self, mut woken: Vec<Waker>) {
        for waker in woken.drain(..) {
            match woken_by(&waker) {
                Some(addr) if addr.worker() == self.index() => self.wake(addr),
                _ => waker.wake(),
            }
        }
        self.woken.set(woken);
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

static ASKER: RawWakerVTable = RawWakerVTable::new(
    |data| RawWaker::new(data, &ASKER),
    |data| request(TaskRequest::SeeAsked, addr(data)),
    |data| request(TaskRequest::SeeAsked, addr(data)),
    |_| {},
);
