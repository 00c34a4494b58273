//! The inbox: what a worker does with the messages in its mailbox, and with the
//! ends of descriptors, of which anybody tells all workers.

use std::os::fd::RawFd;
use std::task::Waker;

use super::ends::{self, Unread};
use super::worker::Worker;
use super::worker_handle::Message;
use crate::driver::Driver;
use crate::sys::fd::table;
use crate::util::no_park::{self, NoPark};

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

    /// Tells those that wait for descriptors whose numbers have ended.
    #[cold]
    pub(super) fn tell_of_ends(&self) {
        let mut woken = self.woken.take();
        let deferred = read_ends(&self.ends, &mut self.driver.borrow_mut(), &mut woken);
        self.wake_all(woken);
        if deferred {
            no_park::make_deferred();
        }
    }
}

/// Ends the waits for numbers that have ended since the last time. Whether there may be
/// deferred wake-ups.
pub(super) fn read_ends(ends: &ends::Reader, driver: &mut Driver, woken: &mut Vec<Waker>) -> bool {
    let mut deferred = false;
    while let Some(unread) = ends.read() {
        match unread {
            Unread::Number(fd) => driver.reactor.fd_gone(fd, woken),
            Unread::Deferred => deferred = true,
            Unread::Any => {
                driver.reactor.any_gone(woken);
                deferred = true;
            }
        }
    }
    deferred
}

/// A descriptor's number begins, or is about to end: whoever waits on it, on any
/// worker, gets `EBADF`. Called by any thread, and in signal handlers; where it ends,
/// before the system call.
#[inline]
pub(crate) fn renew_fd(fd: RawFd) {
    if table::renew(fd) {
        tell(fd);
    }
}

/// [`renew_fd`] for every number from `first` to `last`.
pub(crate) fn renew_fds(first: u32, last: u32) {
    table::renew_range(first, last, &mut tell);
}

/// [`renew_fd`] for `new`, which begins as a duplicate of `old`.
pub(crate) fn renew_duplicate(old: RawFd, new: RawFd) {
    if table::renew_as_duplicate(old, new) {
        tell(new);
    }
}

/// Tells all workers. The one that runs here has its registration ended now: a
/// duplicate may keep the file, and its events would go on.
#[cold]
fn tell(fd: RawFd) {
    if let Some(worker) = Worker::current() {
        (worker.deregister)(fd);
    }
    ends::log(fd);
}
