//! The command line.

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::time::Duration;

use lexopt::prelude::*;

use crate::server::Service;

/// What `--help` prints.
pub(crate) const HELP: &str = "\
A million live TCP connections to servers of plain std::net code, each on one
kernel thread.

Opens them, echoes a message on each, watches them being quiet, measures how
long a message takes among them, and echoes on all once more. Checks every byte.

Usage: million [OPTIONS]

  --connections N    connections to open [1000000], fewer if the machine is small
  --servers auto|N   server processes, with a client process each [auto: as few
                     as the limit of open files allows]
  --seconds S        how long they are quiet, and how long the latency is
                     measured [5]; at least 5
  --dedicated        a stack for each connection, with a buffer of 1 KiB
  --buffered         on shared stacks, with a buffer of 128 bytes; else on shared
                     stacks, and without a buffer while a connection is idle
  --json             print one JSON object as the last line of stdout
  --help             print this
";

/// The most server processes.
pub(crate) const MOST_SERVERS: usize = 1000;

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// All of it, with children for the two halves of every connection.
    All(Options),
    /// A child: serves.
    Serve(Parent, Service),
    /// A child: drives a server.
    Drive(Parent, Sources),
    /// Print [`HELP`].
    Help,
}

/// The process that started this one, and with which it ends.
pub(crate) type Parent = u32;

/// Where a client connects from and to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sources {
    /// The server.
    pub(crate) server: SocketAddr,
    /// The number of the first source address; the client may use those after.
    pub(crate) first: u32,
    /// Connections from one source address.
    pub(crate) each: usize,
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) connections: usize,
    /// `None`: as few as it takes.
    pub(crate) servers: Option<usize>,
    /// How long the connections are quiet, and the latency is measured.
    pub(crate) time: Duration,
    pub(crate) service: Service,
    pub(crate) json: bool,
}

impl Mode {
    /// Reads the arguments that follow the program's name.
    pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Self, String> {
        let mut args = lexopt::Parser::from_args(args);
        Self::read(&mut args).map_err(|e| e.to_string())
    }

    fn read(args: &mut lexopt::Parser) -> Result<Self, lexopt::Error> {
        let mut options = Options {
            connections: 1_000_000,
            servers: None,
            time: Duration::from_secs(5),
            service: Service::Lean,
            json: false,
        };
        while let Some(arg) = args.next()? {
            match arg {
                // How the program starts itself; see `crew.rs`.
                Value(role) if role == "serve" => {
                    let parent = number(args, "serve")?;
                    return Ok(Self::Serve(parent, service(&args.value()?)?));
                }
                Value(role) if role == "drive" => {
                    let parent = number(args, "drive")?;
                    let sources = Sources {
                        server: number(args, "drive")?,
                        first: number(args, "drive")?,
                        each: number(args, "drive")?,
                    };
                    return Ok(Self::Drive(parent, sources));
                }
                Long("connections") => options.connections = number(args, "--connections")?,
                Long("servers") => options.servers = servers(args)?,
                Long("seconds") => {
                    options.time = Duration::from_secs(number(args, "--seconds")?);
                }
                Long("dedicated") => options.service = Service::Dedicated,
                Long("buffered") => options.service = Service::Shared,
                Long("json") => options.json = true,
                Long("help") | Short('h') => return Ok(Self::Help),
                other => return Err(other.unexpected()),
            }
        }
        options.check().map(Self::All)
    }
}

impl Options {
    fn check(self) -> Result<Self, lexopt::Error> {
        if !(1..=10_000_000).contains(&self.connections) {
            return Err("--connections must be from 1 to 10000000".into());
        }
        if !(5..=86_400).contains(&self.time.as_secs()) {
            return Err("--seconds must be from 5 to 86400".into());
        }
        if self.servers.is_some_and(|n| n > self.connections) {
            return Err("--servers must not be more than --connections".into());
        }
        Ok(self)
    }
}

/// The value of an option, with the option named when it is wrong.
fn number<T: std::str::FromStr>(
    args: &mut lexopt::Parser,
    option: &str,
) -> Result<T, lexopt::Error> {
    let text = args.value()?;
    let parsed = text.to_str().and_then(|text| text.parse().ok());
    parsed.ok_or_else(|| format!("{option} wants a whole number, not {text:?}").into())
}

/// The names of the services among our own processes.
pub(crate) const SERVICES: [(&str, Service); 3] = [
    ("dedicated", Service::Dedicated),
    ("shared", Service::Shared),
    ("lean", Service::Lean),
];

fn service(name: &OsStr) -> Result<Service, lexopt::Error> {
    let mut all = SERVICES.iter().filter(|(known, _)| name == *known);
    let found = all.next().map(|&(_, service)| service);
    found.ok_or_else(|| format!("no service is called {name:?}").into())
}

fn servers(args: &mut lexopt::Parser) -> Result<Option<usize>, lexopt::Error> {
    let text = args.value()?.string()?;
    match text.parse() {
        _ if text == "auto" => Ok(None),
        Ok(n @ 1..=MOST_SERVERS) => Ok(Some(n)),
        _ => Err(format!("--servers wants auto, or a number from 1 to {MOST_SERVERS}").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Mode, String> {
        Mode::parse(line.split_whitespace().map(OsString::from))
    }

    fn options(line: &str) -> Options {
        match parse(line) {
            Ok(Mode::All(options)) => options,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn everything_has_a_default_and_every_option_is_read() {
        let defaults = Options {
            connections: 1_000_000,
            servers: None,
            time: Duration::from_secs(5),
            service: Service::Lean,
            json: false,
        };
        assert_eq!(options(""), defaults);
        assert_eq!(options("--servers auto"), defaults);
        let all = "--connections=7 --servers 2 --seconds 9 --dedicated --json";
        let expected = Options {
            connections: 7,
            servers: Some(2),
            time: Duration::from_secs(9),
            service: Service::Dedicated,
            json: true,
        };
        assert_eq!(options(all), expected);
        assert_eq!(options("--buffered").service, Service::Shared);
        assert_eq!(parse("--help"), Ok(Mode::Help));
    }

    #[test]
    fn children_are_told_what_they_need() {
        for (name, service) in SERVICES {
            let line = format!("serve 7 {name}");
            assert_eq!(parse(&line), Ok(Mode::Serve(7, service)));
        }
        let sources = Sources {
            server: "127.0.0.1:9".parse().unwrap(),
            first: 3,
            each: 14_000,
        };
        let line = "drive 7 127.0.0.1:9 3 14000";
        assert_eq!(parse(line), Ok(Mode::Drive(7, sources)));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (line, word) in [
            ("--connections 0", "--connections"),
            ("--connections 10000001", "--connections"),
            ("--connections many", "--connections"),
            ("--connections", "--connections"),
            ("--seconds 4", "--seconds"),
            ("--seconds -1", "--seconds"),
            ("--seconds 86401", "--seconds"),
            ("--servers 0", "--servers"),
            ("--servers 1001", "--servers"),
            ("--servers some", "--servers"),
            ("--connections 3 --servers 4", "--servers"),
            ("--json=yes", "--json"),
            ("--fast", "--fast"),
            ("here", "here"),
            ("serve 7 fast", "fast"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(word), "{line}: {error}");
        }
    }

    #[test]
    fn help_names_every_option() {
        for option in [
            "connections",
            "servers",
            "seconds",
            "dedicated",
            "buffered",
            "json",
            "help",
        ] {
            assert!(HELP.contains(&format!("\n  --{option} ")), "{option}");
        }
    }
}
