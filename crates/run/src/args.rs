//! The command line.

use std::ffi::{OsStr, OsString};
use std::iter::Peekable;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use crore_inspect::Question;

pub(crate) const USAGE: &str = "\
usage: crore run [OPTIONS] [--] PROGRAM [ARGS]...
       crore run --check PROGRAM
       crore sim [--seed N | --seeds A..B] [--trace FILE] [OPTIONS] [--] PROGRAM [ARGS]...
       crore dump [--json] PID
       crore metrics PID
       crore profile PID
       crore contention PID
       crore top [--once] [--every SECONDS] PID

Runs a program with its threads as coroutines; says what those of a running program do,
and what its runtime counts, or shows both while it runs; and where its time goes, or
where it waits for locks, as folded stacks of five seconds. Or runs it in a simulation, whose
seed decides time, chance and who runs.

  --workers N    kernel threads that run them (1)                     CRORE_WORKERS
  --stack SIZE   stack of threads that do not say, as 256K (ulimit -s)  CRORE_STACK
  --real REGEX   threads whose start routine, as library:symbol, matches
                 stay the kernel's                                    CRORE_REAL
  --learn FILE   notes there which threads wait where crore does not see it;
                 the next run keeps them the kernel's                 CRORE_LEARN
  --only         programs that it starts run by themselves            CRORE_ONLY
  --seed N       of the simulation (0)                                CRORE_SIM
  --seeds A..B   one run by each, and which fail
  --trace FILE   what happens in a simulation of one seed             CRORE_SIM_TRACE_FILE
  --check        says whether the program can be run so, and why not
  --help, --version";

/// What is to be done.
#[derive(Debug, PartialEq)]
pub(crate) enum Action {
    Run(Run),
    Simulate(Run, SimOptions),
    Check(PathBuf),
    Ask(u32, Question),
    Top(Top),
    Help,
    Version,
}

/// What is to be shown of a process, how often; or once.
#[derive(Debug, PartialEq)]
pub(crate) struct Top {
    pub(crate) process: u32,
    pub(crate) every: Duration,
    pub(crate) once: bool,
}

/// By which seeds a program is to be run.
#[derive(Debug, PartialEq)]
pub(crate) struct SimOptions {
    pub(crate) seeds: Range<u64>,
    pub(crate) trace: Option<String>,
}

impl Default for SimOptions {
    fn default() -> Self {
        Self {
            seeds: 0..1,
            trace: None,
        }
    }
}

/// A program and how it is to be run.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Run {
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<OsString>,
    workers: Option<usize>,
    stack: Option<usize>,
    real: Option<String>,
    learn: Option<String>,
    only: bool,
}

impl Run {
    /// The same for the library, by name. What is not said here may be said there.
    pub(crate) fn settings(&self) -> impl Iterator<Item = (&'static str, String)> {
        let number = |number: usize| number.to_string();
        [
            ("CRORE_WORKERS", self.workers.map(number)),
            ("CRORE_STACK", self.stack.map(number)),
            ("CRORE_REAL", self.real.clone()),
            ("CRORE_LEARN", self.learn.clone()),
            ("CRORE_ONLY", self.only.then(|| "1".into())),
        ]
        .into_iter()
        .filter_map(|(name, value)| value.map(|value| (name, value)))
    }
}

/// # Errors
///
/// What is wrong, in words.
pub(crate) fn parse(args: impl Iterator<Item = OsString>) -> Result<Action, String> {
    let mut args = args.peekable();
    match args.next().as_ref().and_then(|arg| arg.to_str()) {
        Some("run") => run(args, false),
        Some("sim") => run(args, true),
        Some("dump") => ask(args, Question::Dump),
        Some("metrics") => ask(args, Question::Metrics),
        Some("profile") => ask(args, Question::Profile),
        Some("contention") => ask(args, Question::Contention),
        Some("top") => top(args),
        Some("--help" | "-h" | "help") => Ok(Action::Help),
        Some("--version" | "-V") => Ok(Action::Version),
        Some(other) => Err(format!("{other}: there is no such command")),
        None => Err("no command".into()),
    }
}

/// A program, and how it is to be run.
fn run(
    mut args: Peekable<impl Iterator<Item = OsString>>,
    simulates: bool,
) -> Result<Action, String> {
    let (mut run, mut check, mut sim) = (Run::default(), false, SimOptions::default());
    while let Some(arg) = args.next_if(|arg| arg.as_encoded_bytes().starts_with(b"-")) {
        let arg = arg.to_str().ok_or("an option that is no text")?;
        let (name, inline) = match arg.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (arg, None),
        };
        let mut value = || {
            let next = || args.next().and_then(|value| value.into_string().ok());
            inline
                .clone()
                .or_else(next)
                .ok_or(format!("{name} wants a value"))
        };
        match name {
            "--" => break,
            "--seed" if simulates => {
                let seed = seed(&value()?)?;
                sim.seeds = seed..seed.saturating_add(1);
            }
            "--seeds" if simulates => sim.seeds = seeds(&value()?)?,
            "--trace" if simulates => sim.trace = Some(value()?),
            "--workers" if !simulates => run.workers = Some(number(name, &value()?)?),
            "--stack" => run.stack = Some(bytes(&value()?)?),
            "--real" => run.real = Some(value()?),
            "--learn" if !simulates => run.learn = Some(absolute(&value()?)?),
            "--only" => run.only = true,
            "--check" if !simulates => check = true,
            "--help" | "-h" => return Ok(Action::Help),
            _ => return Err(format!("{name}: there is no such option")),
        }
    }
    run.program = args.next().ok_or("no program")?.into();
    run.args = args.collect();
    if sim.trace.is_some() && sim.seeds.clone().count() > 1 {
        return Err("a trace is of one seed".into());
    }
    Ok(match (check, simulates) {
        (true, _) => Action::Check(run.program),
        (_, true) => Action::Simulate(run, sim),
        (_, false) => Action::Run(run),
    })
}

fn seed(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text}: no seed"))
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    let ends = text.split_once("..");
    let (first, end) = ends.ok_or(format!("{text}: seeds are A..B"))?;
    let seeds = seed(first)?..seed(end)?;
    match seeds.is_empty() {
        true => Err(format!("{text}: no seeds")),
        false => Ok(seeds),
    }
}

/// A program may change its folder, and start others in others.
fn absolute(path: &str) -> Result<String, String> {
    let full = std::path::absolute(path).map_err(|error| format!("{path}: {error}"))?;
    full.into_os_string()
        .into_string()
        .map_err(|_| format!("{path}: in a folder whose name is no text"))
}

/// Of which process what is asked.
fn ask(args: impl Iterator<Item = OsString>, what: Question) -> Result<Action, String> {
    let (mut what, mut process) = (what, None);
    for arg in args {
        match arg.to_str() {
            Some("--json") if what == Question::Dump => what = Question::Json,
            Some(text) if process.is_none() && !text.starts_with('-') => {
                process = Some(number_of_process(text)?);
            }
            _ => return Err(format!("{}: not understood", arg.to_string_lossy())),
        }
    }
    let process = process.ok_or("no process")?;
    Ok(Action::Ask(process, what))
}

fn number_of_process(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("{text}: no process"))
}

fn top(mut args: impl Iterator<Item = OsString>) -> Result<Action, String> {
    let (mut process, mut every, mut once) = (None, Duration::from_secs(1), false);
    while let Some(arg) = args.next() {
        match arg.to_str() {
            Some("--once") => once = true,
            Some("--every") => every = seconds(args.next().as_deref().and_then(OsStr::to_str))?,
            Some(text) if process.is_none() && !text.starts_with('-') => {
                process = Some(number_of_process(text)?);
            }
            _ => return Err(format!("{}: not understood", arg.to_string_lossy())),
        }
    }
    let process = process.ok_or("no process")?;
    Ok(Action::Top(Top {
        process,
        every,
        once,
    }))
}

fn seconds(text: Option<&str>) -> Result<Duration, String> {
    let text = text.ok_or("--every wants a value")?;
    let seconds = text
        .parse()
        .ok()
        .filter(|seconds| (0.1..=3600.0).contains(seconds));
    let seconds = seconds.ok_or(format!("--every {text}: from 0.1 to 3600 seconds"))?;
    Ok(Duration::from_secs_f64(seconds))
}

fn number(name: &str, text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number @ 1..) => Ok(number),
        _ => Err(format!("{name} {text}: no number")),
    }
}

/// A number of bytes, or of KiB, MiB, GiB.
fn bytes(text: &str) -> Result<usize, String> {
    let units = [("K", 10), ("M", 20), ("G", 30)];
    let (digits, shift) = units
        .into_iter()
        .find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, shift)))
        .unwrap_or((text, 0));
    let number = number("--stack", digits)?;
    let bytes = number.checked_mul(1 << shift);
    bytes
        .filter(|bytes| *bytes <= 1 << 30)
        .ok_or(format!("--stack {text}: the most is 1G"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Action, String> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn options_come_before_the_program_and_its_arguments() {
        let run = Run {
            program: "prog".into(),
            args: vec!["-x".into(), "--workers".into()],
            workers: Some(2),
            stack: Some(256 << 10),
            real: Some("libaio".into()),
            learn: Some("/learnt".into()),
            only: true,
        };
        let line = "run --workers 2 --stack=256K --real libaio --learn /learnt --only -- \
                    prog -x --workers";
        assert_eq!(parsed(line), Ok(Action::Run(run)));
        let sim = |seeds, trace: Option<&str>| {
            let run = Run {
                program: "prog".into(),
                args: vec!["-x".into()],
                ..Run::default()
            };
            let trace = trace.map(str::to_owned);
            Ok(Action::Simulate(run, SimOptions { seeds, trace }))
        };
        assert_eq!(parsed("sim prog -x"), sim(0..1, None));
        let line = "sim --seed 7 --trace=file -- prog -x";
        assert_eq!(parsed(line), sim(7..8, Some("file")));
        assert_eq!(parsed("sim --seeds 3..30 prog -x"), sim(3..30, None));
        assert_eq!(parsed("run --check prog"), Ok(Action::Check("prog".into())));
        assert_eq!(parsed("dump 7"), Ok(Action::Ask(7, Question::Dump)));
        let json = Ok(Action::Ask(7, Question::Json));
        assert_eq!(parsed("dump 7 --json"), json);
        assert_eq!(parsed("metrics 7"), Ok(Action::Ask(7, Question::Metrics)));
        assert_eq!(parsed("profile 7"), Ok(Action::Ask(7, Question::Profile)));
        assert_eq!(
            parsed("contention 7"),
            Ok(Action::Ask(7, Question::Contention))
        );
        let top = |process, millis, once| {
            let every = Duration::from_millis(millis);
            let top = Top {
                process,
                every,
                once,
            };
            Ok(Action::Top(top))
        };
        assert_eq!(parsed("top 7"), top(7, 1_000, false));
        assert_eq!(parsed("top --every 0.5 7 --once"), top(7, 500, true));
        assert_eq!(parsed("run --help"), Ok(Action::Help));
        assert_eq!(parsed("--version"), Ok(Action::Version));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (line, said) in [
            ("", "no command"),
            ("runs", "no such command"),
            ("run", "no program"),
            ("run --workers 0 x", "no number"),
            ("run --workers", "wants a value"),
            ("run --stack 2G x", "the most is 1G"),
            ("run --stack 1KK x", "no number"),
            ("run --stacks 2 x", "no such option"),
            ("run --seed 1 x", "no such option"),
            ("sim --workers 2 x", "no such option"),
            ("sim --seed x y", "x: no seed"),
            ("sim --seeds 3 x", "3: seeds are A..B"),
            ("sim --seeds 3..3 x", "3..3: no seeds"),
            ("sim --seeds 0..2 --trace f x", "a trace is of one seed"),
            ("dump", "no process"),
            ("dump x", "x: no process"),
            ("dump 1 2", "2: not understood"),
            ("metrics --json 1", "--json: not understood"),
            ("top", "no process"),
            ("top 1 2", "2: not understood"),
            ("top --every", "wants a value"),
            ("top --every x 1", "from 0.1 to 3600"),
            ("top --every 0 1", "from 0.1 to 3600"),
        ] {
            let why = parsed(line).unwrap_err();
            assert!(why.contains(said), "{line}: {why}");
        }
    }
}
