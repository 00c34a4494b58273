//! Calls on a machine's files that fail, or do less than they were asked to, because a
//! fault lasts, or its disk is full.

use std::ffi::c_long;
use std::fs;
use std::os::fd::RawFd;
use std::time::Duration;

use super::calls::CallFault;
use super::disks::place;
use super::machines::NodeId;
use super::part::{moves, with_part};
use super::world::Simulated;
use crate::sys::syscall::{Answer, Errno, syscall};

/// What a call does to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DiskCall {
    Reads,
    Writes {
        bytes: usize,
    },
    Syncs,
    /// It is to be so long.
    Grows {
        end: u64,
    },
}

impl DiskCall {
    /// # Safety
    ///
    /// - As for the system call.
    unsafe fn of(number: c_long, args: [usize; 6]) -> Option<Self> {
        match number {
            libc::SYS_fsync | libc::SYS_fdatasync | libc::SYS_syncfs => Some(Self::Syncs),
            libc::SYS_fallocate if args[1] == 0 => Some(Self::Grows {
                end: (args[2] as u64).saturating_add(args[3] as u64),
            }),
            _ => {
                // SAFETY: the caller's call.
                let moves = unsafe { moves(number, args) }?;
                Some(match moves.reads {
                    true => Self::Reads,
                    false => Self::Writes { bytes: moves.bytes },
                })
            }
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Reads => "read of",
            Self::Writes { .. } => "write to",
            Self::Syncs => "sync of",
            Self::Grows { .. } => "room for",
        }
    }
}

impl Simulated {
    /// Answers a call on a file of the machine's disk, if it is to fail or to be short.
    ///
    /// # Safety
    ///
    /// - As for the system call.
    pub(super) unsafe fn on_files(
        &self,
        node: NodeId,
        number: c_long,
        args: [usize; 6],
    ) -> Option<Answer> {
        if !self.has_disks() || self.calls.borrow().spare_disk(node) {
            return None;
        }
        // SAFETY: the caller's call.
        let call = unsafe { DiskCall::of(number, args) }?;
        let fd = args[0] as RawFd;
        let name = self.on_disks(|disks| disks.name_of(node, fd)).flatten()?;
        let failed = |code: Errno| {
            let name = name.file_name().unwrap_or_default().to_string_lossy();
            self.note_failure(fd, &format!("{} {name}", call.name()), code);
            Some(Err(code))
        };
        if self.calls.borrow_mut().happens(node, CallFault::DiskError) {
            if call == DiskCall::Syncs {
                let file = (number != libc::SYS_syncfs).then_some(fd);
                self.on_disks(|disks| disks.fails_to_sync(node, file));
            }
            return failed(libc::EIO);
        }
        let room = self.room_for(node, number, args, call);
        match call {
            DiskCall::Grows { end } if room < end => failed(libc::ENOSPC),
            DiskCall::Writes { bytes: 1.. } if room == 0 => failed(libc::ENOSPC),
            DiskCall::Writes { bytes } => {
                let most = self.taken(node, (bytes as u64).min(room) as usize);
                // SAFETY: the caller's call.
                (most < bytes).then(|| unsafe { self.write_part(node, number, args, most) })
            }
            _ => None,
        }
    }

    /// How many bytes there is room for: of a write from its place on, of others from the
    /// file's beginning on.
    fn room_for(&self, node: NodeId, number: c_long, args: [usize; 6], call: DiskCall) -> u64 {
        let used = || self.on_disks(|disks| disks.used(node)).unwrap_or(0);
        let Some(room) = self.calls.borrow().room_on_disk(node, used) else {
            return u64::MAX;
        };
        self.within(|| {
            let known = fs::metadata(format!("/proc/self/fd/{}", args[0]));
            let size = known.map_or(0, |known| known.len());
            let at = match call {
                DiskCall::Writes { .. } => place(number, args).unwrap_or(0),
                _ => 0,
            };
            (size.saturating_add(room)).saturating_sub(at)
        })
    }

    /// How many of these bytes a file takes.
    fn taken(&self, node: NodeId, bytes: usize) -> usize {
        let mut calls = self.calls.borrow_mut();
        match bytes > 1 && calls.happens(node, CallFault::Short) {
            true => calls.part(node, bytes),
            false => bytes,
        }
    }

    /// # Safety
    ///
    /// - As for the system call, which writes.
    unsafe fn write_part(
        &self,
        node: NodeId,
        number: c_long,
        args: [usize; 6],
        most: usize,
    ) -> Answer {
        let fd = args[0] as RawFd;
        // SAFETY: the caller's call, of a part of its bytes.
        let answer = unsafe {
            with_part(number, args, most, |args| {
                self.on_disks(|disks| disks.before(node, number, args));
                let answer = self.within(|| syscall(number, args));
                self.on_disks(|disks| disks.after(node, number, fd, answer));
                answer
            })
        };
        self.ended_short.set(answer.is_ok().then_some(fd));
        answer
    }

    /// How long a sync of a file takes, if that is not done at once.
    pub(super) fn time_of_sync(&self, fd: RawFd) -> Option<Duration> {
        let node = self.node().filter(|_| !self.is_inside())?;
        if !self.calls.borrow().lasts(node, CallFault::SlowDisk) {
            return None;
        }
        self.on_disks(|disks| disks.name_of(node, fd)).flatten()?;
        let nanos = self.calls.borrow_mut().sync_takes(node)?;
        Some(Duration::from_nanos(nanos))
    }
}
