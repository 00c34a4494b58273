//! The command line.

use std::ffi::OsString;
use std::time::Duration;

use lexopt::prelude::*;

/// What `--help` prints.
pub const HELP: &str = "\
Holds connections to a push service, publishes, and checks every message.

Usage: push_load --to ADDRESS[,ADDRESS...] [OPTIONS]

  --to ADDRESSES     the service's nodes; a client that is sent away takes the next
  --connections N    subscribers, one channel each [1000]
  --channels N       channels, with a publisher each [100]
  --seconds S        how long it publishes; 0: it only holds connections [5]
  --settle S         how long it is quiet before memory is measured [0]
  --rate N           messages a second of each publisher; 0: the next one once the
                     last one was acknowledged [0]
  --size BYTES       of text in each message [64]
  --pid PID          the service's process, to measure
  --silence S        how long a node may take for its first word [10]
  --workers N        kernel threads [1]
  --stdin            ends when its standard input does, if that is earlier
";

/// What was asked for.
pub struct Options {
    pub to: Vec<String>,
    pub connections: usize,
    pub channels: usize,
    pub seconds: Duration,
    pub settle: Duration,
    pub rate: f64,
    pub size: usize,
    pub pid: Option<u32>,
    /// How long a node may be silent before it has said what its heartbeat is.
    pub silence: Duration,
    pub workers: usize,
    pub stdin: bool,
}

impl Options {
    /// `None`: print the help.
    pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Option<Self>, String> {
        let mut args = lexopt::Parser::from_args(args);
        Self::read(&mut args).map_err(|why| why.to_string())
    }

    fn read(args: &mut lexopt::Parser) -> Result<Option<Self>, lexopt::Error> {
        let mut options = Self {
            to: Vec::new(),
            connections: 1000,
            channels: 100,
            seconds: Duration::from_secs(5),
            settle: Duration::ZERO,
            rate: 0.0,
            size: 64,
            pid: None,
            silence: Duration::from_secs(10),
            workers: 1,
            stdin: false,
        };
        let seconds = |args: &mut lexopt::Parser| -> Result<Duration, lexopt::Error> {
            let seconds: f64 = args.value()?.parse()?;
            Duration::try_from_secs_f64(seconds).map_err(|why| lexopt::Error::Custom(why.into()))
        };
        while let Some(arg) = args.next()? {
            match arg {
                Long("to") => {
                    let all = args.value()?.string()?;
                    options.to = all.split(',').map(str::to_owned).collect();
                }
                Long("connections") => options.connections = args.value()?.parse()?,
                Long("channels") => options.channels = args.value()?.parse()?,
                Long("seconds") => options.seconds = seconds(args)?,
                Long("silence") => options.silence = seconds(args)?,
                Long("settle") => options.settle = seconds(args)?,
                Long("rate") => options.rate = args.value()?.parse()?,
                Long("size") => options.size = args.value()?.parse()?,
                Long("pid") => options.pid = Some(args.value()?.parse()?),
                Long("workers") => options.workers = args.value()?.parse()?,
                Long("stdin") => options.stdin = true,
                Long("help") | Short('h') => return Ok(None),
                other => return Err(other.unexpected()),
            }
        }
        if options.to.is_empty() {
            return Err("--to says where the service is".into());
        }
        if options.channels == 0 || options.workers == 0 {
            return Err("--channels and --workers are at least 1".into());
        }
        Ok(Some(options))
    }
}
