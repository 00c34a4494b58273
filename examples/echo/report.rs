//! The result, for people and for programs.

use std::fmt;

use crate::digits::grouped;
use crate::drive::{Config, Report};
use crate::json::Object;

/// A report and what was asked for.
pub(crate) struct Summary<'a> {
    pub(crate) config: &'a Config,
    pub(crate) report: &'a Report,
    /// Connections before the limit on open files clamped them.
    pub(crate) asked: usize,
    /// Threads of the whole machine that wanted to run in the last minute, where it is
    /// known, and processors: of a busy machine no figure a second says much.
    pub(crate) load_average: Option<f64>,
    pub(crate) processors: usize,
}

/// How many threads of the machine ran or wanted to, on average over a minute.
pub(crate) fn load_average() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    text.split(' ').next()?.parse().ok()
}

impl Summary<'_> {
    /// How many things went wrong.
    pub(crate) fn errors(&self) -> u64 {
        self.report.errors.values().sum()
    }

    fn requests_per_second(&self) -> f64 {
        self.report.requests as f64 / self.report.elapsed.as_secs_f64()
    }

    /// What the server does in a second in which it has a processor to itself.
    fn requests_per_cpu_second(&self) -> Option<f64> {
        let cpu = self.report.server?.cpu.as_secs_f64();
        (cpu > 0.0).then(|| self.report.requests as f64 / cpu)
    }

    fn microseconds(&self, quantile: f64) -> f64 {
        (self.report.latency.value_at_quantile(quantile) / 100) as f64 / 10.0
    }

    /// `bytes` beyond those before the first connection, for each connection.
    fn per_connection(&self, bytes: u64) -> Option<u64> {
        let more = bytes.saturating_sub(self.report.server?.before);
        more.checked_div(self.report.connections as u64)
    }

    /// The object that `--json` prints. What is unknown is null.
    pub(crate) fn json(&self) -> Object<22> {
        let Report {
            server, latency, ..
        } = self.report;
        Object([
            ("connections", self.report.connections.into()),
            ("connections_asked", self.asked.into()),
            ("size", self.config.size.into()),
            ("seconds", self.report.elapsed.as_secs_f64().into()),
            ("requests", self.report.requests.into()),
            (
                "requests_per_second",
                self.requests_per_second().round().into(),
            ),
            ("p50_us", self.microseconds(0.5).into()),
            ("p99_us", self.microseconds(0.99).into()),
            ("p999_us", self.microseconds(0.999).into()),
            ("max_us", (latency.max() as f64 / 1e3).into()),
            ("errors", self.errors().into()),
            ("errors_by_kind", (&self.report.errors).into()),
            ("server_rss_bytes", server.map(|s| s.loaded).into()),
            ("server_rss_bytes_before", server.map(|s| s.before).into()),
            ("server_rss_bytes_idle", server.map(|s| s.idle).into()),
            (
                "idle_bytes_per_connection",
                server.and_then(|s| self.per_connection(s.idle)).into(),
            ),
            (
                "loaded_bytes_per_connection",
                server.and_then(|s| self.per_connection(s.loaded)).into(),
            ),
            (
                "server_cpu_seconds",
                server.map(|s| s.cpu.as_secs_f64()).into(),
            ),
            (
                "driver_cpu_seconds",
                self.report.driver_cpu.as_secs_f64().into(),
            ),
            (
                "requests_per_cpu_second",
                self.requests_per_cpu_second().map(f64::round).into(),
            ),
            ("load_average", self.load_average.into()),
            ("processors", self.processors.into()),
        ])
    }

    fn server(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(server) = self.report.server else {
            return writeln!(
                out,
                "server       memory unknown; --server-pid tells its process"
            );
        };
        let each = |bytes| self.per_connection(bytes).map_or("-".into(), grouped);
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        writeln!(
            out,
            "idle         {} resident bytes a connection ({:.1} MiB before, {:.1} MiB with all)",
            each(server.idle),
            mib(server.before),
            mib(server.idle)
        )?;
        writeln!(
            out,
            "loaded       {} resident bytes a connection ({:.1} MiB in all)",
            each(server.loaded),
            mib(server.loaded)
        )?;
        let cpu = server.cpu.as_secs_f64();
        let request = cpu * 1e6 / (self.report.requests.max(1) as f64);
        let busy = 100.0 * cpu / self.report.elapsed.as_secs_f64();
        let second = self.requests_per_cpu_second();
        let second = second.map_or("-".into(), |count| grouped(count as u64));
        writeln!(
            out,
            "server CPU   {cpu:.2} s, {busy:.0} % of the time, {request:.2} µs a request: {second} \
             requests a CPU second"
        )
    }
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report {
            connections,
            requests,
            elapsed,
            ..
        } = self.report;
        let (connections, size) = (grouped(*connections as u64), self.config.size);
        writeln!(
            out,
            "connections  {connections}, messages of {size} bytes, every byte checked"
        )?;
        self.server(out)?;
        writeln!(
            out,
            "requests     {} a second ({} in {:.2} s)",
            grouped(self.requests_per_second() as u64),
            grouped(*requests),
            elapsed.as_secs_f64()
        )?;
        let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|q| self.microseconds(q));
        writeln!(
            out,
            "latency      p50 {p50:.1} µs, p99 {p99:.1} µs, p99.9 {p999:.1} µs"
        )?;
        if let Some(load) = self.load_average {
            let processors = self.processors;
            writeln!(
                out,
                "machine      load average {load:.2} on {processors} processors"
            )?;
        }
        write!(out, "errors       {}", grouped(self.errors()))?;
        self.report
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
    use crate::drive::ServerUse;
    use crate::json::Value;

    fn config() -> Config {
        let server = "127.0.0.1:7".parse().unwrap();
        Config {
            server,
            connections: 100,
            load: Duration::from_secs(2),
            size: 64,
            server_pid: Some(1),
            spins: false,
        }
    }

    fn report() -> Report {
        let mut latency = Histogram::new(3).unwrap();
        (1..=1000).for_each(|us| latency.record(us * 1000).unwrap());
        Report {
            connections: 100,
            requests: 50_000,
            elapsed: Duration::from_secs(2),
            latency,
            errors: BTreeMap::from([("under load: a".into(), 2), ("under load: b".into(), 3)]),
            server: Some(ServerUse {
                before: 1000,
                idle: 801_000,
                loaded: 901_000,
                cpu: Duration::from_secs(1),
            }),
            driver_cpu: Duration::from_secs(2),
        }
    }

    #[test]
    fn json_holds_the_numbers() {
        let (config, report) = (config(), report());
        let json = Summary {
            config: &config,
            report: &report,
            asked: 200,
            load_average: Some(2.5),
            processors: 4,
        }
        .json();
        for (key, expected) in [
            ("connections", 100.0),
            ("connections_asked", 200.0),
            ("requests", 50_000.0),
            ("requests_per_second", 25_000.0),
            ("errors", 5.0),
            ("server_rss_bytes", 901_000.0),
            ("idle_bytes_per_connection", 8_000.0),
            ("requests_per_cpu_second", 50_000.0),
            ("load_average", 2.5),
            ("processors", 4.0),
            ("loaded_bytes_per_connection", 9_000.0),
            ("server_cpu_seconds", 1.0),
        ] {
            assert_eq!(json[key], Value::Number(expected), "{key}");
        }
        // The histogram keeps three digits.
        for (key, expected) in [("p50_us", 500.0), ("p99_us", 990.0), ("p999_us", 999.0)] {
            let Value::Number(value) = json[key] else {
                panic!("{key}")
            };
            assert!(
                (value - expected).abs() <= expected / 500.0,
                "{key} {value}"
            );
        }
    }

    #[test]
    fn nothing_known_is_null_and_nothing_divides_by_zero() {
        let (config, mut report) = (config(), report());
        report.connections = 0;
        let json = Summary {
            config: &config,
            report: &report,
            asked: 1,
            load_average: None,
            processors: 4,
        }
        .json();
        assert_eq!(json["idle_bytes_per_connection"], Value::Null);
        report.server = None;
        let summary = Summary {
            config: &config,
            report: &report,
            asked: 1,
            load_average: None,
            processors: 4,
        };
        for key in [
            "server_rss_bytes",
            "requests_per_cpu_second",
            "load_average",
        ] {
            assert_eq!(summary.json()[key], Value::Null, "{key}");
        }
        assert!(!summary.to_string().contains("load average"));
        assert!(summary.to_string().contains("memory unknown"));
    }

    #[test]
    fn the_load_average_is_read() {
        assert!(load_average().is_some_and(|load| load >= 0.0));
    }

    #[test]
    fn people_see_every_error() {
        let (config, report) = (config(), report());
        let text = Summary {
            config: &config,
            report: &report,
            asked: 100,
            load_average: Some(2.5),
            processors: 4,
        }
        .to_string();
        assert!(
            text.ends_with(
                "errors       5\n          2  under load: a\n          3  under load: b"
            ),
            "{text}"
        );
        assert!(text.contains("8 000 resident bytes a connection"), "{text}");
        assert!(
            text.contains("25 000 a second (50 000 in 2.00 s)"),
            "{text}"
        );
        for part in [
            "50 % of the time, 20.00 µs a request: 50 000 requests a CPU second",
            "load average 2.50 on 4 processors",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }
}
