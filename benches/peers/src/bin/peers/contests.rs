//! What is compared, and between whom.

use crore_peers::pipelined::Service;
use crore_peers::subject::Work;

/// One comparison of the work of runtimes.
pub(crate) struct Contest {
    pub(crate) title: &'static str,
    pub(crate) work: Work,
    /// Tasks.
    pub(crate) count: u64,
    pub(crate) operations: u64,
    /// Who takes part; the first is the yardstick.
    pub(crate) subjects: &'static [&'static str],
}

/// One comparison of servers whose clients do not wait for an answer.
pub(crate) struct Pipeline {
    pub(crate) title: &'static str,
    pub(crate) service: Service,
    pub(crate) connections: usize,
    /// Requests of each connection that have no answer yet.
    pub(crate) in_flight: usize,
}

const ALL: &[&str] = &[
    "crore",
    "crore-shared",
    "crore-2",
    "tokio",
    "tokio-2",
    "may",
    "libco",
    "libco-shared",
    "photon",
    "go",
    "threads",
];
const AND_FLOOR: &[&str] = &[
    "crore",
    "crore-shared",
    "crore-2",
    "corosensei",
    "tokio",
    "tokio-2",
    "may",
    "libco",
    "libco-shared",
    "photon",
    "go",
    "threads",
];
/// libco and Photon have no channels.
const CHANNELS: &[&str] = &[
    "crore",
    "crore-shared",
    "crore-2",
    "tokio",
    "tokio-2",
    "may",
    "go",
    "threads",
];
/// may's have no bound.
const BOUNDED: &[&str] = &[
    "crore",
    "crore-shared",
    "crore-2",
    "tokio",
    "tokio-2",
    "go",
    "threads",
];
/// How many workers there are makes no difference.
const MEMORY: &[&str] = &[
    "crore",
    "crore-shared",
    "corosensei",
    "tokio",
    "may",
    "libco",
    "libco-shared",
    "photon",
    "go",
    "threads",
];

/// The echo servers; the first is the yardstick.
pub(crate) const SERVERS: &[&str] = &[
    "epoll",
    "crore",
    "crore-shared",
    "tokio",
    "may",
    "monoio",
    "smol",
    "libco",
    "libco-shared",
    "photon",
    "threads",
    "go",
];

/// Whom the servers' latencies are compared with.
pub(crate) const LATENCIES: &str = "tokio";

/// The first is what Photon publishes, the others have the numbers of the usual load
/// generators.
pub(crate) const PIPELINED: &[Pipeline] = &[
    Pipeline {
        title: "stream of 512 bytes",
        service: Service::Stream,
        connections: 4,
        in_flight: 128,
    },
    Pipeline {
        title: "HTTP plaintext",
        service: Service::Http,
        connections: 64,
        in_flight: 16,
    },
    Pipeline {
        title: "GET of Redis",
        service: Service::Get,
        connections: 50,
        in_flight: 16,
    },
];

pub(crate) const CONTESTS: &[Contest] = &[
    contest(
        "switch: yield, nobody else runnable",
        Work::Yield,
        1,
        500_000,
        AND_FLOOR,
    ),
    contest("yield, 2 runnable", Work::Yield, 2, 1_000_000, AND_FLOOR),
    contest(
        "yield, 1 000 runnable",
        Work::Yield,
        1_000,
        2_000_000,
        AND_FLOOR,
    ),
    contest(
        "yield, 100 000 runnable",
        Work::Yield,
        100_000,
        2_000_000,
        AND_FLOOR,
    ),
    contest(
        "yield, 1 000 000 runnable",
        Work::Yield,
        1_000_000,
        5_000_000,
        AND_FLOOR,
    ),
    contest(
        "spawn + join, one by one",
        Work::SpawnJoin,
        1,
        200_000,
        AND_FLOOR,
    ),
    contest(
        "spawn + join, batches of 1 000",
        Work::SpawnBatch,
        1_000,
        200_000,
        ALL,
    ),
    contest("wake, there and back", Work::Wake, 2, 200_000, ALL),
    contest("a message, ping-pong", Work::PingPong, 2, 200_000, CHANNELS),
    contest(
        "a message, 128 in flight",
        Work::Stream,
        2,
        500_000,
        BOUNDED,
    ),
    contest(
        "wake with a timer, there and back",
        Work::TimerCancel,
        2,
        100_000,
        ALL,
    ),
    contest("spawn, sleep, wake, join", Work::Sleep, 4_000, 4_000, ALL),
    contest("bytes of a parked one", Work::Parked, 1_000_000, 1, MEMORY),
];

const fn contest(
    title: &'static str,
    work: Work,
    count: u64,
    operations: u64,
    subjects: &'static [&'static str],
) -> Contest {
    Contest {
        title,
        work,
        count,
        operations,
        subjects,
    }
}
