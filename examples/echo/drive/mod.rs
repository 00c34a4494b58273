//! The driver: many connections to an echo server, one thread, a closed loop.
//!
//! [`drive`] turns a [`Config`] into a [`Report`] and knows neither terminals
//! nor arguments, so benches use it as it is. In three phases:
//!
//! 1. **connect**: opens the connections, a bounded number at a time, and
//!    echoes one message on each. So each has been accepted and served once
//!    when the phase ends: what the server holds then is what an idle
//!    connection costs.
//! 2. **load**: each connection sends a message, waits for all of it to come
//!    back, checks it, and sends the next one.
//! 3. **drain**: nothing new is sent; what is on its way must still come back.
//!
//! A connection that fails is counted under its reason and closed; nothing is
//! tried again. Silence for [`PATIENCE`] fails every connection that waits.

mod connection;
mod pattern;
mod process;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use connection::{Connection, Step};
pub(crate) use pattern::PERIOD as MAX_SIZE;
use pattern::Pattern;
pub(crate) use process::Usage;

/// How long nothing at all may come back before we stop waiting.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest latency that is told apart: a minute, in nanoseconds.
const LONGEST: u64 = 60_000_000_000;

/// Connections not yet served once. Below any usual backlog (std asks for
/// 128): a full one costs a second, for the kernel's retry.
const IN_FLIGHT: usize = 64;

/// What to drive.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// Where the server listens.
    pub(crate) server: SocketAddr,
    /// How many connections to open.
    pub(crate) connections: usize,
    /// How long the load lasts.
    pub(crate) load: Duration,
    /// Bytes in a message, 1 to [`MAX_SIZE`].
    pub(crate) size: usize,
    /// The server's process, where its memory and processor time shall be read.
    pub(crate) server_pid: Option<u32>,
    /// Whether to look for events rather than sleep until there are some, under load: so
    /// that a processor of the driver's own is never what the server waits for.
    pub(crate) spins: bool,
}

/// What came of it.
pub(crate) struct Report {
    /// Connections that echoed their first message.
    pub(crate) connections: usize,
    /// Messages that came back during the load.
    pub(crate) requests: u64,
    /// How long the load lasted.
    pub(crate) elapsed: Duration,
    /// Nanoseconds from write to checked reply, drained messages included.
    pub(crate) latency: Histogram<u64>,
    /// How often each thing went wrong; empty when nothing did.
    pub(crate) errors: BTreeMap<String, u64>,
    /// What the server used.
    pub(crate) server: Option<ServerUse>,
    /// Processor time of this process during the load.
    pub(crate) driver_cpu: Duration,
}

/// What the server's process used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ServerUse {
    /// Resident bytes before the connections.
    pub(crate) before: u64,
    /// Resident bytes with all connections idle.
    pub(crate) idle: u64,
    /// Resident bytes at the end of the load.
    pub(crate) loaded: u64,
    /// Processor time during the load.
    pub(crate) cpu: Duration,
}

/// How far the driver is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// So many connections have been opened (or have failed).
    Connecting(usize),
    /// So much of the load's time is over, with so many replies.
    Loading(Duration, u64),
}

/// Drives the server, telling `watch` now and then how far it is.
///
/// # Errors
///
/// Only what leaves nothing to report: no epoll, or a server process that
/// can't be looked at. What goes wrong on a connection is in the report.
pub(crate) fn drive(config: &Config, watch: &mut dyn FnMut(Progress)) -> io::Result<Report> {
    let mut driver = Driver::new(config, watch)?;
    let usage = |settled: bool| {
        let read = if settled { Usage::settled } else { Usage::of };
        config.server_pid.map(read).transpose()
    };

    // One served connection first, so that what the server sets up once
    // is not counted as the cost of a connection.
    if config.server_pid.is_some() {
        driver.connect(1);
        driver.connections.clear();
    }
    let before = usage(true)?;

    driver.connect(config.connections);
    let connections = driver.connections.iter().flatten().count();
    let idle = usage(true)?;

    let own_cpu = Usage::of(std::process::id())?.cpu;
    let started = Instant::now();
    driver.load(started);
    let elapsed = started.elapsed();
    let driver_cpu = Usage::of(std::process::id())?.cpu - own_cpu;
    let loaded = usage(false)?;
    driver.drain();

    let server = before
        .zip(idle)
        .zip(loaded)
        .map(|((before, idle), loaded)| ServerUse {
            before: before.rss_bytes,
            idle: idle.rss_bytes,
            loaded: loaded.rss_bytes,
            cpu: loaded.cpu.saturating_sub(idle.cpu),
        });
    let Driver {
        requests,
        latency,
        errors,
        ..
    } = driver;
    Ok(Report {
        connections,
        requests,
        elapsed,
        latency,
        errors,
        server,
        driver_cpu,
    })
}

/// What a reply leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Connect,
    Load,
    Drain,
}

struct Driver<'a> {
    config: &'a Config,
    watch: &'a mut dyn FnMut(Progress),
    poll: Poll,
    pattern: Pattern,
    buffer: Box<[u8]>,
    /// By token; `None` where one failed.
    connections: Vec<Option<Connection>>,
    /// How many of them have a message on its way.
    busy: usize,
    phase: Phase,
    patience: Duration,
    requests: u64,
    latency: Histogram<u64>,
    errors: BTreeMap<String, u64>,
}

impl<'a> Driver<'a> {
    fn new(config: &'a Config, watch: &'a mut dyn FnMut(Progress)) -> io::Result<Self> {
        Ok(Self {
            config,
            watch,
            poll: Poll::new()?,
            pattern: Pattern::new(config.size),
            buffer: vec![0; 64 << 10].into_boxed_slice(),
            connections: Vec::with_capacity(config.connections),
            busy: 0,
            phase: Phase::Connect,
            patience: PATIENCE,
            requests: 0,
            latency: Histogram::new_with_bounds(1, LONGEST, 3).map_err(io::Error::other)?,
            errors: BTreeMap::new(),
        })
    }

    /// Opens `count` connections and echoes one message on each.
    fn connect(&mut self, count: usize) {
        let mut events = Events::with_capacity(1024);
        self.phase = Phase::Connect;
        while self.connections.len() < count || self.busy > 0 {
            while self.connections.len() < count && self.busy < IN_FLIGHT {
                self.open();
            }
            self.turn(&mut events);
            (self.watch)(Progress::Connecting(self.connections.len() - self.busy));
        }
    }

    /// Keeps every connection busy for the configured time.
    fn load(&mut self, started: Instant) {
        let mut events = Events::with_capacity(1024);
        self.phase = Phase::Load;
        for index in 0..self.connections.len() {
            self.request(index, Instant::now());
        }
        loop {
            let elapsed = started.elapsed();
            (self.watch)(Progress::Loading(elapsed, self.requests));
            let left = self.config.load.saturating_sub(elapsed);
            if left.is_zero() || self.busy == 0 {
                return;
            }
            let most = if self.config.spins {
                Duration::ZERO
            } else {
                Duration::from_millis(100)
            };
            self.poll_events(&mut events, left.min(most));
        }
    }

    /// Waits for what is still on its way.
    fn drain(&mut self) {
        let mut events = Events::with_capacity(1024);
        self.phase = Phase::Drain;
        while self.busy > 0 {
            self.turn(&mut events);
        }
    }

    /// Waits for events and handles them; after long silence every busy
    /// connection has failed.
    fn turn(&mut self, events: &mut Events) {
        if self.busy > 0 && !self.poll_events(events, self.patience) {
            let silence = format!("no reply within {:?}", self.patience);
            for index in 0..self.connections.len() {
                if self.connections[index]
                    .as_ref()
                    .is_some_and(|c| c.is_busy(&self.pattern))
                {
                    self.fail(index, &silence);
                }
            }
        }
    }

    /// Waits for events and handles them; false if there were none in time.
    fn poll_events(&mut self, events: &mut Events, timeout: Duration) -> bool {
        match self.poll.poll(events, Some(timeout)) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return true,
            Err(e) => unreachable!("epoll_wait on a live epoll: {e}"),
        }
        for event in events.iter() {
            self.advance(event.token().0);
        }
        !events.is_empty()
    }

    fn open(&mut self) {
        let index = self.connections.len();
        let opened =
            Connection::open(self.config.server, index, &self.pattern).and_then(|connection| {
                let both = Interest::READABLE | Interest::WRITABLE;
                self.poll.registry().register(
                    &mut SourceFd(&connection.fd()),
                    Token(index),
                    both,
                )?;
                Ok(connection)
            });
        match opened {
            Ok(connection) => {
                self.connections.push(Some(connection));
                self.request(index, Instant::now());
            }
            Err(e) => {
                self.connections.push(None);
                self.count_error(&e);
            }
        }
    }

    /// Sends the next message of a connection that has none on its way.
    fn request(&mut self, index: usize, now: Instant) {
        let Some(connection) = &mut self.connections[index] else {
            return;
        };
        let sent = connection.request(&self.pattern, now);
        self.busy += 1;
        if let Err(e) = sent {
            self.fail(index, &e);
        }
    }

    fn advance(&mut self, index: usize) {
        // An event may outlive its connection by the rest of the batch.
        let Some(connection) = self.connections.get_mut(index).and_then(Option::as_mut) else {
            return;
        };
        match connection.advance(&self.pattern, &mut self.buffer) {
            Ok(Step::Waiting) => {}
            Ok(Step::Replied) => {
                let since = connection.since();
                self.busy -= 1;
                self.replied(index, since);
            }
            Err(e) => self.fail(index, &e),
        }
    }

    fn replied(&mut self, index: usize, since: Instant) {
        if self.phase == Phase::Connect {
            return;
        }
        let now = Instant::now();
        let nanoseconds = u64::try_from((now - since).as_nanos()).unwrap_or(u64::MAX);
        self.latency.saturating_record(nanoseconds);
        if self.phase == Phase::Load {
            self.requests += 1;
            self.request(index, now);
        }
    }

    /// Closes a connection and counts why.
    fn fail(&mut self, index: usize, why: &dyn std::fmt::Display) {
        if let Some(connection) = self.connections[index].take() {
            self.busy -= usize::from(connection.is_busy(&self.pattern));
            self.count_error(why);
        }
    }

    fn count_error(&mut self, why: &dyn std::fmt::Display) {
        let phase = match self.phase {
            Phase::Connect => "connecting",
            Phase::Load => "under load",
            Phase::Drain => "after the load",
        };
        *self.errors.entry(format!("{phase}: {why}")).or_default() += 1;
    }
}

#[cfg(test)]
mod tests;
