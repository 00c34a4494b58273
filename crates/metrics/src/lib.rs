#![doc = include_str!("../README.md")]

use crore::Handle;
use metrics::{Unit, describe_gauge, gauge};

/// Tells the recorder which numbers there are, and their units. Call it once, when the
/// recorder is installed.
pub fn describe(handle: &Handle) {
    for (name, _) in handle.metrics().named() {
        let unit = match name {
            name if name.ends_with("_micros") => Unit::Microseconds,
            name if name.contains("bytes") || name.ends_with("_reserved") => Unit::Bytes,
            _ => Unit::Count,
        };
        describe_gauge!(full_name(name), unit, words(name));
    }
}

/// Gives the recorder what each worker has counted up to now. Costs nothing at other times.
///
/// All are gauges, those that only grow, too: a runtime that is dropped, and another one,
/// begin at 0.
pub fn record(handle: &Handle) {
    for (worker, counted) in handle.worker_metrics().into_iter().enumerate() {
        let worker = worker.to_string();
        for (name, number) in counted.named() {
            // Numbers above 2⁵³ are rounded.
            gauge!(full_name(name), "worker" => worker.clone()).set(number as f64);
        }
    }
}

fn full_name(name: &str) -> String {
    format!("crore_{name}")
}

fn words(name: &str) -> String {
    format!("`crore::Metrics::{name}`")
}
