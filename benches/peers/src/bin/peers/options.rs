//! The command line.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use lexopt::prelude::*;

use crate::drive::MAX_SIZE;
use crate::subjects::{GUESTS, Subject};

/// What is printed when the arguments are wrong.
pub(crate) const HELP: &str = "\
Usage: peers [PART,..] [OPTIONS]

Parts: work, echo, pipelined, calls, plots, which is the default; tables (what the last
       runs wrote, in Markdown); paired (all echo servers at once, the load in
       turn, processor time only, for a machine that is too busy otherwise);
       threads (the plot of what scripts/run_figures.sh wrote last); push (the plots of
       what examples/push/beside_tokio.sh wrote last)

  --rounds N          how often each contender runs [5]
  --only TEXT         only work and services whose title contains this
  --subjects A,..     only these contenders
  --connections N,..  how many connections [100,1000,10000]
  --sizes B,..        bytes in a message [64,1024]
  --seconds S         how long each load lasts [1]
  --go PROGRAM        benches/go, built; without it Go is left out
  --libco PROGRAM     benches/cpp/libco.cpp, built; the same
  --photon PROGRAM    benches/cpp/photon.cpp, built; the same
  --out FOLDER        where results.json goes [target/peers]
  --plots FOLDER      where plots go [target/peers]";

/// A part of the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Work,
    Echo,
    Pipelined,
    Paired,
    Calls,
    Plots,
    Tables,
    Threads,
    Push,
}

impl Part {
    /// Whether contenders are run for it.
    pub(crate) fn measures(self) -> bool {
        !matches!(
            self,
            Self::Plots | Self::Tables | Self::Threads | Self::Push
        )
    }
}

impl FromStr for Part {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Ok(match name {
            "work" => Self::Work,
            "echo" => Self::Echo,
            "pipelined" => Self::Pipelined,
            "paired" => Self::Paired,
            "calls" => Self::Calls,
            "plots" => Self::Plots,
            "tables" => Self::Tables,
            "threads" => Self::Threads,
            "push" => Self::Push,
            _ => return Err(format!("no part is called {name:?}")),
        })
    }
}

/// The arguments, checked.
pub(crate) struct Options {
    pub(crate) parts: Vec<Part>,
    pub(crate) rounds: usize,
    pub(crate) only: String,
    pub(crate) subjects: Vec<Subject>,
    pub(crate) connections: Vec<usize>,
    pub(crate) sizes: Vec<usize>,
    pub(crate) load: Duration,
    /// The programs of the guests that take part, by [`GUESTS`]' names.
    pub(crate) guests: BTreeMap<&'static str, PathBuf>,
    pub(crate) out: PathBuf,
    pub(crate) plots: PathBuf,
}

impl Options {
    /// Reads the arguments that follow the program's name.
    pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Self, String> {
        Self::read(lexopt::Parser::from_args(args)).map_err(|e| e.to_string())
    }

    fn read(mut args: lexopt::Parser) -> Result<Self, lexopt::Error> {
        let mut options = Self {
            parts: vec![
                Part::Work,
                Part::Echo,
                Part::Pipelined,
                Part::Calls,
                Part::Plots,
            ],
            rounds: 5,
            only: String::new(),
            subjects: Vec::new(),
            connections: vec![100, 1_000, 10_000],
            sizes: vec![64, 1_024],
            load: Duration::from_secs(1),
            guests: BTreeMap::new(),
            out: "target/peers".into(),
            plots: "target/peers".into(),
        };
        let mut names = Vec::<String>::new();
        while let Some(arg) = args.next()? {
            match arg {
                Value(parts) => options.parts = list(&parts)?,
                Long("rounds") => options.rounds = args.value()?.parse()?,
                Long("only") => options.only = args.value()?.parse()?,
                Long("subjects") => names = list(&args.value()?)?,
                Long("connections") => options.connections = list(&args.value()?)?,
                Long("sizes") => options.sizes = list(&args.value()?)?,
                Long("seconds") => options.load = Duration::from_secs(args.value()?.parse()?),
                Long("out") => options.out = args.value()?.into(),
                Long("plots") => options.plots = args.value()?.into(),
                Long(name) => {
                    let Some((guest, _)) = GUESTS.into_iter().find(|(guest, _)| *guest == name)
                    else {
                        return Err(Long(name).unexpected());
                    };
                    options.guests.insert(guest, args.value()?.into());
                }
                other => return Err(other.unexpected()),
            }
        }
        if options.connections.contains(&0) || options.rounds == 0 || options.load.is_zero() {
            return Err("connections, rounds and seconds must be at least 1".into());
        }
        if !options
            .sizes
            .iter()
            .all(|size| (1..=MAX_SIZE).contains(size))
        {
            return Err(format!("--sizes must be from 1 to {MAX_SIZE} bytes").into());
        }
        if !options.parts.iter().any(|part| part.measures()) {
            return Ok(options);
        }
        let all = Subject::all(&options.guests).map_err(|e| e.to_string())?;
        if let Some(name) = names
            .iter()
            .find(|name| all.iter().all(|one| one.name != **name))
        {
            return Err(format!("no contender here is called {name:?}").into());
        }
        let wanted = |one: &Subject| names.is_empty() || names.iter().any(|name| one.name == name);
        options.subjects = all.into_iter().filter(wanted).collect();
        Ok(options)
    }

    /// The contenders among `names`, in that order.
    pub(crate) fn among(&self, names: &[&str]) -> Vec<&Subject> {
        let find = |name: &&str| self.subjects.iter().find(|subject| subject.name == *name);
        names.iter().filter_map(find).collect()
    }
}

/// Values with commas between them.
fn list<T: FromStr>(text: &OsString) -> Result<Vec<T>, lexopt::Error>
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
