//! Settings of a node, and the bugs that tests plant.

use std::ops::BitOr;
use std::path::PathBuf;
use std::time::Duration;

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// What it is called.
    pub name: String,
    /// `host:port`, for its peers and for clients.
    pub address: String,
}

/// The settings of one node.
#[derive(Clone, Debug)]
pub struct Config {
    /// The place of this node in `members`.
    pub me: usize,
    /// All nodes, in the same order on each of them.
    pub members: Vec<Member>,
    /// Where this node has its files.
    pub dir: PathBuf,
    /// A leader that has nothing to say says that this often.
    pub heartbeat: Duration,
    /// A follower that has heard nothing for once to twice this long wants to lead.
    pub election: Duration,
    /// How long a peer may take to connect, and to answer.
    pub call: Duration,
    /// How long a client's request may wait for a majority.
    pub request: Duration,
    /// How long a connection may be silent.
    pub idle: Duration,
    /// Entries of one message, at most.
    pub batch: usize,
    /// Bytes of one part of a snapshot, at most.
    pub chunk: usize,
    /// Entries after which a snapshot takes their place.
    pub snapshot: u64,
    /// What is wrong on purpose.
    pub bugs: Bugs,
}

impl Config {
    /// Settings for node `me` of `members`.
    pub fn new(me: usize, members: Vec<Member>, dir: impl Into<PathBuf>) -> Self {
        Self {
            me,
            members,
            dir: dir.into(),
            heartbeat: Duration::from_millis(50),
            election: Duration::from_millis(300),
            call: Duration::from_millis(250),
            request: Duration::from_secs(2),
            idle: Duration::from_secs(30),
            batch: 256,
            chunk: 64 << 10,
            snapshot: 10_000,
            bugs: Bugs::NONE,
        }
    }

    /// Nodes that make a majority.
    pub fn quorum(&self) -> usize {
        self.members.len() / 2 + 1
    }
}

/// A set of bugs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bugs(u16);

macro_rules! bugs {
    ($($(#[$doc:meta])+ $name:ident = $bit:literal;)*) => {
        impl Bugs {
            $($(#[$doc])+ pub const $name: Self = Self(1 << $bit);)*

            /// Each of them, with its name.
            pub const ALL: [(&str, Self); 10] = [$((stringify!($name), Self::$name)),*];
        }
    };
}

bugs! {
    /// A vote is given before it is on the disk.
    VOTE_NOT_SYNCED = 0;
    /// Term and vote are not written at all.
    TERM_NOT_SAVED = 1;
    /// A leader reads without asking whether it still leads.
    STALE_READS = 2;
    /// Entries of older terms are committed because a majority has them (§5.4.2).
    COMMITS_OLD_TERMS = 3;
    /// Entries that differ from the leader's stay.
    KEEPS_CONFLICTS = 4;
    /// A vote is given to a candidate whose log is behind.
    VOTES_FOR_OLD_LOGS = 5;
    /// A snapshot does not have what clients have already done.
    SNAPSHOT_FORGETS_SESSIONS = 6;
    /// A leader commits what it alone has.
    COMMITS_ALONE = 7;
    /// Entries are acknowledged before they are on the disk.
    APPEND_NOT_SYNCED = 8;
    /// A follower takes entries from a leader of an older term.
    FOLLOWS_OLD_TERMS = 9;
}

impl Bugs {
    /// The correct program.
    pub const NONE: Self = Self(0);

    /// Whether all of `bugs` are in this set.
    pub fn has(self, bugs: Self) -> bool {
        self.0 & bugs.0 == bugs.0
    }
}

impl BitOr for Bugs {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}
