//! Which machine has which descriptors: those of a machine that crashes are closed.
//!
//! Sockets of the simulated network are that network's to know. Of the others a number is
//! noted with the file that it means, because libc closes some by itself, and other
//! threads of the process use the number then. Files that can't be told from
//! others (epolls, `eventfd`s and their like) are not noted: they stay open.

use std::collections::BTreeMap;
use std::ffi::c_long;
use std::os::fd::RawFd;

use super::machines::NodeId;
use crate::sys::stat::{identity, kind};
use crate::sys::syscall::{Answer, sys};

#[derive(Default)]
pub(super) struct Descriptors(BTreeMap<RawFd, (NodeId, (u64, u64))>);

impl Descriptors {
    /// A machine has made a call.
    pub(super) fn called(
        &mut self,
        node: NodeId,
        number: c_long,
        args: [usize; 6],
        answer: Answer,
    ) {
        let Ok(value) = answer else { return };
        match number {
            libc::SYS_openat | libc::SYS_dup | libc::SYS_dup3 | libc::SYS_accept4 => {
                self.add(node, value as RawFd);
            }
            libc::SYS_socket if args[0] == libc::AF_UNIX as usize => self.add(node, value as RawFd),
            libc::SYS_fcntl if is_duplicate(args[1]) => self.add(node, value as RawFd),
            libc::SYS_pipe2 => self.add_pair(node, args[0]),
            libc::SYS_socketpair => self.add_pair(node, args[3]),
            libc::SYS_close => drop(self.0.remove(&(args[0] as RawFd))),
            _ => {}
        }
    }

    fn add_pair(&mut self, node: NodeId, place: usize) {
        let place = std::ptr::with_exposed_provenance::<[RawFd; 2]>(place);
        // SAFETY: the kernel has just written both there.
        let pair = unsafe { place.read_unaligned() };
        pair.into_iter().for_each(|fd| self.add(node, fd));
    }

    fn add(&mut self, node: NodeId, fd: RawFd) {
        const TOLD: [libc::mode_t; 4] =
            [libc::S_IFREG, libc::S_IFDIR, libc::S_IFSOCK, libc::S_IFIFO];
        match identity(fd).ok().filter(|_| TOLD.contains(&kind(fd))) {
            Some(id) => drop(self.0.insert(fd, (node, id))),
            None => drop(self.0.remove(&fd)),
        }
    }

    /// Those of a machine that are open.
    pub(super) fn of(&self, node: NodeId) -> impl Iterator<Item = RawFd> {
        let its = self.0.iter().filter(move |(_, (of, _))| *of == node);
        let open = its.filter(|(fd, (_, id))| identity(**fd) == Ok(*id));
        open.map(|(fd, _)| *fd)
    }

    /// Closes all that the machine has.
    pub(super) fn crash(&mut self, node: NodeId) {
        self.0.retain(|&fd, (of, id)| {
            let is_its = *of == node;
            if is_its && identity(fd) == Ok(*id) {
                // SAFETY: no pointers; the file is the machine's, whose code runs no more.
                let _ = unsafe { sys!(SYS_close, fd) };
            }
            !is_its
        });
    }
}

/// How many descriptors a call makes, if it succeeds.
pub(super) fn makes(number: c_long, args: [usize; 6]) -> usize {
    match number {
        libc::SYS_openat | libc::SYS_dup | libc::SYS_accept4 | libc::SYS_socket => 1,
        libc::SYS_fcntl if is_duplicate(args[1]) => 1,
        libc::SYS_pipe2 | libc::SYS_socketpair => 2,
        _ => 0,
    }
}

fn is_duplicate(command: usize) -> bool {
    [libc::F_DUPFD, libc::F_DUPFD_CLOEXEC].contains(&(command as i32))
}
