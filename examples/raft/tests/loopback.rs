//! Clusters over loopback TCP, with all nodes in one process: clients write and read while
//! leaders stop and come back from their files.

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crore::JoinHandle;
use crore_raft::checks::Checks;
use crore_raft::config::{Config, Member};
use crore_raft::history::History;
use crore_raft::machine::Op;
use crore_raft::{Bugs, Client};
use support::members;

/// A limit for a test that hangs.
const LIMIT: Duration = Duration::from_secs(120);

struct Cluster {
    members: Vec<Member>,
    dir: tempfile::TempDir,
    checks: Arc<Checks>,
    history: Arc<History>,
    nodes: Vec<Option<JoinHandle<()>>>,
    bugs: Bugs,
}

impl Cluster {
    fn start(size: usize, bugs: Bugs) -> Self {
        let mut cluster = Self {
            members: members(size),
            dir: tempfile::tempdir().unwrap(),
            checks: Arc::default(),
            history: Arc::default(),
            nodes: (0..size).map(|_| None).collect(),
            bugs,
        };
        (0..size).for_each(|node| cluster.start_node(node));
        cluster
    }

    fn start_node(&mut self, node: usize) {
        let dir = self.dir.path().join(&self.members[node].name);
        let mut config = Config::new(node, self.members.clone(), dir);
        config.snapshot = 40;
        config.chunk = 100;
        config.bugs = self.bugs;
        let checks = self.checks.clone();
        let serve = move || drop(crore_raft::run(config, checks).unwrap_err());
        self.nodes[node] = Some(crore::spawn(serve));
    }

    /// Its coroutines end, and with them its sockets are closed.
    fn stop_node(&mut self, node: usize) {
        let handle = self.nodes[node].take().unwrap();
        handle.cancel();
        let _ = handle.join();
    }

    fn client(&self) -> Client {
        let nodes = self.members.iter().map(|member| member.address.clone());
        Client::new(nodes.collect(), Duration::from_secs(3), LIMIT)
    }

    /// A client that does so many operations on two values, and notes what it sees.
    fn work(&self, name: &str, operations: usize) -> JoinHandle<()> {
        let (mut client, history) = (self.client(), self.history.clone());
        let name = name.to_owned();
        crore::spawn(move || {
            for number in 0..operations {
                let key = ["x", "y"][number / 2 % 2];
                let op = match number % 5 {
                    0 | 3 => Op::Get,
                    1 => Op::Append(format!("{name}{number} ")),
                    2 => Op::Put(format!("{name}{number} ")),
                    _ => Op::Swap {
                        expect: None,
                        new: name.clone(),
                    },
                };
                let call = history.call(key, &op);
                let output = client.run(key, op).unwrap();
                history.returned(call, output);
            }
        })
    }

    /// Waits until somebody leads a term after so many.
    fn leader_after(&self, terms: usize) -> usize {
        while self.checks.leaders() <= terms {
            crore::sleep(Duration::from_millis(10));
        }
        self.checks.leader().unwrap()
    }

    fn end(mut self) {
        for node in 0..self.nodes.len() {
            if self.nodes[node].is_some() {
                self.stop_node(node);
            }
        }
        assert_eq!(self.checks.broken(), [""; 0]);
        self.history.check().unwrap();
    }
}

/// Clients work while the leader stops, and comes back from its files, again and again.
fn leaders_come_and_go(size: usize) {
    crore::test::run(LIMIT, || {
        let mut cluster = Cluster::start(size, Bugs::NONE);
        for round in 0..4 {
            let terms = cluster.checks.leaders();
            let clients: Vec<_> = ["p", "q", "r"]
                .map(|name| cluster.work(&format!("{name}{round}."), 40))
                .into();
            let leader = cluster.leader_after(if round == 0 { 0 } else { terms - 1 });
            let before = cluster.checks.last_committed();
            while cluster.checks.last_committed() < before + 10 {
                crore::sleep(Duration::from_millis(1));
            }
            let terms = cluster.checks.leaders();
            cluster.stop_node(leader);
            cluster.leader_after(terms);
            clients
                .into_iter()
                .for_each(|client| client.join().unwrap());
            cluster.start_node(leader);
        }
        assert!(cluster.checks.leaders() >= 5);
        cluster.end();
    });
}

#[test]
fn three_nodes_lose_their_leaders() {
    leaders_come_and_go(3);
}

#[test]
fn five_nodes_lose_their_leaders() {
    leaders_come_and_go(5);
}

#[test]
fn a_node_that_was_away_gets_a_snapshot() {
    crore::test::run(LIMIT, || {
        let mut cluster = Cluster::start(3, Bugs::NONE);
        let leader = cluster.leader_after(0);
        cluster.work("p", 10).join().unwrap();
        let away = (leader + 1) % 3;
        cluster.stop_node(away);
        cluster.work("q", 200).join().unwrap();
        cluster.start_node(away);
        // With another one away it is needed for a majority.
        cluster.stop_node((leader + 2) % 3);
        cluster.work("r", 20).join().unwrap();
        let files = |node: usize| cluster.dir.path().join(&cluster.members[node].name);
        assert!(snapshot_index(&files(away)) >= 40);
        cluster.end();
    });
}

fn snapshot_index(dir: &Path) -> u64 {
    let bytes = std::fs::read(dir.join("snapshot")).unwrap();
    crore_raft::storage::Snapshot::decode(&bytes).unwrap().index
}

#[test]
fn without_a_majority_nothing_is_read_or_written() {
    crore::test::run(LIMIT, || {
        let mut cluster = Cluster::start(3, Bugs::NONE);
        cluster.leader_after(0);
        cluster.work("p", 5).join().unwrap();
        cluster.stop_node(0);
        cluster.stop_node(1);
        let alone = vec![cluster.members[2].address.clone()];
        for op in [Op::Get, Op::Put("lost".into())] {
            let patience = Duration::from_millis(300);
            let mut client = Client::new(alone.clone(), Duration::from_secs(3), patience);
            client.run("x", op).unwrap_err();
        }
        // Others make one again, and the client that asks only this one is served by it.
        cluster.start_node(0);
        let mut client = Client::new(alone, Duration::from_secs(3), LIMIT);
        client.run("x", Op::Put("kept".into())).unwrap();
        cluster.end();
    });
}

/// That the checks and the history see something at all.
#[test]
fn a_planted_bug_is_seen() {
    crore::test::run(LIMIT, || {
        let mut cluster = Cluster::start(3, Bugs::COMMITS_ALONE);
        let leader = cluster.leader_after(0);
        let others = [(leader + 1) % 3, (leader + 2) % 3];
        others.iter().for_each(|&node| cluster.stop_node(node));
        // The leader alone takes it, and is gone.
        let put = Op::Put("lost".into());
        let call = cluster.history.call("x", &put);
        let output = cluster.client().run("x", put).unwrap();
        cluster.history.returned(call, output);
        cluster.stop_node(leader);
        let terms = cluster.checks.leaders();
        others.iter().for_each(|&node| cluster.start_node(node));
        cluster.leader_after(terms);
        cluster.work("q", 10).join().unwrap();
        assert!(!cluster.checks.broken().is_empty());
        cluster.history.check().unwrap_err();
    });
}
