//! `Contention`: where coroutines wait for locks, how often and for how long.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::runtime::handle::Handle;
use crate::runtime::profile::folded;
use crate::sched::measure_lock_waits;
use crate::sys::symbols;

/// Functions in which a thread waits for others, by what they are called, and for no lock.
const NO_LOCK: [&str; 6] = [
    "condvar",
    "thread_parking",
    "pthread_cond_",
    "pthread_barrier_",
    "pthread_join",
    "wait_for_end",
];

/// In the names of the functions that keep a sample.
const MEASURES: &str = "crore::sched::contention::";

/// What the place of a wait is not in.
const BELOW: [&str; 7] = [
    "crore::", "std::", "core::", "alloc::", "pthread_", "sem_", "syscall",
];

/// Where a runtime's coroutines have waited for locks: what [`Handle::contention`] returns.
///
/// Printed, it is folded stacks with microseconds, as a [`Profile`](crate::Profile) is.
///
/// ```
/// # let runtime = crore::Runtime::builder().build()?;
/// let contention = runtime.handle().contention(std::time::Duration::from_millis(10));
/// for (place, one) in contention.places() {
///     println!("{place}: {} waits, {:?} in all", one.waits, one.time);
/// }
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Contention {
    /// By stack, with its place.
    stacks: BTreeMap<String, (String, Contended)>,
}

/// How much was waited at one place, as far as samples tell.
///
/// ```
/// let none = crore::Contended::default();
/// assert_eq!((none.waits, none.time), (0, std::time::Duration::ZERO));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Contended {
    /// How many waits.
    pub waits: u64,
    /// How long they were together.
    pub time: Duration,
}

impl Contended {
    fn add(&mut self, waits: u64, time: Duration) {
        self.waits += waits;
        self.time += time;
    }
}

impl Contention {
    /// The functions of the program that have waited, and how much, the longest first: the
    /// innermost that is neither this crate's nor the standard library's.
    pub fn places(&self) -> Vec<(&str, Contended)> {
        let mut places = BTreeMap::<&str, Contended>::new();
        for (place, one) in self.stacks.values() {
            places.entry(place).or_default().add(one.waits, one.time);
        }
        let mut places: Vec<_> = places.into_iter().collect();
        places.sort_by_key(|(_, one)| std::cmp::Reverse(one.time));
        places
    }
}

impl fmt::Display for Contention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stacks
            .iter()
            .try_for_each(|(stack, (_, one))| writeln!(f, "{stack} {}", one.time.as_micros()))
    }
}

impl Handle {
    /// Looks for so long at which waits for locks the coroutines have: of
    /// [`crore::sync`](crate::sync)'s `Mutex` and `RwLock`, and, with the feature `futex`, of
    /// std's and C's. A wait of less than a millisecond is looked at one time in 16, and counts
    /// for 16. Waits that have not ended by then are not counted, nor those of plain threads;
    /// of a coroutine on a second stack it is not known where they are.
    ///
    /// The calling thread waits meanwhile, so call it on one that is no worker, or by
    /// [`spawn_blocking`](crate::spawn_blocking). While nobody measures, a wait for a lock
    /// looks at one word more. It is measured for one caller at a time.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use std::time::Duration;
    ///
    /// let contention = crore::run(|| {
    ///     let handle = crore::Handle::current().unwrap();
    ///     let looks = crore::spawn_blocking(move || handle.contention(Duration::from_millis(50)));
    ///     let lock = Arc::new(crore::sync::Mutex::new(()));
    ///     let hold = |lock: Arc<crore::sync::Mutex<()>>| {
    ///         move || (0..10).for_each(|_| {
    ///             let _guard = lock.lock().unwrap();
    ///             crore::sleep(Duration::from_millis(1));
    ///         })
    ///     };
    ///     let both = [crore::spawn(hold(lock.clone())), crore::spawn(hold(lock))];
    ///     both.into_iter().for_each(|one| one.join().unwrap());
    ///     looks.join().unwrap()
    /// })?;
    /// std::fs::write("/dev/null", contention.to_string())?; // for `inferno-flamegraph`
    /// # std::io::Result::Ok(())
    /// ```
    pub fn contention(&self, time: Duration) -> Contention {
        static ONE: Mutex<()> = Mutex::new(());
        let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let workers = self.workers().handles().iter().map(|one| one.index());
        let measured = measure_lock_waits(workers.collect(), || thread::sleep(time));
        let mut names = HashMap::new();
        let mut stacks = BTreeMap::<String, (String, Contended)>::new();
        for (calls, waits) in measured {
            let stack = folded("", &calls, &mut names);
            let calls = stack.split(';').skip(1);
            // Further in is what measures.
            let calls: Vec<_> = calls.take_while(|call| !call.contains(MEASURES)).collect();
            if calls.iter().any(|call| is_no_lock(call)) {
                continue;
            }
            let is_below = |call: &str| {
                let call = call.trim_start_matches(['<', '&']);
                BELOW.iter().any(|start| call.starts_with(start))
            };
            let place = calls.iter().rev().find(|call| !is_below(call));
            let place = place.map_or("(unknown)", |call| call).to_owned();
            let stack = calls.join(";");
            let entry = stacks.entry(if stack.is_empty() {
                place.clone()
            } else {
                stack
            });
            let (_, sum) = entry.or_insert((place, Contended::default()));
            sum.add(waits.count, waits.time);
        }
        symbols::forget();
        Contention { stacks }
    }
}

fn is_no_lock(call: &str) -> bool {
    NO_LOCK.iter().any(|name| call.contains(name))
}
