//! The plan of faults: what breaks when, by the seed alone, so that a shorter plan can be
//! tried with the same one.

use std::fmt;
use std::time::Duration;

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
        };
        format!("t={at:.3} s: {what}")
    }
}
