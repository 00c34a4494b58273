//! The table: medians, and the ratios to the first server with their spread.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::measure::Sample;
use crate::options::Options;
use crate::servers::Server;

/// What was measured, by server, then by round.
pub(crate) struct Samples(Vec<Vec<Sample>>);

impl Samples {
    pub(crate) fn new(servers: &[Server]) -> Self {
        Self(vec![Vec::new(); servers.len()])
    }

    pub(crate) fn add(&mut self, server: usize, sample: Sample) {
        self.0[server].push(sample);
    }

    /// Median, least and most of a figure's ratio to the first server's of
    /// the same round.
    fn ratio(&self, server: usize, figure: impl Fn(&Sample) -> f64) -> [f64; 3] {
        let pairs = self.0[server].iter().zip(&self.0[0]);
        spread(pairs.map(|(own, first)| figure(own) / figure(first)))
    }

    fn median(&self, server: usize, figure: impl Fn(&Sample) -> f64) -> f64 {
        spread(self.0[server].iter().map(figure))[0]
    }
}

/// Median, least and most.
fn spread(values: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let median = if values.len().is_multiple_of(2) {
        f64::midpoint(values[middle - 1], values[middle])
    } else {
        values[middle]
    };
    [median, values[0], values[values.len() - 1]]
}

pub(crate) fn table(connections: usize, options: &Options, samples: &Samples) -> String {
    let mut text = format!(
        "{connections} connections, {} B, {} rounds of {} s; ratios to {}: median (least..most)\n",
        options.size,
        options.rounds,
        options.load.as_secs(),
        options.servers[0].name()
    );
    text.push_str(
        "  server  µs cpu/req   ratio               requests/s   ratio               \
         p50 µs   p99 µs   B/idle conn\n",
    );
    for (at, server) in options.servers.iter().enumerate() {
        let [cpu, cpu_least, cpu_most] = samples.ratio(at, |s| s.cpu_us);
        let [rate, rate_least, rate_most] = samples.ratio(at, |s| s.per_second);
        let _ = writeln!(
            text,
            "{:>8}  {:>10.3}   {cpu:.3} ({cpu_least:.3}..{cpu_most:.3})  {:>11.0}   \
             {rate:.3} ({rate_least:.3}..{rate_most:.3})  {:>7.0}  {:>7.0}  {:>12.0}",
            server.name(),
            samples.median(at, |s| s.cpu_us),
            samples.median(at, |s| s.per_second),
            samples.median(at, |s| s.p50_us),
            samples.median(at, |s| s.p99_us),
            samples.median(at, |s| s.idle_bytes),
        );
    }
    text
}

/// What each server's request costs, and its ratio to the first server's a
/// moment before: the median, and the middle half.
pub(crate) fn pairs(connections: usize, options: &Options, rounds: &[Vec<f64>]) -> String {
    let mut text = format!(
        "{connections} connections, {} B, in turn, {} times; ratios to {}: median (middle half)\n  \
         server  µs cpu/req   ratio\n",
        options.size,
        rounds.len(),
        options.servers[0].name()
    );
    for (at, server) in options.servers.iter().enumerate() {
        let mut ratios: Vec<f64> = rounds.iter().map(|round| round[at] / round[0]).collect();
        ratios.sort_by(f64::total_cmp);
        let at_part = |part: usize| ratios[(ratios.len() - 1) * part / 4];
        let _ = writeln!(
            text,
            "{:>8}  {:>10.3}   {:.3} ({:.3}..{:.3})",
            server.name(),
            spread(rounds.iter().map(|round| round[at]))[0],
            at_part(2),
            at_part(1),
            at_part(3),
        );
    }
    text
}

/// System calls a request, the many first; rare ones are left out.
pub(crate) fn calls(calls: &BTreeMap<String, f64>) -> String {
    let mut often: Vec<_> = calls.iter().filter(|(_, count)| **count >= 0.005).collect();
    often.sort_by(|a, b| b.1.total_cmp(a.1));
    let total: f64 = calls.values().sum();
    let names: Vec<String> = often
        .iter()
        .map(|(name, count)| format!("{name} {count:.2}"))
        .collect();
    format!("{total:.2} system calls a request: {}", names.join(", "))
}
