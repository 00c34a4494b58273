//! In-memory backend: the seam of `poller.rs` without a kernel, for tests.
//!
//! [`MemoryBackend`] is a process's files and their event queues, as epoll has them: a
//! registration is of a number *and* its file, is found by both, and ends with
//! the file, not with the number; an edge is reported with what is the case
//! when it is looked at, or not at all if that is nothing.
//!
//! Time passes when a poller sleeps with nothing to report: then it is the
//! moment for which that poller's timer is set. One with no timer sleeps until
//! a notifier or a file ends that. Each look at the clock takes a microsecond,
//! so that who looks again and again sees time pass.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::RawFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::clock::TimeSource;
use super::poller::{Backend, DeregisterFn, Notifier, Poller, Readiness, ReadyEvent, WatchError};
use crate::sys::errno::ENOSPC;
use crate::sys::fd::table;

#[cfg(test)]
impl Readiness {
    pub(crate) const READABLE: Self = Self {
        read: true,
        write: false,
        read_closed: false,
        write_closed: false,
        urgent: false,
    };
}

/// See the [module](self).
#[derive(Clone, Debug)]
pub(crate) struct MemoryBackend(Arc<MemoryShared>);

#[derive(Debug)]
struct MemoryShared {
    process: Mutex<MemoryProcess>,
    /// Something happened that may end a poller's sleep.
    changed: Condvar,
}

/// Which file; never used again.
pub(crate) type FileId = usize;

/// An open file.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MemoryFile {
    pub(crate) ready: Readiness,
    pub(crate) kind: FileKind,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum FileKind {
    Tcp,
    /// A datagram socket, a pipe: it can be waited for.
    #[default]
    Other,
    /// Always ready.
    Regular,
}

/// A call that changes registrations, for tests to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PollerCall {
    Register(RawFd, u32, Result<(), WatchError>),
    Reregister(RawFd, u32, Result<(), WatchError>),
    Deregister(RawFd),
}

#[derive(Debug)]
struct MemoryProcess {
    files: Vec<MemoryFile>,
    numbers: BTreeMap<RawFd, FileId>,
    pollers: Vec<PollerQueue>,
    /// No registration is added any more.
    exhausted: bool,
    /// Another thread closes each number as soon as it was registered.
    closes: bool,
    calls: Vec<PollerCall>,
    now: Instant,
}

/// What one poller has.
#[derive(Debug, Default)]
struct PollerQueue {
    /// Serials by number and file.
    registrations: BTreeMap<(RawFd, FileId), u32>,
    edges: BTreeSet<(RawFd, FileId)>,
    notified: bool,
    timer: Option<Instant>,
}

impl MemoryBackend {
    pub(crate) fn new() -> Self {
        Self(Arc::new(MemoryShared {
            process: Mutex::new(MemoryProcess {
                files: Vec::new(),
                numbers: BTreeMap::new(),
                pollers: Vec::new(),
                exhausted: false,
                closes: false,
                calls: Vec::new(),
                now: Instant::now(),
            }),
            changed: Condvar::new(),
        }))
    }

    fn process(&self) -> MutexGuard<'_, MemoryProcess> {
        self.0.process.lock().expect("no test panics in here")
    }

    /// Makes a number mean a new file.
    pub(crate) fn open(&self, fd: RawFd, kind: FileKind) -> FileId {
        let mut process = self.process();
        let ready = Readiness::default();
        process.files.push(MemoryFile { ready, kind });
        let file = process.files.len() - 1;
        process.replace(fd, Some(file));
        file
    }

    /// Time passes.
    #[cfg(test)]
    pub(crate) fn pass(&self, time: Duration) {
        self.process().now += time;
    }

    /// Makes a number mean the file of another, if that is open.
    pub(crate) fn dup(&self, from: RawFd, to: RawFd) {
        let mut process = self.process();
        if let Some(&file) = process.numbers.get(&from) {
            process.replace(to, Some(file));
        }
    }

    /// Has another thread close each number as soon as it was registered.
    pub(crate) fn close_when_registered(&self) {
        self.process().closes = true;
    }

    pub(crate) fn close(&self, fd: RawFd) {
        self.process().replace(fd, None);
    }

    /// What a number means.
    pub(crate) fn file(&self, fd: RawFd) -> Option<(FileId, MemoryFile)> {
        let process = self.process();
        let &id = process.numbers.get(&fd)?;
        Some((id, process.files[id]))
    }

    /// Says how the file of a number is ready from now on. `edge`: something
    /// came, which is an event also where it was ready before.
    pub(crate) fn set_ready(&self, fd: RawFd, ready: Readiness, edge: bool) {
        let mut process = self.process();
        let Some(&file) = process.numbers.get(&fd) else {
            return;
        };
        process.files[file].ready = ready;
        for queue in process.pollers.iter_mut().filter(|_| edge) {
            let of_file = queue.registrations.keys().filter(|(_, id)| *id == file);
            queue.edges.extend(of_file);
        }
        self.0.changed.notify_all();
    }

    /// Whether an event of this number and file is still to be reported.
    pub(crate) fn has_edge(&self, fd: RawFd, file: FileId) -> bool {
        let process = self.process();
        process
            .pollers
            .iter()
            .any(|queue| queue.edges.contains(&(fd, file)))
    }

    /// Whether there is no room for a further registration.
    pub(crate) fn set_exhausted(&self, exhausted: bool) {
        self.process().exhausted = exhausted;
    }

    /// The calls since the last time that this was asked.
    pub(crate) fn take_calls(&self) -> Vec<PollerCall> {
        std::mem::take(&mut self.process().calls)
    }
}

impl MemoryProcess {
    /// Makes a number mean a file, or nothing. A file that no number means any
    /// more ends, and so do its registrations.
    fn replace(&mut self, fd: RawFd, file: Option<FileId>) {
        let old = match file {
            Some(file) => self.numbers.insert(fd, file),
            None => self.numbers.remove(&fd),
        };
        let Some(old) = old.filter(|old| !self.numbers.values().any(|file| file == old)) else {
            return;
        };
        for queue in &mut self.pollers {
            queue.registrations.retain(|(_, file), _| *file != old);
            queue.edges.retain(|(_, file)| *file != old);
        }
    }

    /// The registration that a call with this number is about.
    fn registration(&self, fd: RawFd) -> Result<(RawFd, FileId), WatchError> {
        let &file = self.numbers.get(&fd).ok_or(WatchError::NotOpen)?;
        if self.files[file].kind == FileKind::Regular {
            return Err(WatchError::AlwaysReady);
        }
        Ok((fd, file))
    }
}

impl Backend for MemoryBackend {
    fn poller(&self) -> io::Result<Box<dyn Poller>> {
        let mut process = self.process();
        process.pollers.push(PollerQueue::default());
        Ok(Box::new(MemoryPoller {
            memory: self.clone(),
            index: process.pollers.len() - 1,
        }))
    }

    fn time(&self) -> Option<Arc<dyn TimeSource>> {
        Some(Arc::new(self.clone()))
    }
}

impl TimeSource for MemoryBackend {
    fn now(&self) -> Instant {
        let mut process = self.process();
        process.now += Duration::from_micros(1);
        process.now
    }
}

#[derive(Debug)]
struct MemoryPoller {
    memory: MemoryBackend,
    index: usize,
}

impl Poller for MemoryPoller {
    fn register(&mut self, fd: RawFd, serial: u32) -> Result<(), WatchError> {
        let mut process = self.memory.process();
        let result = process.registration(fd).and_then(|of| {
            let exhausted = process.exhausted;
            let queue = &mut process.pollers[self.index];
            if exhausted && !queue.registrations.contains_key(&of) {
                return Err(WatchError::Exhausted(ENOSPC));
            }
            queue.registrations.insert(of, serial);
            queue.edges.insert(of);
            Ok(())
        });
        process.calls.push(PollerCall::Register(fd, serial, result));
        if process.closes {
            let _ = table::renew(fd);
            process.replace(fd, None);
        }
        result
    }

    fn reregister(&mut self, fd: RawFd, serial: u32) -> Result<(), WatchError> {
        let mut process = self.memory.process();
        let result = process.registration(fd).and_then(|of| {
            let queue = &mut process.pollers[self.index];
            let known = queue.registrations.get_mut(&of);
            *known.ok_or(WatchError::NotRegistered)? = serial;
            queue.edges.insert(of);
            Ok(())
        });
        process
            .calls
            .push(PollerCall::Reregister(fd, serial, result));
        result
    }

    fn deregister(&mut self, fd: RawFd) {
        let mut process = self.memory.process();
        if let Ok(of) = process.registration(fd) {
            let queue = &mut process.pollers[self.index];
            queue.registrations.remove(&of);
            queue.edges.remove(&of);
        }
        process.calls.push(PollerCall::Deregister(fd));
    }

    fn wait(&mut self, block: bool, events: &mut Vec<ReadyEvent>) -> io::Result<bool> {
        let mut process = self.memory.process();
        loop {
            let now = process.now;
            let MemoryProcess { files, pollers, .. } = &mut *process;
            let queue = &mut pollers[self.index];
            for (fd, file) in std::mem::take(&mut queue.edges) {
                let (serial, ready) = (queue.registrations[&(fd, file)], files[file].ready);
                if ready != Readiness::default() {
                    events.push(ReadyEvent { fd, serial, ready });
                }
            }
            let expired = queue.timer.take_if(|at| *at <= now).is_some();
            let notified = std::mem::take(&mut queue.notified);
            if !block || expired || notified || !events.is_empty() {
                return Ok(expired);
            }
            match queue.timer {
                Some(at) => process.now = at,
                None => process = self.memory.0.changed.wait(process).unwrap(),
            }
        }
    }

    fn notifier(&self) -> Notifier {
        let (memory, index) = (self.memory.clone(), self.index);
        Box::new(move || {
            memory.process().pollers[index].notified = true;
            memory.0.changed.notify_all();
        })
    }

    fn deregister_by_number(&self) -> DeregisterFn {
        let poller = (self.memory.clone(), self.index);
        Box::new(move |fd| {
            let (memory, index) = poller.clone();
            MemoryPoller { memory, index }.deregister(fd);
        })
    }

    fn arm(&mut self, delay: Duration) -> io::Result<()> {
        let mut process = self.memory.process();
        process.pollers[self.index].timer = process.now.checked_add(delay);
        Ok(())
    }

    fn is_tcp_stream(&self, fd: RawFd) -> bool {
        let file = self.memory.file(fd);
        file.is_some_and(|(_, file)| file.kind == FileKind::Tcp)
    }
}
