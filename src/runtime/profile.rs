//! `Profile`: where coroutines spend processor time, by their names.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use crate::runtime::handle::Handle;
use crate::sched::Sampler;
use crate::sys::symbols;

/// The time between two looks: in no step with what is done each millisecond.
const EVERY: Duration = Duration::from_micros(9_973);

/// Where a runtime has spent processor time: what [`Handle::profile`] returns.
///
/// Printed, it is folded stacks, from which `inferno-flamegraph`, `flamegraph.pl` and
/// speedscope make a flame graph: a line for each stack, the coroutine's name first (where
/// it was spawned, if it has none), the innermost function last, and microseconds.
///
/// ```text
/// parser;app::parse;app::tokens 180212
/// src/main.rs:12:9;app::answer;serde_json::to_string 20418
/// (worker);crore::sched::worker::Worker::run 1044
/// ```
#[derive(Clone, Debug, Default)]
pub struct Profile {
    /// By stack.
    micros: BTreeMap<String, u64>,
    looks: u64,
}

impl Profile {
    /// How often a worker was looked at that had worked.
    pub fn looks(&self) -> u64 {
        self.looks
    }

    /// The stacks, each as it is printed, and microseconds.
    pub fn stacks(&self) -> impl Iterator<Item = (&str, u64)> {
        self.micros
            .iter()
            .map(|(stack, &micros)| (stack.as_str(), micros))
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stacks()
            .try_for_each(|(stack, micros)| writeln!(f, "{stack} {micros}"))
    }
}

impl Handle {
    /// Looks for so long, a hundred times a second, at what each worker does, and says
    /// where its processor time went: to whom it has run, as far as one look for all that
    /// a worker has used since the one before can tell.
    ///
    /// For that a worker's thread gets a signal (`SIGURG`) if it has used any; where the
    /// program has a handler for it of its own, the profile is empty. Stacks are cut off
    /// 64 calls out. The calling thread waits, so call it on one that is no worker, or by
    /// [`spawn_blocking`](crate::spawn_blocking).
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    ///
    /// let profile = crore::run(|| {
    ///     let handle = crore::Handle::current().unwrap();
    ///     let looks = crore::spawn_blocking(move || handle.profile(Duration::from_millis(100)));
    ///     let busy = crore::Builder::new().name("busy".into()).spawn(|| {
    ///         let begun = Instant::now();
    ///         while begun.elapsed() < Duration::from_millis(100) {}
    ///     });
    ///     busy.unwrap().join().unwrap();
    ///     looks.join().unwrap()
    /// })?;
    /// std::fs::write("/dev/null", profile.to_string())?; // for `inferno-flamegraph`
    /// # std::io::Result::Ok(())
    /// ```
    pub fn profile(&self, time: Duration) -> Profile {
        let begun = Instant::now();
        let handles = self.workers().handles();
        let mut samplers: Vec<_> = handles.iter().map(|one| Sampler::new(one)).collect();
        let (mut seen, mut looks) = (HashMap::<_, Duration>::new(), 0);
        while begun.elapsed() < time {
            thread::sleep(EVERY.min(time));
            for sample in samplers.iter_mut().filter_map(Sampler::sample) {
                *seen.entry((sample.who, sample.calls)).or_default() += sample.used;
                looks += 1;
            }
        }
        let mut names = HashMap::new();
        let mut micros = BTreeMap::new();
        for ((who, calls), used) in seen {
            let stack = folded(&who, &calls, &mut names);
            *micros.entry(stack).or_default() += used.as_micros() as u64;
        }
        symbols::forget();
        Profile { micros, looks }
    }
}

/// A line without its number. `calls`: the innermost first.
pub(super) fn folded(
    who: &str,
    calls: &[usize],
    names: &mut HashMap<usize, Vec<String>>,
) -> String {
    let mut line = vec![without_separators(who)];
    for &call in calls.iter().rev() {
        let found = names.entry(call).or_insert_with(|| symbols::names(call));
        line.extend(found.iter().rev().map(|name| without_separators(name)));
        // Further out are the switch and its `catch_unwind`, the same for all.
        if found
            .iter()
            .any(|name| name == "crore::switch::carrier::call")
        {
            line.truncate(1);
        }
    }
    line.join(";")
}

fn without_separators(name: &str) -> String {
    name.replace([';', '\n'], ":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outermost_is_first_and_names_have_no_separators() {
        let mut names = HashMap::new();
        names.insert(1, vec!["inlined".into(), "inner".into()]);
        names.insert(2, vec!["outer<[u8; 4]>".into()]);
        let line = folded("a;b", &[1, 2], &mut names);
        assert_eq!(line, "a:b;outer<[u8: 4]>;inner;inlined");
        names.insert(3, vec!["crore::switch::carrier::call".into()]);
        assert_eq!(folded("a", &[1, 3, 2], &mut names), "a;inner;inlined");
    }
}
