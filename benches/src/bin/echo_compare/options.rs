//! The command line.

use std::ffi::OsString;
use std::time::Duration;

use lexopt::prelude::*;

use crate::drive::MAX_SIZE;
use crate::servers::Server;

/// What is printed when the arguments are wrong.
pub(crate) const HELP: &str = "\
Usage: echo_compare [OPTIONS]

  --connections N,..  how many connections, one table each [100,1000,10000]
  --rounds N          how often each server runs [5]
  --seconds S         how long each load lasts [2]
  --size BYTES        bytes in a message [64]
  --servers A,..      which ones [epoll,crore,shared,tokio]
  --paired            all at once, the load in turn: processor time only
  --syscalls          count system calls, with strace, in an extra round
  --serve A           only run this server, until stopped";

/// What to do.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mode {
    /// Run every server as a child process, and drive it.
    Compare,
    /// Be that child.
    Serve(Server),
}

/// The arguments, checked.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) mode: Mode,
    pub(crate) connections: Vec<usize>,
    pub(crate) rounds: usize,
    pub(crate) load: Duration,
    pub(crate) size: usize,
    pub(crate) servers: Vec<Server>,
    pub(crate) syscalls: bool,
    pub(crate) paired: bool,
}

impl Options {
    /// Reads the arguments that follow the program's name.
    pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Self, String> {
        Self::read(lexopt::Parser::from_args(args)).map_err(|e| e.to_string())
    }

    fn read(mut args: lexopt::Parser) -> Result<Self, lexopt::Error> {
        let mut options = Self {
            mode: Mode::Compare,
            connections: vec![100, 1_000, 10_000],
            rounds: 5,
            load: Duration::from_secs(2),
            size: 64,
            servers: Server::ALL.to_vec(),
            syscalls: false,
            paired: false,
        };
        while let Some(arg) = args.next()? {
            match arg {
                Long("connections") => options.connections = list(&args.value()?)?,
                Long("rounds") => options.rounds = args.value()?.parse()?,
                Long("seconds") => options.load = Duration::from_secs(args.value()?.parse()?),
                Long("size") => options.size = args.value()?.parse()?,
                Long("servers") => options.servers = list(&args.value()?)?,
                Long("paired") => options.paired = true,
                Long("syscalls") => options.syscalls = true,
                Long("serve") => options.mode = Mode::Serve(args.value()?.parse()?),
                other => return Err(other.unexpected()),
            }
        }
        if options.connections.contains(&0) || options.rounds == 0 || options.load.is_zero() {
            return Err("connections, rounds and seconds must be at least 1".into());
        }
        if !(1..=MAX_SIZE).contains(&options.size) {
            return Err(format!("--size must be from 1 to {MAX_SIZE} bytes").into());
        }
        Ok(options)
    }
}

/// Values with commas between them.
fn list<T: std::str::FromStr>(text: &OsString) -> Result<Vec<T>, lexopt::Error>
where
    T::Err: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let text = text.to_str().ok_or("an option is not text")?;
    text.split(',')
        .map(|one| {
            one.parse()
                .map_err(|error: T::Err| lexopt::Error::ParsingFailed {
                    value: one.into(),
                    error: error.into(),
                })
        })
        .collect()
}
