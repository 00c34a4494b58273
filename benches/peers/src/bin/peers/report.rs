//! The tables: medians, and the ratios to the yardstick with their spread.

use std::fmt::Write;

use crate::contests::SERVERS;
use crate::options::Options;
use crate::results::{Calls, Contest, Echo, Figure, Pipelined, Spread};

pub(crate) fn contest(contest: &Contest) -> String {
    let first = contest.rows.first().map_or("", |row| row.name.as_str());
    let mut text = format!(
        "{}: {}, {} rounds; ratios to {first}: median (least..most)\n",
        contest.title, contest.unit, contest.rounds
    );
    for row in &contest.rows {
        let fewer = if row.count < contest.count {
            format!("   with {} only", row.count)
        } else {
            String::new()
        };
        let Spread {
            least,
            median,
            most,
        } = row.figure.value;
        let _ = writeln!(
            text,
            "{:>14}  {median:>9.1} ({least:.1}..{most:.1})  {}{fewer}",
            row.name,
            ratio(&row.figure),
        );
    }
    text
}

fn ratio(figure: &Figure) -> String {
    let Spread {
        least,
        median,
        most,
    } = figure.ratio;
    format!("{median:.2} ({least:.2}..{most:.2})")
}

pub(crate) fn echo(echo: &Echo) -> String {
    let first = echo.servers.first().map_or("", |row| row.name.as_str());
    let mut text = format!(
        "echo, {} connections, {} B, {} rounds of {} s; ratios to {first}, of p99 to {}: \
         median (least..most)\n",
        echo.connections, echo.size, echo.rounds, echo.seconds, echo.latencies
    );
    text.push_str(
        "        server  µs cpu/req   ratio             busy   requests/s   ratio               \
         p50 µs   p99 µs   ratio              p99.9 µs  B/idle conn\n",
    );
    for server in &echo.servers {
        let _ = writeln!(
            text,
            "{:>14}  {:>10.3}   {}  {:.2}  {:>11.0}   {}  {:>7.0}  {:>7.0}   {}  {:>8.0}  {:>11.0}{}",
            server.name,
            server.cpu_us.value.median,
            ratio(&server.cpu_us),
            server.busy.median,
            server.requests_per_second.value.median,
            ratio(&server.requests_per_second),
            server.p50_us.value.median,
            server.p99_us.value.median,
            ratio(&server.p99_us),
            server.p999_us.value.median,
            server.idle_bytes.value.median,
            bound(&server.busy),
        );
    }
    text
}

pub(crate) fn pipelined(pipelined: &Pipelined) -> String {
    let first = pipelined.rows.first().map_or("", |row| row.name.as_str());
    let mut text = format!(
        "{}, {} connections with {} on their way each, {} rounds of {} s; ratios to {first}: \
         median (least..most)\n        server  µs cpu/req   ratio             busy   requests/s   \
         ratio\n",
        pipelined.title,
        pipelined.connections,
        pipelined.in_flight,
        pipelined.rounds,
        pipelined.seconds
    );
    for row in &pipelined.rows {
        let _ = writeln!(
            text,
            "{:>14}  {:>10.3}   {}  {:.2}  {:>11.0}   {}{}",
            row.name,
            row.cpu_us.value.median,
            ratio(&row.cpu_us),
            row.busy.median,
            row.requests_per_second.value.median,
            ratio(&row.requests_per_second),
            bound(&row.busy),
        );
    }
    text
}

/// What stands after figures that are not the server's alone.
fn bound(busy: &Spread) -> &'static str {
    if busy.is_saturated() {
        ""
    } else {
        "  (its processor was not the limit)"
    }
}

/// What each server's request costs, and its ratio to the first server's a
/// moment before: the median, and the middle half.
pub(crate) fn pairs(connections: usize, options: &Options, rounds: &[Vec<f64>]) -> String {
    let servers = options.among(SERVERS);
    let mut text = format!(
        "{connections} connections, {} B, in turn, {} times; ratios to {}: median (middle half)\n        \
         server  µs cpu/req   ratio\n",
        options.sizes[0],
        rounds.len(),
        servers[0].name
    );
    for (at, server) in servers.iter().enumerate() {
        let mut ratios: Vec<f64> = rounds.iter().map(|round| round[at] / round[0]).collect();
        ratios.sort_by(f64::total_cmp);
        let at_part = |part: usize| ratios[(ratios.len() - 1) * part / 4];
        let _ = writeln!(
            text,
            "{:>14}  {:>10.3}   {:.3} ({:.3}..{:.3})",
            server.name,
            Spread::of(rounds.iter().map(|round| round[at])).median,
            at_part(2),
            at_part(1),
            at_part(3),
        );
    }
    text
}

/// System calls a request, the many first; rare ones are left out.
pub(crate) fn calls(all: &[Calls]) -> String {
    let mut text = String::new();
    for calls in all {
        let often = calls
            .per_request
            .iter()
            .filter(|(_, count)| **count >= 0.005);
        let mut often: Vec<_> = often.collect();
        often.sort_by(|a, b| b.1.total_cmp(a.1));
        let names: Vec<String> = often
            .iter()
            .map(|(name, count)| format!("{name} {count:.2}"))
            .collect();
        let _ = writeln!(
            text,
            "{:>14}  {:.2} system calls a request: {}",
            calls.name,
            calls.per_request.values().sum::<f64>(),
            names.join(", ")
        );
    }
    text
}
