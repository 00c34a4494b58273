//! Five machines elect leaders over TCP while machines crash and the network fails: plain
//! `std`, run by seeds. Prints how many histories the runs of each seed were (one), and
//! how many times faster than real time it went.
//!
//! ```text
//! cargo run --release --features sim --example simulation -- --seeds 100 --runs 100
//! ```

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::process::{Command, ExitCode};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crore::sim::{Faults, Sim};

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
const BEAT: Duration = Duration::from_millis(50);

struct Args {
    seeds: u64,
    runs: u64,
    seconds: u64,
    /// Only this seed, in this process: prints a hash and the events of each run.
    only: Option<u64>,
}

fn parse() -> Result<Args, lexopt::Error> {
    use lexopt::ValueExt;
    let mut parser = lexopt::Parser::from_env();
    let mut args = Args {
        seeds: 10,
        runs: 10,
        seconds: 60,
        only: None,
    };
    while let Some(arg) = parser.next()? {
        match arg {
            lexopt::Arg::Long("seeds") => args.seeds = parser.value()?.parse()?,
            lexopt::Arg::Long("runs") => args.runs = parser.value()?.parse()?,
            lexopt::Arg::Long("seconds") => args.seconds = parser.value()?.parse()?,
            lexopt::Arg::Long("only") => args.only = Some(parser.value()?.parse()?),
            other => return Err(other.unexpected()),
        }
    }
    Ok(args)
}

fn main() -> ExitCode {
    let args = match parse() {
        Ok(args) => args,
        Err(error) => {
            eprintln!("{error}; simulation [--seeds N] [--runs N] [--seconds N] [--only SEED]");
            return ExitCode::from(2);
        }
    };
    match args.only {
        None => all(&args),
        Some(seed) => {
            for _ in 0..args.runs {
                let report = election(seed, Duration::from_secs(args.seconds)).run();
                println!("{:016x} {}", report.hash(), report.events());
            }
            ExitCode::SUCCESS
        }
    }
}

/// Has each seed run in a process of its own, one after the other.
fn all(args: &Args) -> ExitCode {
    let began = Instant::now();
    let (mut all, mut most, mut events) = (BTreeSet::new(), 0, 0);
    for seed in 0..args.seeds {
        let mut command = Command::new(std::env::current_exe().unwrap());
        for (name, value) in [
            ("--only", seed),
            ("--runs", args.runs),
            ("--seconds", args.seconds),
        ] {
            command.args([name, &value.to_string()]);
        }
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        if !output.status.success() {
            eprintln!(
                "seed {seed} fails: {}",
                String::from_utf8_lossy(&output.stderr)
            );
            return ExitCode::FAILURE;
        }
        let runs = text.lines().filter_map(|line| line.split_once(' '));
        let hashes: BTreeSet<_> = runs.clone().map(|(hash, _)| hash.to_owned()).collect();
        events += runs
            .filter_map(|(_, count)| count.parse::<u64>().ok())
            .sum::<u64>();
        most = most.max(hashes.len());
        all.extend(hashes);
    }
    let simulated = (args.seeds * args.runs * args.seconds) as f64;
    println!(
        "{{\"seeds\": {}, \"runs\": {}, \"hashes\": {}, \"most_hashes_of_a_seed\": {most}, \
         \"events\": {events}, \"times_real_time\": {:.0}}}",
        args.seeds,
        args.runs,
        all.len(),
        simulated / began.elapsed().as_secs_f64()
    );
    ExitCode::from(u8::from(all.len() as u64 != args.seeds || most != 1))
}

/// The machines, and a client that watches: no term has two leaders.
fn election(seed: u64, time: Duration) -> Sim {
    let faults = Faults::within(time).lasting(Duration::from_secs(5));
    let mut sim = Sim::new(seed).faults(faults.crashes(3).partitions(3).resets(3));
    let leaders = Arc::new(Mutex::new(HashMap::<u64, &str>::new()));
    for name in NAMES {
        let leaders = Arc::clone(&leaders);
        sim = sim.node(name, move || {
            let node = Arc::new(Mutex::new(Node::new()));
            let theirs = Arc::clone(&node);
            thread::spawn(move || serve(&theirs));
            stand(name, &node, |term| {
                let other = leaders.lock().unwrap().insert(term, name);
                assert!(
                    other.is_none_or(|other| other == name),
                    "two leaders of term {term}"
                );
            });
        });
    }
    sim.client("watcher", move || {
        thread::sleep(time);
        assert!(!leaders.lock().unwrap().is_empty(), "nobody was elected");
    })
}

/// What a machine knows. It forgets all in a crash, so terms begin at its own time:
/// one that has voted before the crash must not vote in that term again.
struct Node {
    term: u64,
    voted: bool,
    heard: Instant,
}

impl Node {
    fn new() -> Self {
        Self {
            term: crore::sim::elapsed().as_millis() as u64,
            voted: true,
            heard: Instant::now(),
        }
    }

    /// Whether it agrees to what a candidate, or a leader, of this term asks.
    fn agrees(&mut self, term: u64, to_vote: bool) -> bool {
        if term > self.term {
            (self.term, self.voted) = (term, false);
        }
        let agrees = term == self.term && !(to_vote && self.voted);
        if agrees {
            self.heard = Instant::now();
            self.voted |= to_vote;
        }
        agrees
    }
}

/// Answers lines of `vote TERM` and `lead TERM`.
fn serve(node: &Arc<Mutex<Node>>) {
    let listener = TcpListener::bind("0.0.0.0:7000").unwrap();
    for stream in listener.incoming() {
        let (stream, node) = (stream.unwrap(), Arc::clone(node));
        thread::spawn(move || {
            let lines = BufReader::new(&stream).lines();
            for line in lines.map_while(Result::ok) {
                let (what, term) = line.split_once(' ').unwrap();
                let agrees = node
                    .lock()
                    .unwrap()
                    .agrees(term.parse().unwrap(), what == "vote");
                if writeln!(&stream, "{agrees}").is_err() {
                    return;
                }
            }
        });
    }
}

/// Asks for votes when no leader is heard, and leads when it has them.
fn stand(name: &str, node: &Mutex<Node>, leads: impl Fn(u64)) {
    loop {
        let patience = BEAT * (3 + RandomState::new().hash_one(0) as u32 % 4);
        thread::sleep(patience);
        let term = {
            let mut node = node.lock().unwrap();
            if node.heard.elapsed() < patience {
                continue;
            }
            (node.term, node.voted) = (node.term + 1, true);
            node.term
        };
        if majority(name, &format!("vote {term}")) {
            leads(term);
            while node.lock().unwrap().agrees(term, false)
                && majority(name, &format!("lead {term}"))
            {
                thread::sleep(BEAT);
            }
        }
    }
}

/// Whether most machines, with this one, agree.
fn majority(name: &str, line: &str) -> bool {
    let others = NAMES.into_iter().filter(|other| *other != name);
    let asked: Vec<_> = others
        .map(|other| {
            let line = line.to_owned();
            thread::spawn(move || ask(other, &line).unwrap_or(false))
        })
        .collect();
    let agree = asked.into_iter().filter_map(|asked| asked.join().ok());
    1 + agree.filter(|&agrees| agrees).count() > NAMES.len() / 2
}

fn ask(other: &str, line: &str) -> io::Result<bool> {
    let address = (other, 7000).to_socket_addrs()?.next().unwrap();
    let stream = TcpStream::connect_timeout(&address, BEAT)?;
    stream.set_read_timeout(Some(BEAT))?;
    writeln!(&stream, "{line}")?;
    let mut answer = String::new();
    BufReader::new(&stream).read_line(&mut answer)?;
    Ok(answer == "true\n")
}
