//! What may go wrong with the calls of a machine, and what does now. Pure.

use super::chance::Chance;
use super::machines::NodeId;

/// How calls of a machine fail, or do less than they were asked to, while a fault lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallFault {
    /// Streams take or give a part of the bytes; files take one.
    Short,
    /// `EINTR` of calls that may wait.
    Interrupted,
    /// `EAGAIN` of calls that may not, where something is there.
    NotReady,
    /// `EMFILE` of whatever makes a descriptor.
    NoDescriptors,
    /// `EIO` of reads, writes and syncs of files.
    DiskError,
    /// `ENOSPC` of whatever makes a file longer.
    DiskFull,
    /// Syncs take their time.
    SlowDisk,
}

/// One in so many calls to which a fault could happen is spared.
const SPARED: f64 = 0.5;

pub(super) struct CallFaults {
    /// By machine: what lasts, each with its own chance, so that one that is left out
    /// changes nothing in the others.
    lasting: Vec<Vec<(CallFault, Chance)>>,
    /// By machine: how many descriptors it may have.
    descriptors: Vec<usize>,
    /// By machine: how many bytes its disk has.
    disks: Vec<u64>,
}

impl CallFaults {
    pub(super) fn new(machines: usize) -> Self {
        Self {
            lasting: vec![Vec::new(); machines],
            descriptors: vec![usize::MAX; machines],
            disks: vec![u64::MAX; machines],
        }
    }

    /// Whether nothing goes wrong with the machine's files.
    pub(super) fn spare_disk(&self, node: NodeId) -> bool {
        self.lasting[node].is_empty() && self.disks[node] == u64::MAX
    }

    pub(super) fn begin(&mut self, node: NodeId, fault: CallFault, seed: u64) {
        self.lasting[node].push((fault, Chance::new(seed)));
    }

    /// Ends the oldest of the kind: others go on.
    pub(super) fn end(&mut self, node: NodeId, fault: CallFault) {
        let all = &mut self.lasting[node];
        if let Some(at) = all.iter().position(|(kind, _)| *kind == fault) {
            all.remove(at);
        }
    }

    pub(super) fn lasts(&self, node: NodeId, fault: CallFault) -> bool {
        self.lasting[node].iter().any(|(kind, _)| *kind == fault)
    }

    /// Whether it happens to a call that is made now.
    pub(super) fn happens(&mut self, node: NodeId, fault: CallFault) -> bool {
        let chance = self.chance(node, fault);
        chance.is_some_and(|chance| chance.happens(1.0 - SPARED))
    }

    /// How many of `bytes` a call moves that is to be short: 1 at least, not all.
    pub(super) fn part(&mut self, node: NodeId, bytes: usize) -> usize {
        /// Few bytes are what programs count on least.
        const FEW: u64 = 16;
        let Some(chance) = self.chance(node, CallFault::Short) else {
            return bytes;
        };
        let most = (bytes as u64).saturating_sub(1);
        let most = if chance.happens(0.5) {
            most.min(FEW)
        } else {
            most
        };
        1 + chance.below(most) as usize
    }

    /// How many nanoseconds a sync takes.
    pub(super) fn sync_takes(&mut self, node: NodeId) -> Option<u64> {
        /// One second.
        const LONGEST: u64 = 1_000_000_000;
        let chance = self.chance(node, CallFault::SlowDisk)?;
        Some(chance.below(LONGEST))
    }

    fn chance(&mut self, node: NodeId, fault: CallFault) -> Option<&mut Chance> {
        let mut all = self.lasting[node].iter_mut();
        let found = all.find(|(kind, _)| *kind == fault);
        found.map(|(_, chance)| chance)
    }

    pub(super) fn limit_disk(&mut self, node: NodeId, bytes: u64) {
        self.disks[node] = bytes;
    }

    /// By how many bytes the machine's files may grow now, which have so many; as many as
    /// they like.
    pub(super) fn room_on_disk(&self, node: NodeId, used: impl FnOnce() -> u64) -> Option<u64> {
        match self.disks[node] {
            _ if self.lasts(node, CallFault::DiskFull) => Some(0),
            u64::MAX => None,
            bytes => Some(bytes.saturating_sub(used())),
        }
    }

    pub(super) fn limit_descriptors(&mut self, node: NodeId, most: usize) {
        self.descriptors[node] = most;
    }

    /// How many descriptors the machine may have now; as many as it likes.
    pub(super) fn most_descriptors(&self, node: NodeId) -> Option<usize> {
        if self.lasts(node, CallFault::NoDescriptors) {
            return Some(0);
        }
        Some(self.descriptors[node]).filter(|most| *most != usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_last_for_their_machine_and_their_time() {
        let mut calls = CallFaults::new(2);
        let happens = |calls: &mut CallFaults, node| {
            (0..100)
                .filter(|_| calls.happens(node, CallFault::Short))
                .count()
        };
        assert_eq!(happens(&mut calls, 0), 0);
        calls.begin(0, CallFault::Short, 1);
        calls.begin(0, CallFault::Short, 2);
        calls.begin(1, CallFault::NotReady, 3);
        assert!((30..70).contains(&happens(&mut calls, 0)));
        assert_eq!(happens(&mut calls, 1), 0);
        calls.end(0, CallFault::Short);
        assert!(calls.lasts(0, CallFault::Short));
        calls.end(0, CallFault::Short);
        calls.end(0, CallFault::Short);
        assert!(!calls.lasts(0, CallFault::Short));
    }

    #[test]
    fn a_part_is_some_and_not_all() {
        let mut calls = CallFaults::new(1);
        calls.begin(0, CallFault::Short, 7);
        for bytes in [2, 3, 17, 1 << 20] {
            let parts: Vec<_> = (0..200).map(|_| calls.part(0, bytes)).collect();
            assert!(parts.iter().all(|part| (1..bytes).contains(part)));
        }
        assert_eq!(calls.part(0, 1), 1);
    }

    #[test]
    fn descriptors_run_out_while_it_lasts() {
        let mut calls = CallFaults::new(1);
        assert_eq!(calls.most_descriptors(0), None);
        calls.limit_descriptors(0, 9);
        assert_eq!(calls.most_descriptors(0), Some(9));
        calls.begin(0, CallFault::NoDescriptors, 1);
        assert_eq!(calls.most_descriptors(0), Some(0));
    }
}
