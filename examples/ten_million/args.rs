//! The command line.

use std::net::SocketAddr;

use lexopt::prelude::*;

const USAGE: &str = "\
usage: ten_million [--coroutines N] [--stacks S] [--depth D] [--rounds R] [--json]
                   [--serve [--connections C] [--seconds T]]

  --coroutines N  how many (default 10000000), fewer if memory is short
  --stacks S      shared stacks of 1 MiB that they run on (default 8)
  --depth D       calls that each is deep, with values at each (default 3)
  --rounds R      resumes of each, in order and again in random order (default 3)
  --serve         serve echo beside them, and compare with the service alone
  --connections C of the service (default 9000), fewer if files are short
  --seconds T     of each load, R of which are put on it (default 4)
  --json          print the figures as JSON, on the last line";

pub(crate) struct Args {
    pub(crate) coroutines: usize,
    pub(crate) stacks: u32,
    pub(crate) depth: u32,
    pub(crate) rounds: u32,
    pub(crate) json: bool,
    pub(crate) serve: bool,
    pub(crate) connections: usize,
    pub(crate) seconds: u64,
    /// It is the process that the load comes from.
    pub(crate) client: Option<Client>,
}

/// Whom the load is put on.
#[derive(Clone, Copy)]
pub(crate) struct Client {
    pub(crate) addr: SocketAddr,
}

impl Args {
    /// `None` if only the usage was asked for.
    pub(crate) fn parse() -> Result<Option<Self>, lexopt::Error> {
        let mut args = Self {
            coroutines: 10_000_000,
            stacks: 8,
            depth: 3,
            rounds: 3,
            json: false,
            serve: false,
            connections: 9_000,
            seconds: 4,
            client: None,
        };
        let mut parser = lexopt::Parser::from_env();
        while let Some(arg) = parser.next()? {
            match arg {
                Long("coroutines") => args.coroutines = parser.value()?.parse()?,
                Long("stacks") => args.stacks = parser.value()?.parse()?,
                Long("depth") => args.depth = parser.value()?.parse()?,
                Long("rounds") => args.rounds = parser.value()?.parse()?,
                Long("serve") => args.serve = true,
                Long("connections") => args.connections = parser.value()?.parse()?,
                Long("seconds") => args.seconds = parser.value()?.parse()?,
                Long("client") => {
                    let addr = parser.value()?.parse()?;
                    args.client = Some(Client { addr });
                }
                Long("json") => args.json = true,
                Long("help") | Short('h') => {
                    println!("{USAGE}");
                    return Ok(None);
                }
                _ => return Err(arg.unexpected()),
            }
        }
        let numbers = [args.stacks, args.depth, args.rounds];
        if numbers.contains(&0)
            || args.coroutines == 0
            || args.connections == 0
            || args.seconds == 0
        {
            return Err("every number must be at least 1".into());
        }
        Ok(Some(args))
    }

    /// No more than fit in nine tenths of the memory, nor than a worker can
    /// have. Says so.
    pub(crate) fn clamp_to_memory(mut self, available: u64) -> Self {
        let each = bytes_expected(self.depth);
        let fit = usize::try_from(available / 10 * 9 / each).unwrap_or(usize::MAX);
        let most = fit.clamp(1, (1 << 27) - 1);
        if self.coroutines > most {
            eprintln!(
                "ten_million: {} coroutines of about {each} bytes do not fit in the {} MiB of \
                 memory that are free (or in one worker); going on with {most}",
                self.coroutines,
                available >> 20
            );
            self.coroutines = most;
        }
        self
    }
}

/// Slot, id, a place in the run queue, and frames, roughly.
fn bytes_expected(depth: u32) -> u64 {
    32 + 8 + 8 + 112 + 32 * u64::from(depth)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_clamped_and_what_fits_is_not() {
        let args = |coroutines, depth| Args {
            coroutines,
            stacks: 1,
            depth,
            rounds: 1,
            json: false,
            serve: false,
            connections: 1,
            seconds: 1,
            client: None,
        };
        let gib = 1 << 30;
        assert_eq!(
            args(1_000_000, 3).clamp_to_memory(gib).coroutines,
            1_000_000
        );
        let fewer = args(10_000_000, 3).clamp_to_memory(gib).coroutines;
        assert!((3_000_000..5_000_000).contains(&fewer), "{fewer}");
        assert!(args(10_000_000, 300).clamp_to_memory(gib).coroutines < fewer / 20);
        assert_eq!(args(5, 3).clamp_to_memory(0).coroutines, 1);
    }
}
