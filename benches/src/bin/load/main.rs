//! Load with churn: an echo server in a process of its own holds thousands of
//! connections that talk, pause, close, reset and come again; every byte is
//! checked. Errors must be 0, memory and descriptors flat.
//!
//! ```text
//! scripts/load.sh [SECONDS [CONNECTIONS]]     the load
//! scripts/load.sh disturbed [SECONDS]         what slow and frozen clients cost the others
//! ```

mod client;
mod disturb;
mod server;

use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use client::{Crowd, Tally};

const CONNECTIONS: usize = 10_000;
/// Time from one request of a connection to its next, on average.
const PAUSE: Duration = Duration::from_millis(2_500);

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let number = |at: usize, other| match arguments.get(at) {
        Some(text) => text.parse().expect("a number"),
        None => other,
    };
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    match arguments.first().map(String::as_str) {
        Some("serve") => server::serve(),
        Some("bother") => disturb::bother(number(1, 0) as u16),
        Some("disturbed") => return disturb::compare(number(1, 120) as u64),
        _ => {
            return load(
                Duration::from_secs(number(0, 600) as u64),
                number(1, CONNECTIONS),
            );
        }
    }
    ExitCode::SUCCESS
}

/// This program in a role of its own, ended with its handle.
struct Process {
    child: Child,
    /// The first line that it said.
    word: String,
}

impl Process {
    fn start(arguments: &[&str]) -> Self {
        let program = env::current_exe().expect("this program");
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program starts");
        let mut word = String::new();
        let mut output = BufReader::new(child.stdout.take().expect("piped"));
        output.read_line(&mut word).expect("it says a word");
        let word = word.trim().to_owned();
        Self { child, word }
    }

    fn descriptors(&self) -> usize {
        let all = fs::read_dir(format!("/proc/{}/fd", self.child.id()));
        all.expect("it lives").count()
    }

    fn resident_kib(&self) -> u64 {
        resident_kib(&self.child.id().to_string())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn resident_kib(process: &str) -> u64 {
    let statm = fs::read_to_string(format!("/proc/{process}/statm")).expect("it lives");
    let pages: u64 = statm
        .split(' ')
        .nth(1)
        .expect("a second number")
        .parse()
        .unwrap();
    pages * 4
}

/// What is looked at while the load goes on.
struct Sample {
    server_kib: u64,
    client_kib: u64,
    descriptors: usize,
}

fn load(time: Duration, connections: usize) -> ExitCode {
    let server = Process::start(&["serve"]);
    let port = server.word.parse().expect("its port");
    let idle = server.descriptors();
    let (tally, samples) = crore::run(|| {
        let crowd = Crowd::gather(port, connections, PAUSE);
        let start = Instant::now();
        let mut samples = Vec::new();
        while start.elapsed() < time {
            crore::sleep(Duration::from_secs(1));
            samples.push(Sample {
                server_kib: server.resident_kib(),
                client_kib: resident_kib("self"),
                descriptors: server.descriptors() - idle,
            });
            if samples.len().is_multiple_of(30) {
                let last = samples.last().expect("pushed just now");
                println!(
                    "{:>4} s  {}  server {} KiB, {} descriptors",
                    samples.len(),
                    crowd.tally(),
                    last.server_kib,
                    last.descriptors
                );
            }
        }
        (crowd.leave(), samples)
    })
    .expect("a runtime");
    // The server sees the last ones go.
    let patience = Instant::now();
    while server.descriptors() > idle && patience.elapsed() < Duration::from_secs(30) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let left = server.descriptors() - idle;
    report(connections, &tally, &samples, left)
}

/// Says what there was to see; fails if any of it is not as it must be.
fn report(connections: usize, tally: &Tally, samples: &[Sample], left: usize) -> ExitCode {
    let quarter = samples.len() / 4;
    let parts = [&samples[quarter..2 * quarter], &samples[3 * quarter..]];
    let most = |what: fn(&Sample) -> u64| {
        parts.map(|part| part.iter().map(what).max().unwrap_or_default())
    };
    let (server, client) = (most(|s| s.server_kib), most(|s| s.client_kib));
    let descriptors = most(|s| s.descriptors as u64);
    println!(
        "{tally}\nsecond quarter and last: server {server:?} KiB, client {client:?} KiB, \
         descriptors {descriptors:?}; left at the end: {left}"
    );
    let flat = |[early, late]: [u64; 2]| late <= early + early / 10;
    let held = samples
        .iter()
        .map(|s| s.descriptors)
        .max()
        .unwrap_or_default();
    let right = tally.errors == 0
        && tally.requests > 0
        && held + held / 20 >= connections
        && [server, client, descriptors].into_iter().all(flat)
        && left == 0;
    println!(
        "{}",
        if right {
            "flat, and every byte right"
        } else {
            "NOT as it must be"
        }
    );
    if right {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
