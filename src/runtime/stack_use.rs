//! `StackUse`: how much of their stacks coroutines have used, and what that advises.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::Location;

use crate::runtime::handle::Handle;
use crate::sched::SpawnPlace;

/// Less is no stack.
const LEAST: usize = 32 << 10;

/// What coroutines have used of their stacks that were spawned at one place, with stacks of
/// one size, and have ended: [`Handle::stack_use`].
///
/// ```
/// let runtime = crore::Runtime::builder().measure_stacks(true).build()?;
/// runtime.run(|| (0..9).for_each(|_| crore::spawn(|| ()).join().unwrap()))?;
/// let places: Vec<crore::StackUse> = runtime.handle().stack_use();
/// assert_eq!((places[0].coroutines(), places[1].coroutines()), (9, 1));
/// assert!(places[0].quantile(990) <= places[0].stack_size() / 2);
/// assert_eq!(places[0].advice(), Some(32 << 10));
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone, Debug)]
pub struct StackUse {
    spawned_at: &'static Location<'static>,
    stack_size: usize,
    kilobytes: BTreeMap<usize, u64>,
}

impl StackUse {
    /// Where they were spawned.
    pub fn spawned_at(&self) -> &'static Location<'static> {
        self.spawned_at
    }

    /// Bytes of each stack.
    pub fn stack_size(&self) -> usize {
        self.stack_size
    }

    /// How many have ended.
    pub fn coroutines(&self) -> u64 {
        self.kilobytes.values().sum()
    }

    /// Bytes that so many of a thousand have not used more than, in whole KiB: 990 is the
    /// 99th percentile, 1 000 the most.
    pub fn quantile(&self, permille: u64) -> usize {
        let wanted = (self.coroutines() * permille.min(1000))
            .div_ceil(1000)
            .max(1);
        let mut seen = 0;
        let mut all = self.kilobytes.iter().filter(|(_, count)| {
            seen += **count;
            seen >= wanted
        });
        all.next().map_or(0, |(kilobytes, _)| kilobytes << 10)
    }

    /// The size that has room for twice what was used, if that is another than it is.
    pub fn advice(&self) -> Option<usize> {
        let room = (2 * self.quantile(1000)).next_power_of_two().max(LEAST);
        let is_full = self.quantile(1000) > self.stack_size / 4 * 3;
        (room < self.stack_size || is_full).then_some(room)
    }

    fn of(place: &SpawnPlace) -> Self {
        Self {
            spawned_at: place.location,
            stack_size: place.stack_size,
            kilobytes: place.kilobytes.clone(),
        }
    }
}

/// In a line, with the advice.
impl fmt::Display for StackUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} coroutines, p50 {} KiB, p99 {} KiB, most {} KiB of {}",
            self.spawned_at,
            self.coroutines(),
            self.quantile(500) >> 10,
            self.quantile(990) >> 10,
            self.quantile(1000) >> 10,
            self.stack_size >> 10,
        )?;
        match self.advice() {
            Some(less) if less < self.stack_size => write!(f, "; {} KiB would do", less >> 10),
            Some(more) => write!(f, "; little is left: {} KiB are advised", more >> 10),
            None => Ok(()),
        }
    }
}

impl Handle {
    /// How much of their own stacks coroutines have used that have ended, by where they
    /// were spawned, those of which there were most first. Empty unless it is
    /// [measured](crate::RuntimeBuilder::measure_stacks).
    ///
    /// It is what they have written to, down to the lowest byte that is not zero.
    pub fn stack_use(&self) -> Vec<StackUse> {
        let mut all: Vec<StackUse> = Vec::new();
        for handle in self.workers().handles() {
            let uses = handle.stack_uses.lock();
            for place in uses.places() {
                let known = all.iter_mut().find(|one| {
                    one.spawned_at == place.location && one.stack_size == place.stack_size
                });
                match known {
                    Some(one) => place.kilobytes.iter().for_each(|(&used, count)| {
                        *one.kilobytes.entry(used).or_default() += count
                    }),
                    None => all.push(StackUse::of(place)),
                }
            }
        }
        all.sort_by_key(|one| std::cmp::Reverse(one.coroutines()));
        all
    }
}
