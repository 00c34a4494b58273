//! The inbox: what a worker does with the messages in its mailbox, and the one
//! that tells all workers that a descriptor is closed.

use std::os::fd::RawFd;

use super::worker::Worker;
use super::worker_handle::{Message, WorkerHandle};
use crate::driver::epoch;
use crate::util::section::Section;

impl Worker {
    /// Reads the mail.
    pub(super) fn read_mail(&self) {
        // A coroutine that asks whether it is cancelled comes here: parked half-way
        // through, it would keep the others' messages.
        let _section = Section::enter();
        let mut mail = self.mail.take();
        self.handle.mailbox.read(&mut mail);
        for message in mail.drain(..) {
            match message {
                Message::Ask(what, addr) => self.ask(what, addr),
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

/// A file descriptor's number is about to end or to change its meaning: its
/// waiters get `EBADF`, on every worker. Called by any thread, before the
/// system call.
pub(crate) fn fd_gone(fd: RawFd) {
    if epoch::bump(fd) {
        broadcast(fd);
    }
}

/// [`fd_gone`] for every number from `first` to `last`.
pub(crate) fn fds_gone(first: u32, last: u32) {
    epoch::bump_range(first, last, &mut broadcast);
}

fn broadcast(fd: RawFd) {
    let here = Worker::current();
    if let Some(worker) = here {
        worker.fd_gone(fd);
    }
    for handle in WorkerHandle::all() {
        if here.is_none_or(|worker| worker.index() != handle.index()) {
            handle.mailbox.post(Message::FdGone(fd));
        }
    }
}
