//! Replicas without sockets and clocks: a seed decides which message comes next, which is
//! lost, who is cut off, wants to lead, crashes, and what clients ask. Each planted bug is
//! found so; the correct program breaks nothing.

use std::fs::OpenOptions;
use std::path::Path;
use std::time::Duration;

use super::clients::Read;
use super::*;
use crate::checks::Checks;
use crate::config::{Bugs, Member};
use crate::history::History;
use crate::machine::{Command, Op, Output};

const NODES: usize = 5;
const CLIENTS: usize = 3;
const STEPS: usize = 3000;

/// SplitMix64.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ mixed >> 31) % limit as u64) as usize
    }
}

/// A request, and its answer when there is one.
struct Message {
    from: usize,
    to: usize,
    request: Request,
    reply: Option<Reply>,
}

/// A client, with what it waits for.
#[derive(Default)]
struct Client {
    session: Option<u64>,
    number: u64,
    /// The number in the history, the key, and the operation that it repeats until it has
    /// an answer.
    asks: Option<(usize, String, Op)>,
    waits: Option<(usize, Waits)>,
}

enum Waits {
    Command((u64, u64)),
    Read(Read),
}

struct World<'a> {
    dir: &'a Path,
    bugs: Bugs,
    chance: Chance,
    /// Of so many steps one is a disturbance.
    calm: usize,
    batch: usize,
    now: Instant,
    nodes: Vec<Option<Replica>>,
    /// Who hears nothing, and isn't heard.
    cut: [bool; NODES],
    messages: Vec<Message>,
    clients: [Client; CLIENTS],
    checks: Arc<Checks>,
    history: History,
}

impl<'a> World<'a> {
    fn new(seed: u64, bugs: Bugs, dir: &'a Path) -> Self {
        let mut chance = Chance(seed);
        let mut world = Self {
            dir,
            bugs,
            calm: 10 << chance.below(5),
            batch: [1, 8][chance.below(2)],
            chance,
            now: Instant::now(),
            nodes: (0..NODES).map(|_| None).collect(),
            cut: [false; NODES],
            messages: Vec::new(),
            clients: Default::default(),
            checks: Arc::default(),
            history: History::default(),
        };
        (0..NODES).for_each(|node| world.start(node));
        world
    }

    fn start(&mut self, node: usize) {
        let members = (0..NODES).map(|one| Member {
            name: one.to_string(),
            address: one.to_string(),
        });
        let dir = self.dir.join(node.to_string());
        let mut config = Config::new(node, members.collect(), dir);
        (config.batch, config.chunk, config.snapshot) = (self.batch, 150, 12);
        config.bugs = self.bugs;
        let replica = Replica::open(config, self.checks.clone(), self.now).unwrap();
        self.nodes[node] = Some(replica);
    }

    fn crash(&mut self, node: usize) {
        if let Some(replica) = self.nodes[node].take() {
            self.lose_unsynced(node, replica.storage.synced);
        }
        self.messages
            .retain(|one| one.from != node && one.to != node);
        let asked = |client: &Client| client.waits.as_ref().is_some_and(|(at, _)| *at == node);
        let lost = self.clients.iter_mut().filter(|client| asked(client));
        lost.for_each(|client| client.waits = None);
    }

    /// Of what was not synced the disk has a part, or nothing.
    fn lose_unsynced(&mut self, node: usize, synced: u64) {
        let path = self.dir.join(node.to_string()).join("log");
        let log = OpenOptions::new().write(true).open(path).unwrap();
        let unsynced = log.metadata().unwrap().len() - synced;
        if unsynced > 0 {
            let left = self.chance.below(2) * self.chance.below(unsynced as usize);
            log.set_len(synced + left as u64).unwrap();
        }
    }

    fn step(&mut self) {
        let node = self.chance.below(NODES);
        self.now += Duration::from_millis(1);
        if self.chance.below(self.calm) == 0 {
            return self.disturb(node);
        }
        match self.chance.below(100) {
            0..=3 if self.nodes[node].is_none() => self.start(node),
            0 if self.chance.below(3) == 0 => self.cut = [false; NODES],
            1..=14 => (0..NODES).for_each(|node| self.send(node)),
            15..=84 => self.deliver(),
            _ => {
                let client = self.chance.below(CLIENTS);
                self.client(client);
            }
        }
    }

    fn disturb(&mut self, node: usize) {
        let leader = self.checks.leader().filter(|_| self.chance.below(2) == 0);
        let node = leader.unwrap_or(node);
        match self.chance.below(4) {
            0 | 1 => self.elect(node),
            2 => self.crash(node),
            _ => self.cut[node] = true,
        }
    }

    fn elect(&mut self, node: usize) {
        // Later than any deadline.
        self.now += Duration::from_secs(1);
        if let Some(replica) = &mut self.nodes[node] {
            replica.tick(self.now).unwrap();
        }
    }

    /// To each peer with which no exchange is under way.
    fn send(&mut self, from: usize) {
        let Some(replica) = &mut self.nodes[from] else {
            return;
        };
        for to in (0..NODES).filter(|&to| to != from) {
            let mut messages = self.messages.iter();
            if messages.any(|one| (one.from, one.to) == (from, to)) {
                continue;
            }
            if let Some(request) = replica.request_for(to, self.now) {
                self.messages.push(Message {
                    from,
                    to,
                    request,
                    reply: None,
                });
            }
        }
    }

    fn deliver(&mut self) {
        if self.messages.is_empty() {
            return;
        }
        let place = self.chance.below(self.messages.len());
        let mut message = self.messages.swap_remove(place);
        let (from, to) = (message.from, message.to);
        // Sometimes it stays on its way for long; and a request may come twice.
        if self.chance.below(12) == 0 {
            return self.messages.push(message);
        }
        if self.cut[from] || self.cut[to] || self.chance.below(20) == 0 {
            // Old requests come late from queues of the network.
            if message.reply.is_none() && self.chance.below(2) == 0 {
                self.messages.push(message);
            }
            return;
        }
        if let Some(reply) = &message.reply {
            let replica = self.nodes[from].as_mut().unwrap();
            return replica
                .on_reply(to, &message.request, reply, self.now)
                .unwrap();
        }
        if let Some(replica) = &mut self.nodes[to] {
            let reply = replica
                .on_request(message.request.clone(), self.now)
                .unwrap();
            message.reply = Some(reply);
            self.messages.push(message);
        }
    }

    fn client(&mut self, number: usize) {
        let mut client = std::mem::take(&mut self.clients[number]);
        match client.waits.take() {
            Some((node, waits)) => self.look(&mut client, node, waits),
            None => self.ask(&mut client, number),
        }
        self.clients[number] = client;
    }

    fn ask(&mut self, client: &mut Client, number: usize) {
        let node = self.chance.below(NODES);
        if client.asks.is_none() && client.session.is_some() {
            client.number += 1;
            let text = format!("{number}.{} ", client.number);
            let op = match self.chance.below(4) {
                0 => Op::Put(text),
                1 => Op::Append(text),
                _ => Op::Get,
            };
            let key = ["x", "y"][self.chance.below(2)].to_owned();
            let call = self.history.call(&key, &op);
            client.asks = Some((call, key, op));
        }
        let Some(replica) = &mut self.nodes[node] else {
            return;
        };
        let command = match (&client.asks, client.session) {
            (Some((_, _, Op::Get)), _) => {
                client.waits = replica
                    .begin_read()
                    .ok()
                    .map(|read| (node, Waits::Read(read)));
                return;
            }
            (Some((_, key, op)), Some(session)) => Command::Do {
                session,
                number: client.number,
                key: key.clone(),
                op: op.clone(),
            },
            _ => Command::Open,
        };
        let place = replica.propose(command).unwrap().ok();
        client.waits = place.map(|place| (node, Waits::Command(place)));
    }

    /// Looks what came of it; sometimes the answer is lost, or the client waits no longer.
    fn look(&mut self, client: &mut Client, node: usize, waits: Waits) {
        if self.chance.below(10) == 0 {
            return;
        }
        let replica = self.nodes[node].as_mut().unwrap();
        let output = match &waits {
            Waits::Command(place) => match replica.outcome(*place) {
                Progress::Done(Outcome::Opened(session)) => {
                    (client.session, client.number) = (Some(session), 0);
                    return;
                }
                Progress::Done(Outcome::Did(output)) => Progress::Done(output),
                Progress::Done(other) => panic!("{other:?}"),
                Progress::Waits => Progress::Waits,
                Progress::Lost => Progress::Lost,
            },
            Waits::Read(read) => {
                let (_, key, _) = client.asks.as_ref().unwrap();
                match replica.read(*read, key) {
                    Progress::Done(value) => Progress::Done(Output::Value(value)),
                    Progress::Waits => Progress::Waits,
                    Progress::Lost => Progress::Lost,
                }
            }
        };
        match output {
            Progress::Done(output) => {
                let (call, _, _) = client.asks.take().unwrap();
                self.history.returned(call, output);
            }
            Progress::Waits => client.waits = Some((node, waits)),
            Progress::Lost => {}
        }
    }

    fn broken(&self) -> Option<String> {
        self.checks.broken().into_iter().next()
    }
}

/// What is broken in a run with this seed, and how many entries were committed.
fn run(seed: u64, bugs: Bugs) -> Result<u64, String> {
    let shared = Path::new("/dev/shm");
    let dir = if shared.is_dir() {
        tempfile::tempdir_in(shared)
    } else {
        tempfile::tempdir()
    };
    let dir = dir.unwrap();
    let mut world = World::new(seed, bugs, dir.path());
    for _ in 0..STEPS {
        world.step();
        if let Some(broken) = world.broken() {
            return Err(broken);
        }
    }
    world.history.check()?;
    Ok(world.checks.last_committed())
}

/// `RAFT_SEEDS=20000` looks for longer.
#[test]
fn the_correct_program_keeps_its_promises() {
    let seeds = std::env::var("RAFT_SEEDS").map_or(300, |seeds| seeds.parse().unwrap());
    let ran = |seed| run(seed, Bugs::NONE).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    let committed: u64 = (0..seeds).map(ran).sum();
    assert!(committed > seeds * 10, "{committed} entries were committed");
}

#[test]
fn planted_bugs_are_found() {
    for (name, bug) in Bugs::ALL {
        let found = (1..=1000).find_map(|seed| Some((seed, run(seed, bug).err()?)));
        let Some((seeds, what)) = found else {
            panic!("{name} is not found");
        };
        let what = what.lines().next().unwrap();
        println!("{name}: after {seeds} seeds: {what}");
    }
}
