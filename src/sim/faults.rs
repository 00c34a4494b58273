//! The plan of faults: what breaks when, by the seed alone, so that a shorter plan can be
//! tried with the same one.

use std::fmt;
use std::time::Duration;

use super::calls::CallFault;
use super::chance::Chance;
use super::machines::NodeId;

/// How many faults of which kind a simulation has, at times that the seed chooses.
///
/// ```
/// use std::time::Duration;
/// use crore::sim::Faults;
///
/// // In the first minute; each lasts for two seconds at most.
/// let faults = Faults::within(Duration::from_secs(60))
///     .lasting(Duration::from_secs(2))
///     .crashes(5)
///     .partitions(3);
/// # let _ = faults;
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "it is given to `Sim::faults`"]
pub struct Faults {
    within: Duration,
    lasting: Duration,
    crashes: u32,
    partitions: u32,
    cuts: u32,
    resets: u32,
    clocks: u32,
    short_transfers: u32,
    interruptions: u32,
    false_readiness: u32,
    descriptor_shortages: u32,
    disk_errors: u32,
    full_disks: u32,
    slow_disks: u32,
}

impl Faults {
    /// None yet; those that are added happen in this first part of the simulation, and
    /// last for up to a fifth of it.
    pub fn within(time: Duration) -> Self {
        Self {
            within: time,
            lasting: time / 5,
            ..Self::default()
        }
    }

    /// How long each lasts at most.
    pub fn lasting(mut self, most: Duration) -> Self {
        self.lasting = most;
        self
    }

    /// A node crashes, and starts again after a while.
    pub fn crashes(mut self, n: u32) -> Self {
        self.crashes = n;
        self
    }

    /// A node hears nobody, and is heard by nobody.
    pub fn partitions(mut self, n: u32) -> Self {
        self.partitions = n;
        self
    }

    /// What one node sends to another gets lost, but not what that answers.
    pub fn cuts(mut self, n: u32) -> Self {
        self.cuts = n;
        self
    }

    /// All connections between two nodes are reset.
    pub fn resets(mut self, n: u32) -> Self {
        self.resets = n;
        self
    }

    /// A node's time of day jumps, by up to ten seconds.
    pub fn clocks(mut self, n: u32) -> Self {
        self.clocks = n;
        self
    }

    /// For a while a node's connections take and give a part of the bytes that a call is
    /// for, or that are there: one at least. Nobody who counts what `read` and `write`
    /// return sees a difference. Messages stay whole, and so does what is received with
    /// `MSG_WAITALL`. Pipes and Unix sockets are the kernel's, which is not short in them.
    /// Files on its [disk](super::Sim::disks) take a part of what is written, too.
    ///
    /// A server that takes what one `read` gives for a whole request:
    ///
    /// ```
    /// use std::io::{Read, Write};
    /// use std::net::{TcpListener, TcpStream};
    /// use std::time::Duration;
    /// use crore::sim::{Faults, Sim, check};
    ///
    /// fn test(sim: Sim) {
    ///     sim.faults(Faults::within(Duration::from_secs(30)).short_transfers(3).crashes(1))
    ///         .node("server", || {
    ///             let listener = TcpListener::bind("0.0.0.0:80").unwrap();
    ///             for stream in listener.incoming() {
    ///                 let mut request = [0; 8];
    ///                 let len = stream.unwrap().read(&mut request).unwrap();
    ///                 assert_eq!(&request[..len], b"request\n");
    ///             }
    ///         })
    ///         .client("client", || {
    ///             for _ in 0..30 {
    ///                 std::thread::sleep(Duration::from_secs(1));
    ///                 if let Ok(mut stream) = TcpStream::connect("server:80") {
    ///                     let _ = stream.write_all(b"request\n");
    ///                 }
    ///             }
    ///         })
    ///         .run();
    /// }
    /// let found = std::panic::catch_unwind(|| check(0..100, test));
    /// assert!(found.is_err());
    /// ```
    pub fn short_transfers(mut self, n: u32) -> Self {
        self.short_transfers = n;
        self
    }

    /// For a while calls on a node's sockets that may wait fail with `EINTR`, as they do when
    /// a handler has run that was installed without `SA_RESTART`. Not for programs that
    /// have no such handler, which may rely on it.
    pub fn interruptions(mut self, n: u32) -> Self {
        self.interruptions = n;
        self
    }

    /// For a while calls on a node's sockets that are not to wait find nothing (`EAGAIN`),
    /// also where an event loop was told of something. It is told of it again.
    pub fn false_readiness(mut self, n: u32) -> Self {
        self.false_readiness = n;
        self
    }

    /// For a while a node has no descriptors left: `socket`, `accept`, `open` and their like
    /// fail with `EMFILE`. See [`limit_descriptors`](super::limit_descriptors).
    pub fn descriptor_shortages(mut self, n: u32) -> Self {
        self.descriptor_shortages = n;
        self
    }

    /// For a while reads, writes and syncs of files on a node's [disk](super::Sim::disks)
    /// fail with `EIO`, one in two. Writes that a sync failed for are lost, as on Linux:
    /// everybody reads them until the node crashes, and no later sync helps, unless they
    /// are written again.
    ///
    /// ```
    /// use std::fs::{self, File};
    /// use std::io::Write;
    /// use std::time::Duration;
    /// use crore::sim::{Faults, Sim, check, crash};
    ///
    /// # let root = std::env::temp_dir().join(format!("crore-disk-errors-{}", std::process::id()));
    /// let test = |sim: Sim| {
    ///     let path = root.join("node").join(format!("log{}", std::process::id()));
    ///     fs::create_dir_all(path.parent().unwrap()).unwrap();
    ///     let theirs = path.clone();
    ///     sim.disks(&root)
    ///         .faults(Faults::within(Duration::from_secs(9)).disk_errors(3))
    ///         .node("node", move || {
    ///             let Ok(mut file) = File::create(&theirs) else { return };
    ///             while file.write_all(b"text").is_err() {
    ///                 file.set_len(0).unwrap();
    ///             }
    ///             std::thread::sleep(Duration::from_secs(5));
    ///             while file.sync_all().is_err() {} // the second says nothing of the data
    ///             crash("node");
    ///         })
    ///         .client("test", || std::thread::sleep(Duration::from_secs(10)))
    ///         .run();
    ///     let found = fs::read_to_string(&path);
    ///     # let _ = fs::remove_file(&path);
    ///     assert_eq!(found.unwrap(), "text");
    /// };
    /// let found = std::panic::catch_unwind(|| check(0..300, test));
    /// # fs::remove_dir_all(&root).unwrap();
    /// assert!(found.is_err());
    /// ```
    pub fn disk_errors(mut self, n: u32) -> Self {
        self.disk_errors = n;
        self
    }

    /// For a while a node's [disk](super::Sim::disks) has no room for files that grow: writes
    /// fail with `ENOSPC`, or take what fits into the file. See
    /// [`limit_disk`](super::limit_disk).
    pub fn full_disks(mut self, n: u32) -> Self {
        self.full_disks = n;
        self
    }

    /// For a while syncs of files on a node's [disk](super::Sim::disks) take up to a second.
    pub fn slow_disks(mut self, n: u32) -> Self {
        self.slow_disks = n;
        self
    }

    /// All of them for so many nodes, the earliest first.
    pub(super) fn plan(&self, nodes: usize, chance: &mut Chance) -> Vec<Planned> {
        let mut plan = Vec::new();
        if nodes == 0 {
            return plan;
        }
        let kinds = [
            (
                self.crashes,
                FaultKind::Crash as fn(NodeId, NodeId) -> FaultKind,
            ),
            (self.partitions, FaultKind::Isolate),
            (self.cuts, FaultKind::Cut),
            (self.resets, FaultKind::Reset),
            (self.clocks, FaultKind::Clock),
            (self.short_transfers, |node, _| {
                FaultKind::Calls(node, CallFault::Short)
            }),
            (self.interruptions, |node, _| {
                FaultKind::Calls(node, CallFault::Interrupted)
            }),
            (self.false_readiness, |node, _| {
                FaultKind::Calls(node, CallFault::NotReady)
            }),
            (self.descriptor_shortages, |node, _| {
                FaultKind::Calls(node, CallFault::NoDescriptors)
            }),
            (self.disk_errors, |node, _| {
                FaultKind::Calls(node, CallFault::DiskError)
            }),
            (self.full_disks, |node, _| {
                FaultKind::Calls(node, CallFault::DiskFull)
            }),
            (self.slow_disks, |node, _| {
                FaultKind::Calls(node, CallFault::SlowDisk)
            }),
        ];
        for (count, kind) in kinds {
            for _ in 0..count {
                let one = chance.below(nodes as u64) as usize;
                let far = 1 + chance.below((nodes as u64 - 1).max(1)) as usize;
                let at = chance.below(self.within.as_nanos() as u64);
                let lasts = chance.below(self.lasting.as_nanos() as u64);
                plan.push(Planned {
                    at: Duration::from_nanos(at),
                    lasts: Duration::from_nanos(lasts),
                    kind: kind(one, (one + far) % nodes),
                });
            }
        }
        plan.sort_by_key(|fault| fault.at);
        plan
    }
}

/// One fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Planned {
    pub(super) at: Duration,
    pub(super) lasts: Duration,
    pub(super) kind: FaultKind,
}

/// What breaks, where; of the second node some kinds know nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FaultKind {
    Crash(NodeId, NodeId),
    Isolate(NodeId, NodeId),
    Cut(NodeId, NodeId),
    Reset(NodeId, NodeId),
    Clock(NodeId, NodeId),
    Calls(NodeId, CallFault),
}

impl Planned {
    /// In words, with the nodes' names.
    pub(super) fn words(&self, names: &[String]) -> impl fmt::Display {
        let (at, lasts) = (self.at.as_secs_f64(), self.lasts.as_secs_f64());
        let what = match self.kind {
            FaultKind::Crash(node, _) => format!("{} crashes for {lasts:.3} s", names[node]),
            FaultKind::Isolate(node, _) => format!("{} is cut off for {lasts:.3} s", names[node]),
            FaultKind::Cut(from, to) => {
                let (from, to) = (&names[from], &names[to]);
                format!("nothing from {from} reaches {to} for {lasts:.3} s")
            }
            FaultKind::Reset(one, other) => {
                let (one, other) = (&names[one], &names[other]);
                format!("connections of {one} and {other} are reset")
            }
            FaultKind::Clock(node, _) => format!("the clock of {} jumps", names[node]),
            FaultKind::Calls(node, fault) => {
                format!("{} {} for {lasts:.3} s", names[node], suffers(fault))
            }
        };
        format!("t={at:.3} s: {what}")
    }
}

/// What becomes of a node, in words.
fn suffers(fault: CallFault) -> &'static str {
    match fault {
        CallFault::Short => "reads and writes a part of what it could",
        CallFault::Interrupted => "is interrupted in its calls",
        CallFault::NotReady => "finds nothing where something is ready",
        CallFault::NoDescriptors => "has no descriptors left",
        CallFault::DiskError => "has a disk that fails",
        CallFault::DiskFull => "has no room on its disk",
        CallFault::SlowDisk => "has a slow disk",
    }
}
