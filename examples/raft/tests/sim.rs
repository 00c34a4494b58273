//! The same program in the simulator: crashes, partitions and resets by the seed, clients
//! that write and read meanwhile, and Raft's promises at the end. Planted bugs are found.

use std::hash::{BuildHasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use crore::sim::{Faults, Link, Sim, check};
use crore_raft::checks::Checks;
use crore_raft::config::{Config, Member};
use crore_raft::history::History;
use crore_raft::machine::Op;
use crore_raft::{Bugs, Client};

const NODES: [&str; 5] = ["a", "b", "c", "d", "e"];
const CLIENTS: [&str; 3] = ["p", "q", "r"];
const OPERATIONS: usize = 40;

fn members(nodes: usize) -> Vec<Member> {
    let member = |name: &&str| Member {
        name: name.to_string(),
        address: format!("{name}:7000"),
    };
    NODES[..nodes].iter().map(member).collect()
}

fn chance(below: u64) -> u64 {
    RandomState::new().hash_one(0) % below
}

/// Writes and reads two values, and notes what it sees; whether all was answered.
fn work(name: &str, nodes: usize, history: &History) -> bool {
    let nodes = members(nodes).into_iter().map(|member| member.address);
    let mut client = Client::new(
        nodes.collect(),
        Duration::from_millis(400),
        Duration::from_secs(60),
    );
    for number in 0..OPERATIONS {
        let text = format!("{name}{number} ");
        let op = match chance(4) {
            0 => Op::Put(text),
            1 => Op::Append(text),
            _ => Op::Get,
        };
        let key = ["x", "y"][chance(2) as usize];
        let call = history.call(key, &op);
        match client.run(key, op) {
            Ok(output) => history.returned(call, output),
            Err(_) => return false,
        }
        // Who was away for a while knows the leader of then.
        let away = if chance(4) == 0 { 3000 } else { 100 };
        sleep(Duration::from_millis(chance(away)));
    }
    true
}

/// A cluster and its clients; panics with what was broken.
fn cluster(sim: Sim, nodes: usize, bugs: Bugs) {
    cluster_with(sim, nodes, bugs, false, |faults| faults);
}

/// The same, where more may break: with `may_end` so much that a node gives up, and is begun
/// again on the disk as it is.
fn cluster_with(mut sim: Sim, nodes: usize, bugs: Bugs, may_end: bool, more: fn(Faults) -> Faults) {
    // Where syncing costs nothing, if there is such a place.
    let shared = Path::new("/dev/shm");
    let dir = if shared.is_dir() {
        tempfile::tempdir_in(shared)
    } else {
        tempfile::tempdir()
    };
    let dir = dir.unwrap();
    let (checks, history) = (Arc::new(Checks::default()), Arc::new(History::default()));
    let answered = Arc::new(AtomicBool::new(true));
    for (number, name) in NODES[..nodes].iter().enumerate() {
        let mut config = Config::new(number, members(nodes), dir.path().join(name));
        (config.batch, config.chunk, config.snapshot) = (1, 200, 5);
        config.election = Duration::from_millis(150);
        config.bugs = bugs;
        let checks = checks.clone();
        sim = sim.node(*name, move || {
            loop {
                let why = crore_raft::run(config.clone(), checks.clone()).unwrap_err();
                assert!(may_end, "a node ended: {why}");
                sleep(Duration::from_millis(chance(500)));
            }
        });
    }
    for name in CLIENTS {
        let (history, answered) = (history.clone(), answered.clone());
        sim = sim.client(name, move || {
            let all = work(name, nodes, &history);
            answered.fetch_and(all, Ordering::Relaxed);
        });
    }
    // Slow, so that much is on its way when something breaks.
    let link = Link {
        latency: Duration::from_millis(5),
        jitter: Duration::from_millis(30),
        ..Link::default()
    };
    let faults = Faults::within(Duration::from_secs(20))
        .lasting(Duration::from_millis(1500))
        .crashes(24)
        .partitions(10)
        .resets(4);
    let sim = sim.link(link).faults(more(faults)).disks(dir.path());
    let report = sim.run();
    if std::env::var_os("RAFT_SHOWS").is_some() {
        let (terms, entries) = (checks.leaders(), checks.last_committed());
        let hash = report.hash();
        println!(
            "{:?}, {terms} leaders, {entries} entries, hash {hash:016x}",
            report.elapsed()
        );
    }
    assert_eq!(checks.broken(), [""; 0]);
    history.check().unwrap();
    assert!(answered.load(Ordering::Relaxed), "a client had no answer");
}

/// `RAFT_SEEDS=1000` looks for longer.
#[test]
fn the_correct_program_keeps_its_promises() {
    let seeds = std::env::var("RAFT_SEEDS").map_or(200, |seeds| seeds.parse().unwrap());
    check(0..seeds, |sim| cluster(sim, 3, Bugs::NONE));
    check(0..seeds, |sim| cluster(sim, 5, Bugs::NONE));
}

/// Reads and writes of a part, and syncs that take longer than an election.
#[test]
fn short_calls_and_slow_disks_break_no_promise() {
    check(0..60, |sim| {
        let more = |faults: Faults| faults.short_transfers(20).slow_disks(10);
        cluster_with(sim, 3, Bugs::NONE, false, more);
    });
}

/// Reads, writes and syncs that fail, disks that are full, no descriptors left. A sync that has
/// failed loses what it was for, however often it is asked for again.
#[test]
fn failing_files_break_no_promise() {
    check(0..60, |sim| {
        let more = |faults: Faults| faults.disk_errors(8).full_disks(5).descriptor_shortages(8);
        cluster_with(sim, 3, Bugs::NONE, true, more);
    });
}

/// `RAFT_BUG=STALE_READS` looks for that one only.
#[test]
fn planted_bugs_are_found() {
    let only = std::env::var("RAFT_BUG").ok();
    for (name, bug) in Bugs::ALL {
        if only.as_ref().is_none_or(|only| only == name) {
            let search = || check(0..1000, |sim| cluster(sim, 3, bug));
            let found = catch_unwind(AssertUnwindSafe(search));
            let what = found.expect_err(name);
            let what = what.downcast_ref::<String>().expect("words");
            let what: Vec<_> = what.lines().take(3).collect();
            eprintln!("{name} is found: {}", what.join(" "));
        }
    }
}
