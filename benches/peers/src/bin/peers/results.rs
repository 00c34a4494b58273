//! What is written: `results.json`, one file for all parts.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

/// Everything that was measured.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct Results {
    pub(crate) machine: Machine,
    pub(crate) contests: Vec<Contest>,
    pub(crate) echoes: Vec<Echo>,
    #[serde(default)]
    pub(crate) pipelined: Vec<Pipelined>,
    pub(crate) calls: Vec<Calls>,
}

/// Where, and how busy it was when the file was last written.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct Machine {
    pub(crate) processors: usize,
    pub(crate) model: String,
    pub(crate) kernel: String,
    /// Seconds since 1970.
    pub(crate) time: u64,
    /// Runnable threads, on average over 1, 5 and 15 minutes.
    pub(crate) load: String,
}

/// A comparison of some work.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Contest {
    pub(crate) title: String,
    pub(crate) work: String,
    pub(crate) count: u64,
    pub(crate) unit: String,
    pub(crate) rounds: usize,
    /// The first is the yardstick.
    pub(crate) rows: Vec<Row>,
}

/// One contender.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    /// How many tasks it had: fewer than the others where it can't have more.
    pub(crate) count: u64,
    pub(crate) figure: Figure,
}

/// A comparison of echo servers.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Echo {
    pub(crate) connections: usize,
    /// Bytes of a message.
    pub(crate) size: usize,
    pub(crate) rounds: usize,
    pub(crate) seconds: f64,
    /// The first is the yardstick.
    pub(crate) servers: Vec<Server>,
    /// That of the latencies.
    pub(crate) latencies: String,
}

/// One echo server.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Server {
    pub(crate) name: String,
    pub(crate) requests_per_second: Figure,
    /// The share of the time in which it had a processor.
    pub(crate) busy: Spread,
    /// Processor time of the server for a request, in microseconds.
    pub(crate) cpu_us: Figure,
    /// Latencies in microseconds.
    pub(crate) p50_us: Figure,
    pub(crate) p99_us: Figure,
    pub(crate) p999_us: Figure,
    /// Resident bytes of the server for an idle connection.
    pub(crate) idle_bytes: Figure,
    /// Of the latencies of all rounds: share of the requests, microseconds.
    pub(crate) quantiles: Vec<(f64, f64)>,
}

/// A comparison of servers whose clients do not wait for an answer.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Pipelined {
    pub(crate) title: String,
    pub(crate) connections: usize,
    /// Requests without an answer, of each connection.
    pub(crate) in_flight: usize,
    pub(crate) rounds: usize,
    pub(crate) seconds: f64,
    /// The first is the yardstick.
    pub(crate) rows: Vec<PipelinedRow>,
}

/// One of these servers.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct PipelinedRow {
    pub(crate) name: String,
    pub(crate) cpu_us: Figure,
    pub(crate) requests_per_second: Figure,
    /// The share of the time in which it had a processor.
    pub(crate) busy: Spread,
}

/// System calls of an echo server for one request.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Calls {
    pub(crate) name: String,
    pub(crate) connections: usize,
    pub(crate) size: usize,
    pub(crate) per_request: BTreeMap<String, f64>,
}

/// A figure over all rounds, and how many times the yardstick's it was.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Figure {
    pub(crate) value: Spread,
    pub(crate) ratio: Spread,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) least: f64,
    pub(crate) median: f64,
    pub(crate) most: f64,
}

impl Figure {
    /// Of the values and the yardstick's, by round.
    pub(crate) fn new(values: &[f64], yardstick: &[f64]) -> Self {
        let ratios = values.iter().zip(yardstick).map(|(own, first)| own / first);
        Self {
            value: Spread::of(values.iter().copied()),
            ratio: Spread::of(ratios),
        }
    }
}

impl Spread {
    /// Of at least one value.
    pub(crate) fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = if values.len().is_multiple_of(2) {
            f64::midpoint(values[middle - 1], values[middle])
        } else {
            values[middle]
        };
        Self {
            least: values[0],
            median,
            most: values[values.len() - 1],
        }
    }
}

/// What `scripts/run_figures.sh` writes of echo servers, beside other things.
#[derive(Debug, Deserialize)]
pub(crate) struct ThreadFigures {
    pub(crate) rows: Vec<ThreadRow>,
}

/// One server with so many connections.
#[derive(Debug, Deserialize)]
pub(crate) struct ThreadRow {
    pub(crate) part: String,
    pub(crate) what: String,
    pub(crate) under: String,
    pub(crate) connections: Option<u32>,
    pub(crate) requests_per_cpu_second: Option<f64>,
}

impl ThreadFigures {
    pub(crate) fn read(path: &Path) -> io::Result<Self> {
        let error = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
        serde_json::from_slice(&fs::read(path).map_err(error)?).map_err(|e| error(e.into()))
    }
}

/// One load of the push service; `examples/push/beside_tokio.sh` wrote it.
#[derive(Debug, Deserialize)]
pub(crate) struct PushRow {
    pub(crate) name: String,
    pub(crate) connections: u32,
    pub(crate) deliveries_per_second: f64,
    pub(crate) p99_us: Option<f64>,
}

impl PushRow {
    pub(crate) fn read_all(path: &Path) -> io::Result<Vec<Self>> {
        let error = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
        let text = fs::read_to_string(path).map_err(error)?;
        let rows = text.lines().map(serde_json::from_str);
        rows.collect::<Result<_, _>>().map_err(|e| error(e.into()))
    }
}

impl Results {
    /// What an earlier run wrote; nothing if there was none.
    pub(crate) fn read(path: &Path) -> io::Result<Self> {
        match fs::read(path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|e| {
                io::Error::other(format!("{}: {e}; remove it to start anew", path.display()))
            }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(e),
        }
    }

    pub(crate) fn write(&mut self, path: &Path) -> io::Result<()> {
        self.machine = Machine::this()?;
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        fs::write(path, text)
    }

    /// Puts it in the place of that of an earlier run.
    pub(crate) fn put_contest(&mut self, contest: Contest) {
        let same = |old: &Contest| (&old.work, old.count) == (&contest.work, contest.count);
        match self.contests.iter().position(same) {
            Some(at) => self.contests[at] = contest,
            None => self.contests.push(contest),
        }
    }

    /// Puts it in the place of that of an earlier run.
    pub(crate) fn put_pipelined(&mut self, pipelined: Pipelined) {
        let same = |old: &Pipelined| old.title == pipelined.title;
        match self.pipelined.iter().position(same) {
            Some(at) => self.pipelined[at] = pipelined,
            None => self.pipelined.push(pipelined),
        }
    }

    /// Puts it in the place of that of an earlier run.
    pub(crate) fn put_echo(&mut self, echo: Echo) {
        let same = |old: &Echo| (old.connections, old.size) == (echo.connections, echo.size);
        match self.echoes.iter().position(same) {
            Some(at) => self.echoes[at] = echo,
            None => self.echoes.push(echo),
        }
    }
}

/// Less busy than that, a server on one thread waited for its clients.
const SATURATED: f64 = 0.95;

impl Spread {
    /// Of a busy share: whether the server's processor was the limit, and not the load.
    pub(crate) fn is_saturated(&self) -> bool {
        self.median >= SATURATED
    }
}

impl Machine {
    pub(crate) fn this() -> io::Result<Self> {
        let processors = fs::read_to_string("/proc/cpuinfo")?;
        let model = processors.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key.trim() == "model name").then(|| value.trim().to_owned())
        });
        let kernel = Command::new("uname").arg("-r").output()?;
        let since = std::time::UNIX_EPOCH.elapsed().map_err(io::Error::other)?;
        Ok(Self {
            processors: std::thread::available_parallelism()?.get(),
            model: model.unwrap_or_default(),
            kernel: String::from_utf8_lossy(&kernel.stdout).trim().into(),
            time: since.as_secs(),
            load: fs::read_to_string("/proc/loadavg")?
                .split_whitespace()
                .take(3)
                .collect::<Vec<_>>()
                .join(" "),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_taken_round_by_round() {
        let figure = Figure::new(&[2.0, 30.0, 8.0], &[1.0, 10.0, 2.0]);
        let spread = |least, median, most| Spread {
            least,
            median,
            most,
        };
        assert_eq!(figure.value, spread(2.0, 8.0, 30.0));
        assert_eq!(figure.ratio, spread(2.0, 3.0, 4.0));
        assert_eq!(Spread::of([1.0, 4.0].into_iter()), spread(1.0, 2.5, 4.0));
    }

    #[test]
    fn a_new_outcome_replaces_the_old_one() {
        let echo = |connections, rounds| Echo {
            connections,
            size: 64,
            rounds,
            seconds: 1.0,
            servers: Vec::new(),
            latencies: String::new(),
        };
        let mut results = Results::default();
        results.put_echo(echo(1, 1));
        results.put_echo(echo(2, 1));
        results.put_echo(echo(1, 2));
        let rounds: Vec<_> = results.echoes.iter().map(|echo| echo.rounds).collect();
        assert_eq!(rounds, [2, 1]);
    }
}
