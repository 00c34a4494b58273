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

/// What is left out of the processor time at the begin and the end of a load.
const MARGIN: Duration = Duration::from_millis(200);

/// What one run came to.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// Processor time of the server for one request, in microseconds.
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
    let (mut first, mut last) = (None, None);
    let report = drive(addr, connections, options, Some(pid), &mut |progress| {
        if let Progress::Loading(at, requests) = progress {
            // Looking costs system calls: twice is enough.
            if first.is_none() && at >= MARGIN {
                first = Some((cpu(pid), requests));
            } else if last.is_none() && at + MARGIN >= options.load {
                last = Some((cpu(pid), requests));
            }
        }
    })?;
    let (Some((cpu_before, before)), Some((cpu_after, after))) = (first, last) else {
        return Err(io::Error::other("the load ended early"));
    };
    let (cpu_before, cpu_after) = (cpu_before?, cpu_after?);
    let used = report.server.expect("its process was given");
    Ok(Sample {
        cpu_us: (cpu_after - cpu_before).as_secs_f64() * 1e6 / (after - before) as f64,
        per_second: report.requests as f64 / report.elapsed.as_secs_f64(),
        p50_us: report.latency.value_at_quantile(0.50) as f64 / 1e3,
        p99_us: report.latency.value_at_quantile(0.99) as f64 / 1e3,
        idle_bytes: used.idle.saturating_sub(used.before) as f64 / connections as f64,
    })
}

fn drive(
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

/// Processor time of a process's first thread, by the scheduler's nanoseconds.
fn cpu(pid: u32) -> io::Result<Duration> {
    let path = format!("/proc/{pid}/schedstat");
    let text = fs::read_to_string(&path)?;
    let first = text.split_ascii_whitespace().next();
    let nanos = first.and_then(|nanos| nanos.parse().ok());
    nanos
        .map(Duration::from_nanos)
        .ok_or_else(|| io::Error::other(format!("{path} is not understood: {text:?}")))
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
struct Running {
    /// The server itself, or strace around it.
    child: Child,
    /// The server.
    pid: u32,
}

impl Running {
    /// Starts `server` in a process, and waits until it listens.
    fn start(mut program: Command, server: Server) -> io::Result<(Self, SocketAddr)> {
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
