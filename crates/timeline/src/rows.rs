//! Rows: a worker each, with the slices of those that ran there, and arrows between them.

use std::collections::HashMap;
use std::time::Duration;

use crore::{Awaited, CoroutineId, Step, StepWhat, Timeline};

use crate::event::{Args, Event, Phase, micros};
use crate::names::Names;

type Result = std::result::Result<(), serde_json::Error>;

/// What is known at one step of the timeline.
pub(crate) struct Rows {
    names: Names,
    /// Who runs on each worker, and since when.
    running: Vec<Option<Running>>,
    /// Who was woken and has not run since: by whom, and the arrow that leads there.
    woken: HashMap<CoroutineId, (CoroutineId, u64)>,
    arrows: u64,
    lost: u64,
}

struct Running {
    id: CoroutineId,
    since: Duration,
    woken_by: Option<CoroutineId>,
}

impl Rows {
    pub(crate) fn of(timeline: &Timeline) -> Self {
        let workers = timeline.steps().iter().map(|step| step.worker + 1).max();
        Self {
            names: Names::of(timeline),
            running: (0..workers.unwrap_or(0)).map(|_| None).collect(),
            woken: HashMap::new(),
            arrows: 0,
            lost: timeline.lost(),
        }
    }

    /// The rows' names.
    pub(crate) fn head(&self, add: &mut impl FnMut(Event<'_>) -> Result) -> Result {
        let mut meta = Event::new(Phase::Meta, "process_name", Duration::ZERO, 0);
        meta.args.name = Some("crore".into());
        meta.args.lost_steps = (self.lost > 0).then_some(self.lost);
        add(meta)?;
        for worker in 0..self.running.len() {
            let mut meta = Event::new(Phase::Meta, "thread_name", Duration::ZERO, worker);
            meta.args.name = Some(format!("worker {worker}"));
            add(meta)?;
        }
        Ok(())
    }

    pub(crate) fn step(
        &mut self,
        step: &Step,
        add: &mut impl FnMut(Event<'_>) -> Result,
    ) -> Result {
        let (at, worker, id) = (step.at, step.worker, step.id);
        match &step.what {
            StepWhat::Spawned { place, by, .. } => {
                let mut event = Event::new(Phase::Instant, "spawn", at, worker);
                event.args.coroutine = Some(self.names.label(id));
                event.args.spawned_at = Some(place.to_string());
                event.args.spawned_by = by.map(|by| self.names.label(by));
                add(event)
            }
            StepWhat::Resumed => self.resumed(at, worker, id, add),
            StepWhat::Yielded => self.back(at, worker, id, "yielded".into(), add),
            StepWhat::Parked(wait) => self.back(at, worker, id, parked(*wait), add),
            StepWhat::Ended => self.back(at, worker, id, "ended".into(), add),
            StepWhat::Woken { by: Some(by) } => self.woken(at, worker, id, *by, add),
            _ => Ok(()),
        }
    }

    fn woken(
        &mut self,
        at: Duration,
        worker: usize,
        id: CoroutineId,
        by: CoroutineId,
        add: &mut impl FnMut(Event<'_>) -> Result,
    ) -> Result {
        if self.woken.contains_key(&id) {
            return Ok(());
        }
        self.arrows += 1;
        self.woken.insert(id, (by, self.arrows));
        let mut event = Event::new(Phase::ArrowFrom, "wake", at, worker);
        event.id = Some(self.arrows);
        add(event)
    }

    fn resumed(
        &mut self,
        at: Duration,
        worker: usize,
        id: CoroutineId,
        add: &mut impl FnMut(Event<'_>) -> Result,
    ) -> Result {
        let woken = self.woken.remove(&id);
        self.running[worker] = Some(Running {
            id,
            since: at,
            woken_by: woken.map(|(by, _)| by),
        });
        let Some((_, arrow)) = woken else {
            return Ok(());
        };
        let mut event = Event::new(Phase::ArrowTo, "wake", at, worker);
        (event.id, event.binding) = (Some(arrow), Some("e"));
        add(event)
    }

    /// The slice is over.
    fn back(
        &mut self,
        at: Duration,
        worker: usize,
        id: CoroutineId,
        then: String,
        add: &mut impl FnMut(Event<'_>) -> Result,
    ) -> Result {
        // One that ran when the recording began has run since then; one that has ended
        // without running has no slice.
        let running = self.running[worker].take().filter(|one| one.id == id);
        let Some(running) = running else {
            return Ok(());
        };
        add(self.slice(&running, at, worker, then))
    }

    /// Those that still run.
    pub(crate) fn end(&mut self, add: &mut impl FnMut(Event<'_>) -> Result) -> Result {
        for worker in 0..self.running.len() {
            if let Some(running) = self.running[worker].take() {
                add(self.slice(&running, running.since, worker, "still running".into()))?;
            }
        }
        Ok(())
    }

    fn slice(&self, running: &Running, at: Duration, worker: usize, then: String) -> Event<'_> {
        let name = self.names.get(running.id);
        let mut event = Event::new(Phase::Complete, name, running.since, worker);
        event.duration = Some(micros(at - running.since));
        event.args = Args {
            coroutine: Some(running.id.to_string()),
            then: Some(then),
            woken_by: running.woken_by.map(|by| self.names.label(by)),
            ..Args::default()
        };
        event
    }
}

fn parked(wait: Option<Awaited>) -> String {
    match wait {
        // Its own words say how far ahead that is now.
        Some(Awaited::Time(_)) => "parked for a time".into(),
        Some(wait) => format!("parked {wait}"),
        None => "parked".into(),
    }
}
