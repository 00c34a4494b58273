//! The results as Markdown, for `docs/MEASURED.md`.

use std::fmt::Write;

use crate::results::{Echo, Figure, Machine, Results, Spread};

pub(crate) fn all(results: &Results) -> String {
    let Machine {
        processors,
        model,
        kernel,
        load,
        ..
    } = &results.machine;
    let mut text = format!(
        "{model}, {processors} processors, Linux {kernel}; load average when it ended: {load}.\n\n"
    );
    work(results, &mut text);
    for echo in &results.echoes {
        servers(echo, &mut text);
    }
    pipelined(results, &mut text);
    calls(results, &mut text);
    text
}

/// A line for each contest, a column for each contender.
fn work(results: &Results, text: &mut String) {
    let mut names: Vec<&str> = Vec::new();
    for row in results.contests.iter().flat_map(|contest| &contest.rows) {
        if !names.contains(&row.name.as_str()) {
            names.push(&row.name);
        }
    }
    let _ = writeln!(text, "| | {} |", names.join(" | "));
    let _ = writeln!(text, "|---|{}", "---|".repeat(names.len()));
    for contest in &results.contests {
        let _ = write!(text, "| {}, {} |", contest.title, contest.unit);
        for name in &names {
            let cell = contest.rows.iter().find(|row| row.name == *name);
            let cell = cell.map_or_else(String::new, |row| {
                let fewer = if row.count < contest.count {
                    format!(" (of {})", row.count)
                } else {
                    String::new()
                };
                format!("{}{fewer}", figure(&row.figure))
            });
            let _ = write!(text, " {cell} |");
        }
        text.push('\n');
    }
    text.push('\n');
}

fn servers(echo: &Echo, text: &mut String) {
    let _ = writeln!(
        text,
        "**{} connections, {} bytes**, {} rounds of {} s, p99 beside {}'s\n",
        echo.connections, echo.size, echo.rounds, echo.seconds, echo.latencies
    );
    text.push_str(
        "| | µs of processor time a request | requests/s | busy | p50 µs | p99 µs | p99.9 µs \
         | bytes an idle connection |\n|---|---|---|---|---|---|---|---|\n",
    );
    for server in &echo.servers {
        let limited = |text| saturated(&server.busy, text);
        let _ = writeln!(
            text,
            "| {} | {} | {} | {:.2} | {} | {} | {} | {} |",
            server.name,
            figure(&server.cpu_us),
            limited(figure(&server.requests_per_second)),
            server.busy.median,
            limited(number(server.p50_us.value.median)),
            limited(figure(&server.p99_us)),
            limited(number(server.p999_us.value.median)),
            number(server.idle_bytes.value.median),
        );
    }
    text.push('\n');
}

/// A line for each server, two columns for each service.
fn pipelined(results: &Results, text: &mut String) {
    for service in &results.pipelined {
        let _ = writeln!(
            text,
            "**{}**, {} connections with {} requests on their way each, {} rounds of {} s\n\n\
             | | µs of processor time a request | requests/s | busy |\n|---|---|---|---|",
            service.title, service.connections, service.in_flight, service.rounds, service.seconds
        );
        for row in &service.rows {
            let _ = writeln!(
                text,
                "| {} | {} | {} | {:.2} |",
                row.name,
                figure(&row.cpu_us),
                saturated(&row.busy, figure(&row.requests_per_second)),
                row.busy.median,
            );
        }
        text.push('\n');
    }
}

/// What is the server's figure only where its processor was the limit.
fn saturated(busy: &Spread, text: String) -> String {
    if busy.is_saturated() {
        text
    } else {
        "–".into()
    }
}

fn calls(results: &Results, text: &mut String) {
    let Some(first) = results.calls.first() else {
        return;
    };
    let _ = writeln!(
        text,
        "System calls a request, {} connections, {} bytes:\n",
        first.connections, first.size
    );
    for calls in &results.calls {
        let sum: f64 = calls.per_request.values().sum();
        let _ = write!(text, "{} {sum:.2}, ", calls.name);
    }
    text.truncate(text.trim_end_matches(", ").len());
    text.push_str(".\n");
}

/// The median, and the ratio to the yardstick: median, least and most.
fn figure(figure: &Figure) -> String {
    let Spread {
        least,
        median,
        most,
    } = figure.ratio;
    format!(
        "{}: {median:.2} ({least:.2}–{most:.2})",
        number(figure.value.median)
    )
}

fn number(value: f64) -> String {
    match value {
        value if value < 10.0 => format!("{value:.2}"),
        value if value < 100.0 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}
