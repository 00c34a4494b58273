//! The measurement: what is done with the children, step by step.
//!
//! 1. Each client opens one connection, so that what a server sets up once is
//!    not counted as the cost of a connection. Memory is read.
//! 2. All open all the others, and echo a message on each.
//! 3. The servers' work after that comes to its end (the reactor looks once at
//!    every connection that waits). Memory is read, and the servers' processor
//!    time before and after some seconds of quiet.
//! 4. One client after the other sends messages on connections at random, one at
//!    a time: the latency among so many that are parked.
//! 5. All echo on every connection once more, so that each is seen to be alive
//!    while all are open.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};
use std::{io, thread};

use hdrhistogram::Histogram;

use crate::crew::{Clients, Server, Word};
use crate::kernel::{self, Memory};
use crate::options::{Options, Sources};
use crate::preflight::Plan;
use crate::progress::Progress;

/// The longest latency that is told apart: a minute, in nanoseconds.
const LONGEST: u64 = 60_000_000_000;

/// Processor time in a second, of all servers, that counts as quiet; and how
/// long we wait for that.
const QUIET: Duration = Duration::from_millis(1);
const PATIENCE: Duration = Duration::from_secs(180);

/// What came of it.
pub(crate) struct Report {
    /// Connections that have echoed, and were open all together.
    pub(crate) connections: usize,
    /// Those among them that were measured: opened after memory was first read.
    pub(crate) measured: usize,
    pub(crate) servers: usize,
    pub(crate) clients: usize,
    pub(crate) ramp: Duration,
    /// Bytes that the servers, and the clients, have more resident.
    pub(crate) server_bytes: u64,
    pub(crate) client_bytes: u64,
    /// Bytes that the kernel holds more: its objects and TCP buffers.
    pub(crate) kernel_bytes: u64,
    /// Bytes that the machine has less available, by its own estimate. It takes
    /// a part of the kernel's objects for reclaimable, and other programs count.
    pub(crate) available_bytes: u64,
    /// Processor time of all servers, and of how long.
    pub(crate) idle: (Duration, Duration),
    /// Nanoseconds from write to checked reply.
    pub(crate) latency: Histogram<u64>,
    /// How long the last echo on all took.
    pub(crate) round: Duration,
    /// Connections of that round.
    pub(crate) echoed: usize,
    /// How often each thing went wrong.
    pub(crate) errors: BTreeMap<String, u64>,
}

/// The children, and what they said went wrong.
struct Crew {
    // Dropped first: clients before their servers.
    clients: Clients,
    servers: Vec<Server>,
    took: Vec<u64>,
    errors: BTreeMap<String, u64>,
}

/// Memory at one moment.
struct Held {
    machine: Memory,
    servers: u64,
    clients: u64,
}

/// Does all of it.
///
/// # Errors
///
/// Only what leaves nothing to report. What goes wrong on a connection is in the
/// report.
pub(crate) fn measure(plan: &Plan, options: &Options) -> io::Result<Report> {
    let mut crew = Crew::start(plan, options)?;
    let all = 0..plan.servers;
    crew.step("first connections", all.clone(), |_| "open 1".into(), 1)?;
    let before = crew.held()?;

    let share = |number: usize| {
        let more = usize::from(number < plan.connections % plan.servers);
        plan.connections / plan.servers + more - 1
    };
    let started = Instant::now();
    let open = |number| format!("open {}", share(number));
    let connections = crew.step("connecting", all.clone(), open, plan.connections)?;
    let ramp = started.elapsed();

    crew.settle()?;
    let with_all = crew.held()?;
    let idle = crew.watch(options.time)?;

    crew.probe(plan.servers, options.time)?;
    let started = Instant::now();
    let echoed = crew.step("echo on all", all, |_| "echo".into(), connections)?;
    let round = started.elapsed();

    let mut latency = Histogram::new_with_bounds(1, LONGEST, 3).map_err(io::Error::other)?;
    crew.took
        .iter()
        .for_each(|&time| latency.saturating_record(time));
    let Crew {
        clients,
        servers,
        errors,
        ..
    } = crew;
    let report = Report {
        connections,
        measured: connections.saturating_sub(plan.servers),
        servers: servers.len(),
        clients: clients.count(),
        ramp,
        server_bytes: with_all.servers.saturating_sub(before.servers),
        client_bytes: with_all.clients.saturating_sub(before.clients),
        kernel_bytes: with_all.machine.kernel_since(&before.machine),
        available_bytes: before
            .machine
            .available
            .saturating_sub(with_all.machine.available),
        idle,
        latency,
        round,
        echoed,
        errors,
    };
    clients.end();
    Ok(report)
}

impl Crew {
    fn start(plan: &Plan, options: &Options) -> io::Result<Self> {
        let mut crew = Self {
            clients: Clients::new(),
            servers: Vec::new(),
            took: Vec::new(),
            errors: BTreeMap::new(),
        };
        let sources_each = plan
            .connections
            .div_ceil(plan.servers)
            .div_ceil(plan.per_source);
        for number in 0..plan.servers {
            let server = Server::start(options.service)?;
            crew.clients.start(Sources {
                server: server.address,
                first: (number * sources_each) as u32,
                each: plan.per_source,
            })?;
            crew.servers.push(server);
        }
        Ok(crew)
    }

    /// Has some clients do something and waits until all have; says how far
    /// they came together.
    fn step(
        &mut self,
        what: &'static str,
        who: Range<usize>,
        command: impl Fn(usize) -> String,
        total: usize,
    ) -> io::Result<usize> {
        let mut progress = Progress::new(what, total);
        let mut at = vec![0; self.clients.count()];
        for number in who.clone() {
            self.clients.tell(number, &command(number));
        }
        let mut busy = who.len();
        while busy > 0 {
            let (number, word) = self.clients.hear();
            match word {
                Word::At(count) => {
                    at[number] = count;
                    progress.at(at.iter().sum());
                }
                Word::Took(times) => self.took.extend(times),
                Word::Failed(why) => *self.errors.entry(format!("{what}: {why}")).or_default() += 1,
                Word::Done => busy -= 1,
                Word::Gone => {
                    return Err(io::Error::other(format!("{what}: a client process ended")));
                }
            }
        }
        Ok(at.iter().sum())
    }

    fn probe(&mut self, clients: usize, time: Duration) -> io::Result<()> {
        let each = (time / clients as u32).as_millis().max(1);
        for number in 0..clients {
            let command = |_| format!("probe {each}");
            self.step("latency", number..number + 1, command, 1)?;
        }
        Ok(())
    }

    fn held(&self) -> io::Result<Held> {
        let sum = |pids: &mut dyn Iterator<Item = u32>| -> io::Result<u64> {
            pids.map(kernel::resident).sum()
        };
        Ok(Held {
            machine: Memory::now()?,
            servers: sum(&mut self.servers.iter().map(Server::pid))?,
            clients: sum(&mut self.clients.pids())?,
        })
    }

    /// Processor time of all servers so far.
    fn processor_time(&self) -> io::Result<Duration> {
        self.servers
            .iter()
            .map(|server| kernel::processor_time(server.pid()))
            .sum()
    }

    /// Waits until the servers are quiet.
    fn settle(&self) -> io::Result<()> {
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            let (time, _) = self.watch_for(Duration::from_secs(1))?;
            if time <= QUIET {
                break;
            }
        }
        Ok(())
    }

    /// The servers' processor time in so much time of quiet.
    fn watch(&self, time: Duration) -> io::Result<(Duration, Duration)> {
        let seconds = time.as_secs() as usize;
        let mut progress = Progress::new("quiet, seconds", seconds);
        let (mut used, mut elapsed) = (Duration::ZERO, Duration::ZERO);
        for second in 1..=seconds {
            let (more, longer) = self.watch_for(Duration::from_secs(1))?;
            used += more;
            elapsed += longer;
            progress.at(second);
        }
        Ok((used, elapsed))
    }

    fn watch_for(&self, time: Duration) -> io::Result<(Duration, Duration)> {
        let (started, before) = (Instant::now(), self.processor_time()?);
        thread::sleep(time);
        Ok((self.processor_time()? - before, started.elapsed()))
    }
}
