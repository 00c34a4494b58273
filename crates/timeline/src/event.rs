//! Chrome's trace events, as far as a timeline has them: "Trace Event Format".

use std::time::Duration;

use serde::Serialize;

/// One object of the array.
#[derive(Serialize)]
pub(crate) struct Event<'a> {
    pub(crate) name: &'a str,
    #[serde(rename = "cat")]
    pub(crate) category: &'static str,
    #[serde(rename = "ph")]
    pub(crate) phase: Phase,
    /// Microseconds.
    pub(crate) ts: f64,
    #[serde(rename = "dur", skip_serializing_if = "Option::is_none")]
    pub(crate) duration: Option<f64>,
    pub(crate) pid: u32,
    /// The worker.
    pub(crate) tid: usize,
    /// Which arrow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<u64>,
    /// Where an arrow ends: at the slice that is there.
    #[serde(rename = "bp", skip_serializing_if = "Option::is_none")]
    pub(crate) binding: Option<&'static str>,
    #[serde(skip_serializing_if = "Args::is_empty")]
    pub(crate) args: Args,
}

#[derive(Clone, Copy, Serialize)]
pub(crate) enum Phase {
    /// A slice, with its duration.
    #[serde(rename = "X")]
    Complete,
    #[serde(rename = "i")]
    Instant,
    /// An arrow begins, and ends.
    #[serde(rename = "s")]
    ArrowFrom,
    #[serde(rename = "f")]
    ArrowTo,
    /// The name of a row.
    #[serde(rename = "M")]
    Meta,
}

/// What is shown of an event that is chosen.
#[derive(Default, Serialize)]
pub(crate) struct Args {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) coroutine: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) spawned_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) spawned_by: Option<String>,
    /// How a slice ends: "parked to read fd 7", "yielded", "ended".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) then: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) woken_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) lost_steps: Option<u64>,
}

impl Args {
    fn is_empty(&self) -> bool {
        let Self {
            name,
            coroutine,
            spawned_at,
            spawned_by,
            then,
            woken_by,
            lost_steps,
        } = self;
        let texts = [name, coroutine, spawned_at, spawned_by, then, woken_by];
        texts.iter().all(|text| text.is_none()) && lost_steps.is_none()
    }
}

impl<'a> Event<'a> {
    pub(crate) fn new(phase: Phase, name: &'a str, at: Duration, worker: usize) -> Self {
        Self {
            name,
            category: "crore",
            phase,
            ts: micros(at),
            duration: None,
            pid: 1,
            tid: worker,
            id: None,
            binding: None,
            args: Args::default(),
        }
    }
}

pub(crate) fn micros(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1e3
}
