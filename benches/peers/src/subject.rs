//! The command line that every measured program understands:
//!
//! ```text
//! PROGRAM work RUNTIME WORK COUNT OPERATIONS    prints nanoseconds of processor time
//!                                               an operation (`parked`: bytes a task)
//! PROGRAM serve RUNTIME                         prints its process and its address,
//!                                               then echoes until it is killed
//! PROGRAM pipelined RUNTIME SERVICE             the same, for a service of `pipelined.rs`
//! ```

use std::fmt;
use std::net::TcpListener;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use crate::clock::use_processor_time;
use crate::pipelined::Service;

/// What is measured of a runtime. `COUNT` is the number of tasks, where the
/// work has many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// So many tasks yield in turns.
    Yield,
    /// Spawn one and wait for its end, one after the other.
    SpawnJoin,
    /// Spawn so many, then wait for all.
    SpawnBatch,
    /// Two wake each other in turns: there and back.
    Wake,
    /// Two send each other messages in turns, through channels of one place:
    /// one message.
    PingPong,
    /// One sends to the other, through a channel of 128 places.
    Stream,
    /// As `Wake`, but each wait has a timer that is taken back.
    TimerCancel,
    /// Processor time of one that is spawned, sleeps, wakes and is joined;
    /// so many at once.
    Sleep,
    /// Bytes for one that is parked, of so many.
    Parked,
}

impl Work {
    pub const ALL: [Self; 9] = [
        Self::Yield,
        Self::SpawnJoin,
        Self::SpawnBatch,
        Self::Wake,
        Self::PingPong,
        Self::Stream,
        Self::TimerCancel,
        Self::Sleep,
        Self::Parked,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Yield => "yield",
            Self::SpawnJoin => "spawn-join",
            Self::SpawnBatch => "spawn-batch",
            Self::Wake => "wake",
            Self::PingPong => "ping-pong",
            Self::Stream => "stream",
            Self::TimerCancel => "timer-cancel",
            Self::Sleep => "sleep",
            Self::Parked => "parked",
        }
    }
}

impl FromStr for Work {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let mut all = Self::ALL.into_iter();
        all.find(|work| work.name() == name)
            .ok_or_else(|| format!("no work is called {name:?}"))
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What came of some work.
#[derive(Clone, Copy, Debug)]
pub enum Outcome {
    Took(Duration),
    Bytes(u64),
}

/// A runtime's workloads: by work, count and operations.
pub type Workload = fn(u64, u64) -> Outcome;

/// An echo server.
pub type Server = fn(TcpListener) -> std::io::Result<()>;

/// A server of a service whose clients do not wait.
pub type Pipelined = fn(TcpListener, Service) -> std::io::Result<()>;

/// A runtime that a program measures.
pub struct Runtime {
    pub name: &'static str,
    pub work: fn(Work) -> Option<Workload>,
    pub serve: Option<Server>,
    pub pipelined: Option<Pipelined>,
}

/// Does what the command line says, for one of `runtimes`.
pub fn main(runtimes: &[Runtime]) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match obey(runtimes, &arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::from(2)
        }
    }
}

fn obey(runtimes: &[Runtime], arguments: &[&str]) -> Result<(), String> {
    let runtime = |name: &str| {
        let found = runtimes.iter().find(|runtime| runtime.name == name);
        found.ok_or_else(|| format!("no runtime here is called {name:?}"))
    };
    let missing = |name: &str, what: &str| format!("{name} has no {what}");
    match *arguments {
        ["work", name, work, count, operations] => {
            let workload = (runtime(name)?.work)(work.parse()?);
            let workload = workload.ok_or_else(|| missing(name, work))?;
            let (count, operations) = (number(count)?, number(operations)?);
            use_processor_time();
            let each = match workload(count, operations) {
                Outcome::Took(time) => time.as_nanos() as f64 / operations as f64,
                Outcome::Bytes(bytes) => bytes as f64 / count as f64,
            };
            println!("{each}");
            Ok(())
        }
        ["serve", name] => {
            let serve = runtime(name)?.serve;
            let serve = serve.ok_or_else(|| missing(name, "server"))?;
            announce().and_then(serve).map_err(|e| e.to_string())
        }
        ["pipelined", name, service] => {
            let serve = runtime(name)?.pipelined;
            let serve = serve.ok_or_else(|| missing(name, "server of services"))?;
            let service = service.parse()?;
            let served = announce().and_then(|listener| serve(listener, service));
            served.map_err(|e| e.to_string())
        }
        _ => Err(
            "usage: work RUNTIME WORK COUNT OPERATIONS | serve RUNTIME | pipelined RUNTIME SERVICE"
                .into(),
        ),
    }
}

fn number(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(number @ 1..) => Ok(number),
        _ => Err(format!("{text:?} is not a number of at least 1")),
    }
}

/// Listens on a free loopback port, and says where.
fn announce() -> std::io::Result<TcpListener> {
    rlimit::increase_nofile_limit(u64::MAX)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{} {}", std::process::id(), listener.local_addr()?);
    Ok(listener)
}
