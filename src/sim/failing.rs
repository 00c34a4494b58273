//! Calls of machines that fail, or do less than they were asked to, because a fault lasts.
//!
//! Each is what a kernel may do. What a program can be sure of stays so: connections only
//! are short, never what is to be whole (`MSG_WAITALL`) or only looked at; no call that
//! its program lets wait says `EAGAIN`, and none that may not wait is interrupted; event
//! loops that are told of changes only are told once more (`edges.rs`).

use std::ffi::{c_int, c_long};
use std::os::fd::RawFd;

use super::calls::CallFault;
use super::descriptors::makes;
use super::edges::tell_again;
use super::machines::NodeId;
use super::part;
use super::world::Simulated;
use crate::sys::fd::nonblocking::is_nonblocking;
use crate::sys::syscall::{Answer, Errno, syscall};

impl Simulated {
    /// Why a call that a program makes on a descriptor fails before it does anything.
    pub(super) fn refusal(&self, fd: RawFd, never_waits: bool) -> Option<Errno> {
        let node = self.outside()?;
        let lasts = |fault| self.calls.borrow().lasts(node, fault);
        if !lasts(CallFault::NotReady) && !lasts(CallFault::Interrupted) {
            return None;
        }
        let code = self.within(|| {
            let net = self.net.borrow();
            let never_waits = never_waits || is_nonblocking(fd).ok()?;
            let (fault, code) = match never_waits {
                true if net.can_be_unready(fd) => (CallFault::NotReady, libc::EAGAIN),
                false if net.has(fd) => (CallFault::Interrupted, libc::EINTR),
                _ => return None,
            };
            let happens = self.calls.borrow_mut().happens(node, fault);
            (happens && (!never_waits || tell_again(fd))).then_some(code)
        })?;
        self.note_failure(fd, "a call", code);
        Some(code)
    }

    /// Makes a call that moves bytes over a connection, with a part of them, if it is to
    /// be short.
    ///
    /// # Safety
    ///
    /// - As for the system call.
    pub(super) unsafe fn short(
        &self,
        node: NodeId,
        number: c_long,
        args: [usize; 6],
    ) -> Option<Answer> {
        /// Receives all, or takes nothing out.
        const NEVER: c_int =
            libc::MSG_WAITALL | libc::MSG_PEEK | libc::MSG_OOB | libc::MSG_ERRQUEUE;
        self.ended_short.set(None);
        if !self.calls.borrow().lasts(node, CallFault::Short) {
            return None;
        }
        // SAFETY: the caller's call.
        let moves = unsafe { part::moves(number, args) }?;
        let fd = args[0] as RawFd;
        if moves.flags & NEVER != 0 {
            return None;
        }
        let answer = self.within(|| {
            let most = self.part_of(node, fd, moves)?;
            // SAFETY: the caller's call.
            let call = |args| unsafe {
                let answer = self.net.borrow_mut().call(self.now(), node, number, args);
                answer.unwrap_or_else(|| syscall(number, args))
            };
            // SAFETY: as above.
            Some(unsafe { part::with_part(number, args, most, call) })
        })?;
        self.ended_short.set(answer.is_ok().then_some(fd));
        Some(answer)
    }

    /// How many of the bytes are moved, if not all.
    fn part_of(&self, node: NodeId, fd: RawFd, moves: part::Moves) -> Option<usize> {
        let there = self.net.borrow().unread(fd)?;
        let bytes = match moves.reads {
            true => moves.bytes.min(there),
            false => moves.bytes,
        };
        let mut calls = self.calls.borrow_mut();
        let is_short = bytes > 1
            && calls.happens(node, CallFault::Short)
            && (is_nonblocking(fd) == Ok(false) || tell_again(fd));
        is_short.then(|| calls.part(node, bytes))
    }

    /// Whether a call fails because the machine has no descriptors left.
    pub(super) fn lacks_descriptors(
        &self,
        node: NodeId,
        number: c_long,
        args: [usize; 6],
    ) -> Option<Answer> {
        let needed = makes(number, args);
        let most = match needed {
            0 => return None,
            _ => self.calls.borrow().most_descriptors(node)?,
        };
        let has = self.within(|| {
            let mut all = self.net.borrow().descriptors(node);
            all.extend(self.descriptors.borrow().of(node));
            all.len()
        });
        if has + needed <= most {
            return None;
        }
        self.note_failure(-1, "a new descriptor", libc::EMFILE);
        Some(Err(libc::EMFILE))
    }

    /// The running coroutine's machine, if this is a call of its own.
    fn outside(&self) -> Option<NodeId> {
        self.node().filter(|_| !self.is_inside())
    }
}
