//! Observer: is told what replicas do, so that a test can hold it against Raft's promises.

use crate::log::Entry;
use crate::machine::Outcome;

/// What a node of the cluster does, `node` being its place in `members`.
///
/// It is called with the node's lock held: it may not wait, nor ask the node for anything.
#[expect(unused_variables, reason = "whoever observes takes what it needs")]
pub trait Observer: Send + Sync {
    /// The node's state is a snapshot's now, with nothing in its log after this entry. It
    /// is said at the begin, too, and then again for what is [`appended`](Self::appended).
    fn restored(&self, node: usize, index: u64, term: u64) {}

    /// The log has an entry, in the place of all from its index on.
    fn appended(&self, node: usize, entry: &Entry) {}

    /// The node leads.
    fn became_leader(&self, node: usize, term: u64) {}

    /// The node, which is in `term`, knows an entry to be committed.
    fn committed(&self, node: usize, term: u64, entry: &Entry) {}

    /// The node's machine has done an entry's command.
    fn applied(&self, node: usize, entry: &Entry, outcome: &Outcome) {}
}

/// Who doesn't look.
pub struct Nobody;

impl Observer for Nobody {}
