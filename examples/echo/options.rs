//! The command line.

use std::ffi::OsString;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use lexopt::prelude::*;

use crate::drive::MAX_SIZE;
use crate::server::Service;

/// What `--help` prints.
pub(crate) const HELP: &str = "\
An echo server of plain std::net code on one kernel thread, and its load.

Without --serve or --drive: serves on a free loopback port and drives the
server from a second process.

Usage: echo [OPTIONS]

  --serve ADDR       only serve, on this address, until stopped
  --drive ADDR       only drive the echo server at this address
  --server-pid PID   with --drive: the server's process, to report its memory
  --connections N    connections to open [10000]
  --seconds S        how long the load lasts [5]
  --size BYTES       bytes in a message [64]
  --shared           serve on shared stacks: an eighth of the memory a connection
  --lean             the same, without a buffer while a connection is idle
  --json             print one JSON object as the last line of stdout
  --help             print this
";

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Serve on a free port and start a second process that drives.
    Both,
    /// Only serve.
    Serve(SocketAddr),
    /// Only drive.
    Drive(SocketAddr),
    /// Print [`HELP`].
    Help,
}

/// The arguments, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// What to do.
    pub(crate) mode: Mode,
    /// The process to measure.
    pub(crate) server_pid: Option<u32>,
    /// How many connections to open.
    pub(crate) connections: usize,
    /// How long the load lasts.
    pub(crate) load: Duration,
    /// Bytes in a message.
    pub(crate) size: usize,
    /// How connections are served.
    pub(crate) service: Service,
    /// Whether the last line is a JSON object.
    pub(crate) json: bool,
}

impl Options {
    /// Reads the arguments that follow the program's name.
    pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Self, String> {
        Self::read(lexopt::Parser::from_args(args)).map_err(|e| e.to_string())
    }

    fn read(mut args: lexopt::Parser) -> Result<Self, lexopt::Error> {
        let mut options = Self {
            mode: Mode::Both,
            server_pid: None,
            connections: 10_000,
            load: Duration::from_secs(5),
            size: 64,
            service: Service::Dedicated,
            json: false,
        };
        while let Some(arg) = args.next()? {
            match arg {
                Long("serve") => options.set_mode(Mode::Serve(address(&mut args)?))?,
                Long("drive") => options.set_mode(Mode::Drive(address(&mut args)?))?,
                Long("server-pid") => options.server_pid = Some(value(&mut args, "--server-pid")?),
                Long("connections") => options.connections = value(&mut args, "--connections")?,
                Long("seconds") => {
                    options.load = Duration::from_secs(value(&mut args, "--seconds")?)
                }
                Long("size") => options.size = value(&mut args, "--size")?,
                Long("shared") => options.service = Service::Shared,
                Long("lean") => options.service = Service::Lean,
                Long("json") => options.json = true,
                Long("help") | Short('h') => {
                    return Ok(Self {
                        mode: Mode::Help,
                        ..options
                    });
                }
                other => return Err(other.unexpected()),
            }
        }
        options.check()
    }

    fn set_mode(&mut self, mode: Mode) -> Result<(), lexopt::Error> {
        if self.mode != Mode::Both {
            return Err(
                "give one of --serve and --drive, once; without them one command does both".into(),
            );
        }
        self.mode = mode;
        Ok(())
    }

    fn check(self) -> Result<Self, lexopt::Error> {
        if self.connections == 0 {
            return Err("--connections must be at least 1".into());
        }
        if self.load.is_zero() || self.load > Duration::from_secs(86_400) {
            return Err("--seconds must be from 1 to 86400".into());
        }
        if !(1..=MAX_SIZE).contains(&self.size) {
            return Err(format!("--size must be from 1 to {MAX_SIZE} bytes").into());
        }
        if self.service != Service::Dedicated && matches!(self.mode, Mode::Drive(_)) {
            return Err("--shared and --lean are for the server, not for --drive".into());
        }
        if self.server_pid.is_some() && !matches!(self.mode, Mode::Drive(_)) {
            return Err("--server-pid goes with --drive".into());
        }
        Ok(self)
    }
}

/// The value of an option, with the option named when it is wrong.
fn value<T: std::str::FromStr>(
    args: &mut lexopt::Parser,
    option: &str,
) -> Result<T, lexopt::Error> {
    let text = args.value()?;
    let parsed = text.to_str().and_then(|text| text.parse().ok());
    parsed.ok_or_else(|| format!("{option} wants a whole number, not {text:?}").into())
}

fn address(args: &mut lexopt::Parser) -> Result<SocketAddr, lexopt::Error> {
    let text = args.value()?.string()?;
    let first = text.to_socket_addrs().ok().and_then(|mut all| all.next());
    first.ok_or_else(|| format!("{text:?} is no address; one looks like 127.0.0.1:7777").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        Options::parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn everything_has_a_default() {
        let options = parse("").unwrap();
        assert_eq!(
            (options.mode, options.connections, options.size),
            (Mode::Both, 10_000, 64)
        );
        assert_eq!(
            (options.load, options.json),
            (Duration::from_secs(5), false)
        );
    }

    #[test]
    fn every_option_is_read() {
        let line =
            "--drive 127.0.0.1:7 --server-pid 42 --connections=3 --seconds 2 --size 9 --json";
        let expected = Options {
            mode: Mode::Drive("127.0.0.1:7".parse().unwrap()),
            server_pid: Some(42),
            connections: 3,
            load: Duration::from_secs(2),
            size: 9,
            service: Service::Dedicated,
            json: true,
        };
        assert_eq!(parse(line), Ok(expected));
        assert_eq!(
            parse("--serve [::1]:8").unwrap().mode,
            Mode::Serve("[::1]:8".parse().unwrap())
        );
        assert_eq!(parse("--shared").unwrap().service, Service::Shared);
        assert_eq!(parse("--lean").unwrap().service, Service::Lean);
        assert_eq!(parse("--size 5 --help").unwrap().mode, Mode::Help);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (line, word) in [
            ("--connections 0", "--connections"),
            ("--connections many", "--connections"),
            ("--connections", "--connections"),
            ("--seconds 0", "--seconds"),
            ("--seconds -1", "--seconds"),
            ("--size 0", "--size"),
            ("--size 1048577", "--size"),
            ("--serve here", "\"here\""),
            ("--serve 127.0.0.1:1 --drive 127.0.0.1:1", "one of"),
            ("--server-pid 7", "--drive"),
            ("--shared --drive 127.0.0.1:1", "--shared"),
            ("--lean --drive 127.0.0.1:1", "--lean"),
            ("--json=yes", "--json"),
            ("--fast", "--fast"),
            ("127.0.0.1:7", "127.0.0.1:7"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(word), "{line}: {error}");
        }
    }

    #[test]
    fn help_names_every_option() {
        for option in [
            "serve",
            "drive",
            "server-pid",
            "connections",
            "seconds",
            "size",
            "shared",
            "lean",
            "json",
            "help",
        ] {
            assert!(HELP.contains(&format!("\n  --{option} ")), "{option}");
        }
    }
}
