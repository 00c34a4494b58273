//! Samplers: who uses a worker's processor time, looked at over and over.

use std::time::Duration;

use super::sight;
use super::worker_handle::WorkerHandle;

/// Less than that is what a look itself costs.
const LEAST: Duration = Duration::from_micros(100);

/// Looks at one worker.
pub(crate) struct Sampler<'a> {
    handle: &'a WorkerHandle,
    /// The thread's processor time after the last look.
    before: Option<Duration>,
}

/// What one look finds.
pub(crate) struct Sample {
    /// The coroutine's name, or where it was spawned.
    pub(crate) who: String,
    /// The innermost first.
    pub(crate) calls: Vec<usize>,
    /// Processor time since the look before.
    pub(crate) used: Duration,
}

impl<'a> Sampler<'a> {
    pub(crate) fn new(handle: &'a WorkerHandle) -> Self {
        let mut this = Self {
            handle,
            before: None,
        };
        this.before = this.used();
        this
    }

    fn used(&self) -> Option<Duration> {
        self.handle.watch.thread()?.cpu_time().ok()
    }

    /// Nothing if the thread has done nothing since the last look, or can't be asked.
    pub(crate) fn sample(&mut self) -> Option<Sample> {
        let now = self.used()?;
        let before = *self.before.get_or_insert(now);
        let used = now.saturating_sub(before);
        if used < LEAST {
            return None;
        }
        let seen = sight::who_runs(self.handle);
        self.before = self.used();
        let seen = seen?;
        Some(Sample {
            who: name(&seen.text()),
            calls: seen.frames().into(),
            used,
        })
    }
}

/// The name in a [label](super::label), or the place where it was spawned.
fn name(label: &str) -> String {
    let name = label.strip_prefix("coroutine '");
    let name = name.and_then(|rest| Some(rest.split_once("' (id ")?.0));
    let place = || Some(label.rsplit_once(", spawned at ")?.1);
    name.or_else(place).unwrap_or("(worker)").into()
}

#[cfg(test)]
mod tests {
    use super::name;

    #[test]
    fn a_label_has_a_name_or_a_place() {
        let named = "coroutine 'a' (id 1:2:0), spawned at src/x.rs:1:2";
        assert_eq!(name(named), "a");
        assert_eq!(
            name("coroutine (id 1:2:0), spawned at src/x.rs:1:2"),
            "src/x.rs:1:2"
        );
        assert_eq!(name(""), "(worker)");
    }
}
