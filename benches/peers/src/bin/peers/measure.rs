//! One run of one echo server: a process of its own, driven from this one.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;
use std::{env, fs};

use hdrhistogram::Histogram;

use crate::contests::{LATENCIES, SERVERS};
use crate::drive::{self, Config, Progress, Report};
use crate::options::Options;
use crate::results::{Calls, Echo, Figure, Server, Spread};
use crate::subjects::Subject;

/// Processor time is looked at this often.
const WINDOW: Duration = Duration::from_millis(100);

/// The shares of the requests whose latencies are kept.
const SHARES: [f64; 14] = [
    0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9999, 1.0,
];

/// What the runs of one server came to, a value for each.
struct Samples {
    /// Processor time of the server for one request, in microseconds: that of
    /// the quarter of the time in which the rest of the machine disturbed
    /// least.
    cpu_us: Vec<f64>,
    per_second: Vec<f64>,
    /// The share of the time in which the server had a processor.
    busy: Vec<f64>,
    /// Latencies in microseconds.
    p50_us: Vec<f64>,
    p99_us: Vec<f64>,
    p999_us: Vec<f64>,
    /// Resident bytes for one idle connection.
    idle_bytes: Vec<f64>,
    /// Of all runs, in nanoseconds.
    latency: Option<Histogram<u64>>,
}

/// Compares the servers with each size and each number of connections.
pub(crate) fn echoes(
    options: &Options,
    mut done: impl FnMut(Echo) -> io::Result<()>,
) -> io::Result<()> {
    let servers = options.among(SERVERS);
    for &size in &options.sizes {
        for &connections in &options.connections {
            enough_files(connections)?;
            done(echo(&servers, connections, size, options)?)?;
        }
    }
    Ok(())
}

/// Makes sure that this process may have so many connections.
pub(crate) fn enough_files(connections: usize) -> io::Result<()> {
    let files = rlimit::increase_nofile_limit(u64::MAX)?;
    if connections as u64 + 64 <= files {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "{connections} connections need more open files than the {files} that this process may \
         have; raise `ulimit -Hn`"
    )))
}

fn echo(
    servers: &[&Subject],
    connections: usize,
    size: usize,
    options: &Options,
) -> io::Result<Echo> {
    let mut samples: Vec<Samples> = servers.iter().map(|_| Samples::new()).collect();
    for round in 0..options.rounds {
        for turn in 0..servers.len() {
            // Each server is first in some round.
            let at = (turn + round) % servers.len();
            samples[at].run(servers[at], connections, size, options.load)?;
        }
    }
    let rows = servers.iter().zip(&samples);
    // Without it, the latencies too are compared with the first.
    let tokio = servers.iter().position(|it| it.name == LATENCIES);
    let latencies = tokio.unwrap_or(0);
    Ok(Echo {
        connections,
        size,
        rounds: options.rounds,
        seconds: options.load.as_secs_f64(),
        servers: rows
            .map(|(server, own)| own.summary(server.name, &samples[0], &samples[latencies]))
            .collect(),
        latencies: servers[latencies].name.into(),
    })
}

impl Samples {
    fn new() -> Self {
        Self {
            cpu_us: Vec::new(),
            per_second: Vec::new(),
            busy: Vec::new(),
            p50_us: Vec::new(),
            p99_us: Vec::new(),
            p999_us: Vec::new(),
            idle_bytes: Vec::new(),
            latency: None,
        }
    }

    /// Runs `server` once more.
    fn run(
        &mut self,
        server: &Subject,
        connections: usize,
        size: usize,
        load: Duration,
    ) -> io::Result<()> {
        let (running, addr) = server.serve(None)?;
        let mut windows = Windows::of(running.pid)?;
        let pid = Some(running.pid);
        let report = drive(addr, connections, size, load, pid, &mut |progress| {
            if let Progress::Loading(at, requests) = progress {
                windows.look(at, requests);
            }
        })
        .map_err(|e| io::Error::other(format!("{}: {e}", server.name)))?;
        let cost = windows.end();
        let cost = cost.map_err(|e| io::Error::other(format!("{}: {e}", server.name)))?;
        let used = report.server.expect("its process was given");
        let latency = |share| report.latency.value_at_quantile(share) as f64 / 1e3;
        self.cpu_us.push(cost.cpu_us);
        self.busy.push(cost.busy);
        self.per_second
            .push(report.requests as f64 / report.elapsed.as_secs_f64());
        self.p50_us.push(latency(0.5));
        self.p99_us.push(latency(0.99));
        self.p999_us.push(latency(0.999));
        // At least a byte, so that there is a ratio.
        let idle = used.idle.saturating_sub(used.before) as f64 / connections as f64;
        self.idle_bytes.push(idle.max(1.0));
        match &mut self.latency {
            Some(all) => all.add(&report.latency).map_err(io::Error::other)?,
            None => self.latency = Some(report.latency),
        }
        Ok(())
    }

    fn summary(&self, name: &str, first: &Self, latencies: &Self) -> Server {
        let all = self.latency.as_ref().expect("there was a round");
        Server {
            name: name.into(),
            requests_per_second: Figure::new(&self.per_second, &first.per_second),
            cpu_us: Figure::new(&self.cpu_us, &first.cpu_us),
            busy: Spread::of(self.busy.iter().copied()),
            p50_us: Figure::new(&self.p50_us, &latencies.p50_us),
            p99_us: Figure::new(&self.p99_us, &latencies.p99_us),
            p999_us: Figure::new(&self.p999_us, &latencies.p999_us),
            idle_bytes: Figure::new(&self.idle_bytes, &first.idle_bytes),
            quantiles: SHARES
                .map(|share| (share, all.value_at_quantile(share) as f64 / 1e3))
                .to_vec(),
        }
    }
}

pub(crate) fn drive(
    server: SocketAddr,
    connections: usize,
    size: usize,
    load: Duration,
    server_pid: Option<u32>,
    watch: &mut dyn FnMut(Progress),
) -> io::Result<Report> {
    let config = Config {
        server,
        connections,
        load,
        size,
        server_pid,
        spins: true,
    };
    let report = drive::drive(&config, watch)?;
    match report.errors.iter().next() {
        None => Ok(report),
        Some((why, count)) => Err(io::Error::other(format!("{count} times {why}"))),
    }
}

/// Processor time of a server under load, window by window.
pub(crate) struct Windows {
    clock: CpuClock,
    /// When the last window ended, and how many requests had been served then.
    since: Duration,
    requests: u64,
    /// Microseconds a request.
    costs: Vec<f64>,
    /// All windows.
    used: Duration,
    time: Duration,
}

/// What a load has cost the server.
pub(crate) struct Cost {
    /// Microseconds a request: that of the quarter of the time in which the rest of the
    /// machine disturbed least.
    pub(crate) cpu_us: f64,
    /// The share of the time in which the server had a processor.
    pub(crate) busy: f64,
}

impl Windows {
    pub(crate) fn of(pid: u32) -> io::Result<Self> {
        Ok(Self {
            clock: CpuClock::of(pid)?,
            since: Duration::ZERO,
            requests: 0,
            costs: Vec::new(),
            used: Duration::ZERO,
            time: Duration::ZERO,
        })
    }

    /// To be called often: the load has gone on for so long, with so many requests served.
    pub(crate) fn look(&mut self, at: Duration, requests: u64) {
        if at < self.since + WINDOW {
            return;
        }
        let used = self.clock.used();
        // The first window begins with the burst that begins the load.
        if self.requests > 0 && requests > self.requests {
            let served = (requests - self.requests) as f64;
            self.costs.push(used.as_secs_f64() * 1e6 / served);
            self.used += used;
            self.time += at - self.since;
        }
        (self.since, self.requests) = (at, requests);
    }

    /// # Errors
    ///
    /// If the load was too short.
    pub(crate) fn end(mut self) -> io::Result<Cost> {
        self.costs.sort_by(f64::total_cmp);
        let cpu_us = self.costs.get(self.costs.len() / 4);
        let cpu_us = cpu_us.copied().ok_or_else(|| {
            io::Error::other(
                "the load was over before its processor time could be told; raise --seconds",
            )
        })?;
        let busy = self.used.as_secs_f64() / self.time.as_secs_f64();
        Ok(Cost { cpu_us, busy })
    }
}

/// Reads another process's processor time, to the nanosecond.
pub(crate) struct CpuClock {
    id: libc::clockid_t,
    last: Duration,
}

impl CpuClock {
    pub(crate) fn of(pid: u32) -> io::Result<Self> {
        let mut id = 0;
        // SAFETY: a place for the answer.
        match unsafe { libc::clock_getcpuclockid(pid as libc::pid_t, &raw mut id) } {
            0 => Ok(Self {
                id,
                last: Duration::ZERO,
            }),
            code => Err(io::Error::from_raw_os_error(code)),
        }
    }

    /// The time used since the last call; nothing once the process has ended.
    pub(crate) fn used(&mut self) -> Duration {
        let mut now = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: a place for the answer.
        unsafe { libc::clock_gettime(self.id, &raw mut now) };
        let now = Duration::new(now.tv_sec as u64, now.tv_nsec as u32);
        now.saturating_sub(std::mem::replace(&mut self.last, now))
    }
}

/// Counts the system calls of the servers, with strace, at the first size and
/// number of connections.
pub(crate) fn calls(options: &Options) -> io::Result<Vec<Calls>> {
    let (connections, size) = (options.connections[0], options.sizes[0]);
    let log = env::temp_dir().join(format!("peers.{}", std::process::id()));
    let mut all = Vec::new();
    for server in options.among(SERVERS) {
        let mut strace = Command::new("strace");
        strace
            .args(["-f", "-c", "-U", "calls,name", "-o"])
            .arg(&log);
        let (running, addr) = server.serve(Some(strace))?;
        let report = drive(addr, connections, size, options.load, None, &mut |_| {})?;
        running.stop()?;
        let counted = fs::read_to_string(&log)?;
        fs::remove_file(&log)?;
        let requests = report.requests as f64 + report.connections as f64;
        all.push(Calls {
            name: server.name.into(),
            connections,
            size,
            per_request: counts(&counted, requests),
        });
    }
    Ok(all)
}

/// The counts that strace printed, for one request.
fn counts(printed: &str, requests: f64) -> BTreeMap<String, f64> {
    printed
        .lines()
        .filter_map(|line| {
            let (count, name) = line.trim().split_once(char::is_whitespace)?;
            let a_request = count.parse::<f64>().ok()? / requests;
            Some((name.trim().to_owned(), a_request))
        })
        // The sum, and those in which a thread was when it was killed.
        .filter(|(name, _)| name != "total" && !name.starts_with("???"))
        .collect()
}
