//! One run of one server: a process of its own, driven from this one.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{env, fs};

use crate::drive::{self, Config, Progress, Report};
use crate::options::Options;
use crate::servers::Server;

/// Processor time is looked at this often.
const WINDOW: Duration = Duration::from_millis(100);

/// What one run came to.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// Processor time of the server for one request, in microseconds: that of
    /// the quarter of the time in which the rest of the machine disturbed
    /// least.
    pub(crate) cpu_us: f64,
    pub(crate) per_second: f64,
    /// Latencies in microseconds.
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    /// Resident bytes for one idle connection.
    pub(crate) idle_bytes: f64,
}

/// Runs `server` once.
pub(crate) fn run(server: Server, connections: usize, options: &Options) -> io::Result<Sample> {
    let (child, addr) = Running::start(Command::new(env::current_exe()?), server)?;
    let pid = child.pid;
    let mut clock = CpuClock::of(pid)?;
    let mut windows = Vec::new();
    let (mut since, mut before) = (Duration::ZERO, 0);
    let report = drive(addr, connections, options, Some(pid), &mut |progress| {
        if let Progress::Loading(at, requests) = progress
            && at >= since + WINDOW
        {
            let used = clock.used();
            // The first window begins with the burst that begins the load.
            if before > 0 && requests > before {
                windows.push(used.as_secs_f64() * 1e6 / (requests - before) as f64);
            }
            (since, before) = (at, requests);
        }
    })?;
    windows.sort_by(f64::total_cmp);
    let Some(&cpu_us) = windows.get(windows.len() / 4) else {
        return Err(io::Error::other("the load ended early"));
    };
    let used = report.server.expect("its process was given");
    Ok(Sample {
        cpu_us,
        per_second: report.requests as f64 / report.elapsed.as_secs_f64(),
        p50_us: report.latency.value_at_quantile(0.50) as f64 / 1e3,
        p99_us: report.latency.value_at_quantile(0.99) as f64 / 1e3,
        idle_bytes: used.idle.saturating_sub(used.before) as f64 / connections as f64,
    })
}

pub(crate) fn drive(
    server: SocketAddr,
    connections: usize,
    options: &Options,
    server_pid: Option<u32>,
    watch: &mut dyn FnMut(Progress),
) -> io::Result<Report> {
    let config = Config {
        server,
        connections,
        load: options.load,
        size: options.size,
        server_pid,
    };
    let report = drive::drive(&config, watch)?;
    match report.errors.iter().next() {
        None => Ok(report),
        Some((why, count)) => Err(io::Error::other(format!("{count} times {why}"))),
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

/// System calls of the server for one request, by name.
pub(crate) fn syscalls(
    server: Server,
    connections: usize,
    options: &Options,
) -> io::Result<BTreeMap<String, f64>> {
    let log = env::temp_dir().join(format!("echo_compare.{}", std::process::id()));
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "-c", "-U", "calls,name", "-o"])
        .arg(&log);
    strace.arg(env::current_exe()?);
    let (child, addr) = Running::start(strace, server)?;
    let report = drive(addr, connections, options, None, &mut |_| {})?;
    child.stop()?;
    let counted = fs::read_to_string(&log)?;
    fs::remove_file(&log)?;
    let requests = report.requests as f64 + report.connections as f64;
    Ok(counted
        .lines()
        .filter_map(|line| {
            let (count, name) = line.trim().split_once(char::is_whitespace)?;
            let a_request = count.parse::<f64>().ok()? / requests;
            Some((name.trim().to_owned(), a_request))
        })
        .filter(|(name, _)| name != "total")
        .collect())
}

/// A server process; it ends with this value.
pub(crate) struct Running {
    /// The server itself, or strace around it.
    child: Child,
    /// The server.
    pub(crate) pid: u32,
}

impl Running {
    /// Starts `server` in a process, and waits until it listens.
    pub(crate) fn start(mut program: Command, server: Server) -> io::Result<(Self, SocketAddr)> {
        program
            .args(["--serve", server.name()])
            .stdout(Stdio::piped());
        let child = program.spawn()?;
        let pid = child.id();
        let mut running = Self { child, pid };
        let mut line = String::new();
        let out = running.child.stdout.take().expect("it was piped");
        BufReader::new(out).read_line(&mut line)?;
        let said = line.trim().split_once(' ');
        let said = said.and_then(|(pid, addr)| Some((pid.parse().ok()?, addr.parse().ok()?)));
        let (pid, addr) = said.ok_or_else(|| {
            io::Error::other(format!("the {} server did not start", server.name()))
        })?;
        running.pid = pid;
        Ok((running, addr))
    }

    /// Ends the server, and waits until strace has written what it counted.
    fn stop(mut self) -> io::Result<()> {
        // SAFETY: no pointers; the server lives, so the number is its.
        unsafe { libc::kill(self.pid as libc::pid_t, libc::SIGTERM) };
        self.child.wait().map(drop)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended: then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
