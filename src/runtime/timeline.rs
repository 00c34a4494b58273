//! `Recording` and `Timeline`: who ran when on which worker.

use std::panic::Location;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::runtime::handle::Handle;
use crate::runtime::info::Awaited;
use crate::runtime::join_handle::CoroutineId;
use crate::sched::{StepKind, TaskStep};

/// The steps of a runtime's coroutines are written down until [`finish`](Self::finish).
///
/// ```
/// let timeline = crore::run(|| {
///     let recording = crore::Handle::current().unwrap().record(100).unwrap();
///     crore::sleep(std::time::Duration::from_millis(1));
///     recording.finish()
/// })?;
/// assert_eq!(timeline.lost(), 0);
/// # std::io::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct Recording {
    handle: Handle,
    begun: Instant,
    is_open: bool,
}

/// What a runtime's workers did while it was recorded.
///
/// ```
/// let timeline = crore::run(|| {
///     let recording = crore::Handle::current().unwrap().record(100).unwrap();
///     crore::sleep(std::time::Duration::from_millis(1));
///     recording.finish()
/// })?;
/// timeline.steps().iter().for_each(|step| println!("{step:?}"));
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone, Debug)]
pub struct Timeline {
    steps: Vec<Step>,
    lost: u64,
}

/// One thing that happened to a coroutine.
///
/// ```
/// let timeline = crore::run(|| {
///     let recording = crore::Handle::current().unwrap().record(100).unwrap();
///     crore::sleep(std::time::Duration::from_millis(1));
///     recording.finish()
/// })?;
/// let first = &timeline.steps()[0];
/// println!("worker {}: {} after {:?}", first.worker, first.id, first.at);
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Step {
    /// Since the recording began.
    pub at: Duration,
    /// On which worker, by position.
    pub worker: usize,
    /// To whom.
    pub id: CoroutineId,
    /// What.
    pub what: StepWhat,
}

/// What happened to a coroutine (or to a task that is a future).
///
/// ```
/// let timeline = crore::run(|| {
///     let recording = crore::Handle::current().unwrap().record(100).unwrap();
///     crore::sleep(std::time::Duration::from_millis(1));
///     recording.finish()
/// })?;
/// let parked = |step: &crore::Step| matches!(step.what, crore::StepWhat::Parked(Some(_)));
/// assert!(timeline.steps().iter().any(parked));
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum StepWhat {
    /// It came to the worker, which is to run it.
    Spawned {
        /// Its name.
        name: Option<Arc<str>>,
        /// Where that was done.
        place: &'static Location<'static>,
        /// By the coroutine that ran there, if it stays where it was spawned.
        by: Option<CoroutineId>,
    },
    /// It runs from here on.
    Resumed,
    /// It has suspended, and waits for nothing but its turn.
    Yielded,
    /// It has suspended until it is woken; what it waits for, as far as that is known
    /// (see [`CoroutineInfo::awaits`](crate::CoroutineInfo::awaits)).
    Parked(Option<Awaited>),
    /// It is to go on: woken by the coroutine that runs here, or by what came from
    /// outside, an event, a time, another thread. One that is woken by a coroutine of another
    /// worker is so twice: there by that, and here by nobody.
    Woken {
        /// By whom.
        by: Option<CoroutineId>,
    },
    /// It has ended.
    Ended,
}

impl Handle {
    /// Records what the coroutines of the runtime do, until each worker has had `most` steps:
    /// who ran when, parked for what, woken by whom. `None` if it is recorded already.
    ///
    /// With the feature `trace`. While nobody records, a step costs a lock that nobody else
    /// has, some nanoseconds; while somebody does, a look at the clock, and some hundred bytes.
    ///
    /// ```
    /// use crore::StepWhat;
    ///
    /// let timeline = crore::run(|| {
    ///     let recording = crore::Handle::current().unwrap().record(1_000).unwrap();
    ///     crore::spawn(|| ()).join().unwrap();
    ///     recording.finish()
    /// })?;
    /// let is_end = |step: &&crore::Step| matches!(step.what, StepWhat::Ended);
    /// assert_eq!(timeline.steps().iter().filter(is_end).count(), 1);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn record(&self, most: usize) -> Option<Recording> {
        let begun = Instant::now();
        let handles = self.workers().handles();
        for (opened, handle) in handles.iter().enumerate() {
            if !handle.open_steps(most) {
                // Not those of whoever records.
                handles[..opened]
                    .iter()
                    .for_each(|one| drop(one.close_steps()));
                return None;
            }
        }
        Some(Recording {
            handle: self.clone(),
            begun,
            is_open: true,
        })
    }
}

impl Recording {
    /// Ends it; what there was.
    pub fn finish(mut self) -> Timeline {
        let begun = self.begun;
        self.is_open = false;
        let (mut steps, mut lost) = (Vec::new(), 0);
        for (worker, handle) in self.handle.workers().handles().iter().enumerate() {
            let (added, missing) = handle.close_steps();
            lost += missing;
            steps.extend(added.into_iter().map(|step| Step::of(step, worker, begun)));
        }
        steps.sort_by_key(|step| step.at);
        Timeline { steps, lost }
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        if self.is_open {
            let handles = self.handle.workers().handles();
            handles.iter().for_each(|one| drop(one.close_steps()));
        }
    }
}

impl Timeline {
    /// All steps, the earliest first.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// How many more there were.
    pub fn lost(&self) -> u64 {
        self.lost
    }
}

impl Step {
    fn of(step: TaskStep, worker: usize, begun: Instant) -> Self {
        let what = match step.kind {
            StepKind::Spawned { name, location, by } => StepWhat::Spawned {
                name,
                place: location,
                by: by.map(CoroutineId::of),
            },
            StepKind::Resumed => StepWhat::Resumed,
            StepKind::Yielded => StepWhat::Yielded,
            StepKind::Parked(target, blocker) => {
                let target = target.map(Awaited::of);
                let blocker = blocker.map(|blocker| Awaited::of_blocker(blocker, None));
                StepWhat::Parked(target.or(blocker))
            }
            StepKind::Woken { by } => StepWhat::Woken {
                by: by.map(CoroutineId::of),
            },
            StepKind::Ended => StepWhat::Ended,
        };
        Self {
            at: step.at.saturating_duration_since(begun),
            worker,
            id: CoroutineId::of(step.task),
            what,
        }
    }
}
