//! The inbox: what a worker does with the messages in its mailbox, and the one
//! that tells all workers that a descriptor is closed.

use std::os::fd::RawFd;

use super::worker::Worker;
use super::worker_handle::{Message, WorkerHandle};
use crate::sys::fd::table;
use crate::sys::signal::keep_errno;
use crate::util::no_park::NoPark;

impl Worker {
    /// Reads the mail.
    pub(super) fn read_mail(&self) {
        // A coroutine that asks whether it is cancelled comes here: parked half-way
        // through, it would keep the others' messages.
        let _no_park = NoPark::enter();
        let mut mail = self.mail.take();
        self.handle.mailbox.read(&mut mail);
        for message in mail.drain(..) {
            match message {
                Message::Task(request, addr) => self.request(request, addr),
                Message::FdGone(fd) => self.fd_gone(fd),
                // The loop looks whether the runtime stops.
                Message::Stop => {}
                Message::Snapshot { run, request } => {
                    if self.workers.is_run(run) {
                        self.answer(request);
                    }
                }
                Message::CancelAll { run, spared } => {
                    if self.workers.is_run(run) {
                        self.cancel_all(spared);
                    }
                }
            }
        }
        self.mail.set(mail);
    }

    /// A descriptor's meaning changes, or has changed: its waiters end.
    pub(crate) fn fd_gone(&self, fd: RawFd) {
        let mut woken = self.woken.take();
        self.driver.borrow_mut().reactor.fd_gone(fd, &mut woken);
        self.wake_all(woken);
    }
}

/// A descriptor's number begins, or is about to end: whoever waits on it, on any
/// worker, gets `EBADF`. Called by any thread; where it ends, before the system call.
#[inline]
pub(crate) fn renew_fd(fd: RawFd) {
    if table::renew(fd) {
        broadcast(fd);
    }
}

/// [`renew_fd`] for every number from `first` to `last`.
pub(crate) fn renew_fds(first: u32, last: u32) {
    table::renew_range(first, last, &mut broadcast);
}

/// [`renew_fd`] for `new`, which begins as a duplicate of `old`.
pub(crate) fn renew_duplicate(old: RawFd, new: RawFd) {
    if table::renew_as_duplicate(old, new) {
        broadcast(new);
    }
}

/// Tells all workers. That may fail, and must not show: many read errno after a
/// `close` that went well.
#[cold]
fn broadcast(fd: RawFd) {
    keep_errno(|| {
        let here = Worker::current();
        if let Some(worker) = here {
            worker.fd_gone(fd);
        }
        for handle in WorkerHandle::all() {
            if here.is_none_or(|worker| worker.index() != handle.index()) {
                handle.mailbox.post(Message::FdGone(fd));
            }
        }
    });
}
