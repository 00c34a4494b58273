//! A summary: what a program's coroutines do, by number, for displays that are renewed
//! every second.
//!
//! As text it has a line for each row, its parts with tabs between them.

use std::collections::HashMap;
use std::fmt;
use std::panic::Location;

use crore::{Awaited, CoroutineInfo, CoroutineState, Handle};

/// Places that are told of, at most.
const PLACES: usize = 200;

/// What the coroutines of a program do at one moment, by number. Written as text and
/// [read](Summary::parse) again, it is what it was.
///
/// ```
/// use crore_inspect::Summary;
///
/// let summary = crore::run(|| {
///     let waiting: Vec<_> = (0..10).map(|_| crore::spawn(crore::park)).collect();
///     crore::yield_now();
///     let summary = Summary::of(&crore::Handle::current().unwrap());
///     waiting.iter().for_each(|one| one.coroutine().unpark());
///     summary
/// })?;
/// assert_eq!(summary.places[0].count, 10);
/// assert_eq!(Summary::parse(&summary.to_string()), Some(summary));
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Of each worker what it [counts](crore::Metrics::named).
    pub workers: Vec<Vec<(String, u64)>>,
    /// What coroutines do or wait for, in words, and how many do; the most frequent first.
    pub doing: Vec<(String, u64)>,
    /// Where coroutines were spawned, those of most first; of hundreds the first ones.
    pub places: Vec<Place>,
}

/// Coroutines that were spawned at one place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// File, line and column.
    pub spawned_at: String,
    /// How many there are.
    pub count: u64,
    /// How many of them wait for something.
    pub parked: u64,
    /// How many of them are on shared stacks.
    pub shared: u64,
    /// Bytes that the frames of the parked ones [take](CoroutineInfo::frame_bytes).
    pub frame_bytes: u64,
}

impl Summary {
    /// What those of a runtime do. It asks as [`Handle::dump`] does.
    pub fn of(handle: &Handle) -> Self {
        let workers = handle.worker_metrics();
        let named = |one: &crore::Metrics| one.named().map(|(name, n)| (name.to_owned(), n));
        let mut doing = HashMap::<_, u64>::new();
        let mut places = HashMap::<&'static Location<'static>, Place>::new();
        for one in &handle.dump() {
            *doing.entry(does(one)).or_default() += 1;
            let place = places.entry(one.spawned_at()).or_default();
            place.count += 1;
            place.parked += u64::from(one.state() == CoroutineState::Parked);
            place.shared += u64::from(one.is_shared());
            place.frame_bytes += one.frame_bytes() as u64;
        }
        let doing = doing
            .into_iter()
            .map(|(what, count)| (what.to_owned(), count));
        let places = places.into_iter().map(|(spawned_at, place)| Place {
            spawned_at: spawned_at.to_string(),
            ..place
        });
        let (mut doing, mut places) = (doing.collect::<Vec<_>>(), places.collect::<Vec<_>>());
        doing.sort_by(|a, b| (b.1, &a.0).cmp(&(a.1, &b.0)));
        places.sort_by(|a, b| (b.count, &a.spawned_at).cmp(&(a.count, &b.spawned_at)));
        places.truncate(PLACES);
        Self {
            workers: workers.iter().map(|one| named(one).collect()).collect(),
            doing,
            places,
        }
    }

    /// What was [written](fmt::Display); `None` of other text.
    pub fn parse(text: &str) -> Option<Self> {
        let mut this = Self::default();
        for line in text.lines() {
            let mut parts = line.split('\t');
            match parts.next()? {
                "worker" => {
                    let numbers = parts.map(|part| {
                        let (name, number) = part.split_once('=')?;
                        Some((name.to_owned(), number.parse().ok()?))
                    });
                    this.workers.push(numbers.collect::<Option<_>>()?);
                }
                "doing" => {
                    let count = parts.next()?.parse().ok()?;
                    this.doing.push((parts.next()?.to_owned(), count));
                }
                "place" => {
                    let mut number = || parts.next()?.parse().ok();
                    let (count, parked, shared) = (number()?, number()?, number()?);
                    let frame_bytes = number()?;
                    this.places.push(Place {
                        spawned_at: parts.next()?.to_owned(),
                        count,
                        parked,
                        shared,
                        frame_bytes,
                    });
                }
                _ => return None,
            }
        }
        (!this.workers.is_empty()).then_some(this)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for worker in &self.workers {
            f.write_str("worker")?;
            for (name, number) in worker {
                write!(f, "\t{name}={number}")?;
            }
            writeln!(f)?;
        }
        for (what, count) in &self.doing {
            writeln!(f, "doing\t{count}\t{what}")?;
        }
        for place in &self.places {
            let Place {
                count,
                parked,
                shared,
                frame_bytes,
                ..
            } = place;
            // A path may have any character.
            let spawned_at = place.spawned_at.replace(['\t', '\n', '\r'], " ");
            writeln!(
                f,
                "place\t{count}\t{parked}\t{shared}\t{frame_bytes}\t{spawned_at}"
            )?;
        }
        Ok(())
    }
}

/// In a few words. Of one that waits for several things, what it waits for besides a time.
fn does(one: &CoroutineInfo) -> &'static str {
    match one.state() {
        CoroutineState::Running => return "running",
        CoroutineState::Runnable => return "runnable",
        CoroutineState::New => return "not started",
        CoroutineState::Parked => {}
        _ => return "other",
    }
    let mut what = "waits for another: park, select, lock of std";
    for awaited in one.awaits() {
        match awaited {
            Awaited::Readable(_) => return "waits to read",
            Awaited::Writable(_) => return "waits to write",
            Awaited::Exception(_) => return "waits for urgent data or an end",
            Awaited::Time(_) => what = "waits for a time",
            Awaited::Lock(_) => what = "waits for a lock",
            Awaited::End(_) => what = "waits for another to end",
            Awaited::Receive { .. } => what = "waits to receive",
            Awaited::Send { .. } => what = "waits to send",
            Awaited::Permits { .. } => what = "waits for permits",
            Awaited::Notification => what = "waits to be notified",
            _ => {}
        }
    }
    what
}
