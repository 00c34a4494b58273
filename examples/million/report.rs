//! The result, for people and for programs.

use std::fmt;

use crate::digits::grouped;
use crate::json::Object;
use crate::measure::Report;
use crate::preflight::Plan;
use crate::server::Service;

/// A report and what was to be done.
pub(crate) struct Summary<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) report: &'a Report,
    /// Connections before the preflight clamped them.
    pub(crate) asked: usize,
    pub(crate) service: Service,
}

impl Summary<'_> {
    /// How many things went wrong.
    fn errors(&self) -> u64 {
        self.report.errors.values().sum()
    }

    /// Whether every connection that was planned echoed, twice, every byte right.
    pub(crate) fn is_verified(&self) -> bool {
        let all = self.plan.connections;
        self.errors() == 0 && self.report.connections == all && self.report.echoed == all
    }

    fn each(&self, bytes: u64) -> Option<u64> {
        bytes.checked_div(self.report.measured as u64)
    }

    fn microseconds(&self, quantile: f64) -> f64 {
        (self.report.latency.value_at_quantile(quantile) / 100) as f64 / 10.0
    }

    fn idle_percent(&self) -> f64 {
        let (used, elapsed) = self.report.idle;
        100.0 * used.as_secs_f64() / elapsed.as_secs_f64()
    }

    /// The object that `--json` prints. What is unknown is null.
    pub(crate) fn json(&self) -> Object<20> {
        let report = self.report;
        Object([
            ("connections", report.connections.into()),
            ("connections_asked", self.asked.into()),
            ("dedicated", (self.service == Service::Dedicated).into()),
            ("errors", self.errors().into()),
            ("errors_by_kind", (&report.errors).into()),
            ("server_processes", report.servers.into()),
            ("client_processes", report.clients.into()),
            ("ramp_seconds", report.ramp.as_secs_f64().into()),
            (
                "ramp_per_second",
                ((report.measured as f64 / report.ramp.as_secs_f64()).round()).into(),
            ),
            (
                "user_bytes_per_connection",
                self.each(report.server_bytes).into(),
            ),
            (
                "client_bytes_per_connection",
                self.each(report.client_bytes).into(),
            ),
            (
                "kernel_bytes_per_connection",
                self.each(report.kernel_bytes).into(),
            ),
            (
                "available_bytes_per_connection",
                self.each(report.available_bytes).into(),
            ),
            ("idle_cpu_percent", self.idle_percent().into()),
            ("idle_seconds", report.idle.1.as_secs_f64().into()),
            ("messages", report.latency.len().into()),
            ("p50_us", self.microseconds(0.5).into()),
            ("p99_us", self.microseconds(0.99).into()),
            ("round_seconds", report.round.as_secs_f64().into()),
            ("verified", self.is_verified().into()),
        ])
    }
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = self.report;
        let stacks = match self.service {
            Service::Dedicated => "on stacks of their own",
            Service::Shared => "on shared stacks with a buffer each",
            Service::Lean => "on shared stacks without buffers while idle",
        };
        let number = |n: usize| grouped(n as u64);
        writeln!(
            out,
            "connections  {}, open at the same time, {stacks}; {} server processes of one \
             worker, {} client processes",
            number(report.connections),
            report.servers,
            report.clients
        )?;
        writeln!(
            out,
            "opened       {} a second, each with a message there and back ({:.1} s)",
            grouped((report.measured as f64 / report.ramp.as_secs_f64()) as u64),
            report.ramp.as_secs_f64()
        )?;
        writeln!(out, "memory               bytes a connection          MiB")?;
        for (what, bytes) in [
            ("servers", report.server_bytes),
            ("clients", report.client_bytes),
            ("kernel, both ends", report.kernel_bytes),
            ("MemAvailable", report.available_bytes),
        ] {
            let each = self.each(bytes).map_or("-".into(), grouped);
            writeln!(out, "  {what:18} {each:>18} {:>12}", grouped(bytes >> 20))?;
        }
        let (used, elapsed) = report.idle;
        writeln!(
            out,
            "quiet        {:.4} % of a processor for all servers ({:.2} ms in {:.1} s)",
            self.idle_percent(),
            used.as_secs_f64() * 1e3,
            elapsed.as_secs_f64()
        )?;
        writeln!(
            out,
            "latency      p50 {:.1} µs, p99 {:.1} µs, one message at a time at random ({})",
            self.microseconds(0.5),
            self.microseconds(0.99),
            grouped(report.latency.len())
        )?;
        writeln!(
            out,
            "echo on all  {} in {:.1} s",
            number(report.echoed),
            report.round.as_secs_f64()
        )?;
        let verified = if self.is_verified() { "yes" } else { "NO" };
        write!(
            out,
            "errors       {}; every byte right on every connection, twice: {verified}",
            grouped(self.errors())
        )?;
        report
            .errors
            .iter()
            .try_for_each(|(why, count)| write!(out, "\n  {count:>9}  {why}"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use hdrhistogram::Histogram;

    use super::*;
    use crate::json::Value;

    const PLAN: Plan = Plan {
        connections: 1002,
        servers: 2,
        per_source: 14_000,
    };

    fn report() -> Report {
        let mut latency = Histogram::new(3).unwrap();
        (1..=1000).for_each(|us| latency.record(us * 1000).unwrap());
        Report {
            connections: 1002,
            measured: 1000,
            servers: 2,
            clients: 2,
            ramp: Duration::from_secs(4),
            server_bytes: 400_000,
            client_bytes: 8_000,
            kernel_bytes: 8_100_000,
            available_bytes: 9_000_000,
            idle: (Duration::from_millis(1), Duration::from_secs(5)),
            latency,
            round: Duration::from_secs(1),
            echoed: 1002,
            errors: BTreeMap::new(),
        }
    }

    fn summary(report: &Report) -> Summary<'_> {
        Summary {
            plan: &PLAN,
            report,
            asked: 2000,
            service: Service::Lean,
        }
    }

    #[test]
    fn json_holds_the_numbers() {
        let report = report();
        let json = summary(&report).json();
        for (key, expected) in [
            ("connections", 1002.0),
            ("connections_asked", 2000.0),
            ("errors", 0.0),
            ("server_processes", 2.0),
            ("client_processes", 2.0),
            ("ramp_per_second", 250.0),
            ("user_bytes_per_connection", 400.0),
            ("kernel_bytes_per_connection", 8100.0),
            ("messages", 1000.0),
        ] {
            assert_eq!(json[key], Value::Number(expected), "{key}");
        }
        // The histogram keeps three digits.
        for (key, expected, off) in [
            ("p50_us", 500.0, 1.0),
            ("p99_us", 990.0, 2.0),
            ("idle_cpu_percent", 0.02, 1e-9),
        ] {
            let Value::Number(value) = json[key] else {
                panic!("{key}")
            };
            assert!((value - expected).abs() <= off, "{key} {value}");
        }
        assert_eq!(json["verified"], Value::Bool(true));
    }

    #[test]
    fn one_that_did_not_echo_or_was_not_opened_is_not_verified() {
        let silent = Report {
            echoed: 1001,
            ..report()
        };
        let missing = Report {
            connections: 1001,
            ..report()
        };
        let wrong = Report {
            errors: BTreeMap::from([("latency: other bytes".into(), 1)]),
            ..report()
        };
        for report in [&silent, &missing, &wrong] {
            assert!(!summary(report).is_verified());
        }
        let text = summary(&wrong).to_string();
        assert!(
            text.ends_with("twice: NO\n          1  latency: other bytes"),
            "{text}"
        );
    }

    #[test]
    fn nothing_divides_by_zero() {
        let none = Report {
            measured: 0,
            ..report()
        };
        let json = summary(&none).json();
        assert_eq!(json["user_bytes_per_connection"], Value::Null);
        assert!(summary(&none).to_string().contains("servers "));
    }
}
