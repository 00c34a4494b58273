//! `Dump`: all coroutines of a runtime at one moment, and how they are put in words:
//! those that do the same are one paragraph, as in Go's profile of goroutines.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::ops::Deref;
use std::panic::Location;
use std::time::{Duration, Instant};

use crate::helpers;
use crate::runtime::blockers;
use crate::runtime::info::{Awaited, CoroutineInfo, CoroutineState, write_awaited};
use crate::runtime::stack_use::StackUse;
use crate::sched::TaskInfo;

/// Coroutines of a group that are named.
const NAMED: usize = 8;

/// All coroutines of a runtime: what [`Handle::dump`](crate::Handle::dump) returns, a
/// slice of [`CoroutineInfo`].
///
/// Printed, it begins with a line of counts, then says what is [suspicious](Self::hints),
/// and then has a paragraph for all that were spawned at one place, are in one state,
/// and have the same backtrace: how many, what for and for how long, the first few by
/// name and id, and the backtrace. At the end is what was used of stacks, if that is
/// [measured](crate::RuntimeBuilder::measure_stacks).
///
/// ```
/// crore::run(|| {
///     let waiting: Vec<_> = (0..100).map(|_| crore::spawn(crore::park)).collect();
///     crore::yield_now();
///     let dump = crore::Handle::current().unwrap().dump();
///     let text = dump.to_string();
///     assert!(text.starts_with("101 coroutines: 101 parked\n"), "{text}");
///     assert_eq!(text.matches("\n100 parked").count(), 1, "{text}");
///     waiting.iter().for_each(|one| one.coroutine().unpark());
/// }).unwrap();
/// ```
#[derive(Clone, Debug, Default)]
pub struct Dump {
    coroutines: Vec<CoroutineInfo>,
    hints: Vec<String>,
    stack_use: Vec<StackUse>,
}

impl Dump {
    /// `took` is the time in which the workers were asked.
    pub(super) fn new(mut tasks: Vec<TaskInfo>, took: Duration, stack_use: Vec<StackUse>) -> Self {
        blockers::resolve(&mut tasks);
        let coroutines: Vec<_> = tasks.into_iter().map(CoroutineInfo).collect();
        let mut hints: Vec<_> = nothing_wakes(&coroutines).into_iter().collect();
        hints.extend(blockers::hints(&coroutines, took));
        Self {
            coroutines,
            hints,
            stack_use,
        }
    }

    /// What looks wrong, a line each:
    ///
    /// - all coroutines are parked and nothing in the runtime can wake one;
    /// - some wait for each other in a circle of locks and joins, or one for a lock that it
    ///   holds itself;
    /// - one waits for a lock whose holder has ended;
    /// - nobody has a semaphore but those who wait for its permits, each by an
    ///   [`Arc`](std::sync::Arc) of its own.
    ///
    /// ```
    /// use std::sync::mpsc;
    /// use std::time::Duration;
    ///
    /// let runtime = crore::Runtime::builder().build()?;
    /// let (handle, (tell, told)) = (runtime.handle(), mpsc::channel());
    /// let look = std::thread::spawn(move || {
    ///     let main: crore::Coroutine = told.recv().unwrap();
    ///     while handle.dump().hints().next().is_none() {
    ///         std::thread::sleep(Duration::from_millis(1));
    ///     }
    ///     main.unpark(); // what no coroutine would have done
    /// });
    /// runtime.run(|| {
    ///     tell.send(crore::current()).unwrap();
    ///     crore::park();
    /// })?;
    /// look.join().unwrap();
    /// # std::io::Result::Ok(())
    /// ```
    pub fn hints(&self) -> impl Iterator<Item = &str> {
        self.hints.iter().map(String::as_str)
    }

    /// The coroutines by themselves.
    pub fn into_vec(self) -> Vec<CoroutineInfo> {
        self.coroutines
    }

    /// Those that do the same, the largest group first.
    pub(super) fn groups(&self) -> Vec<Group<'_>> {
        let mut groups: Vec<Group<'_>> = Vec::new();
        let mut known = HashMap::new();
        for one in &self.coroutines {
            let place = *known.entry(Likeness::of(one)).or_insert(groups.len());
            match groups.get_mut(place) {
                Some(group) => group.0.push(one),
                None => groups.push(Group(vec![one])),
            }
        }
        groups.sort_by_key(|group| std::cmp::Reverse(group.0.len()));
        groups
    }
}

impl Deref for Dump {
    type Target = [CoroutineInfo];

    fn deref(&self) -> &Self::Target {
        &self.coroutines
    }
}

impl IntoIterator for Dump {
    type Item = CoroutineInfo;
    type IntoIter = std::vec::IntoIter<CoroutineInfo>;

    fn into_iter(self) -> Self::IntoIter {
        self.coroutines.into_iter()
    }
}

impl<'a> IntoIterator for &'a Dump {
    type Item = &'a CoroutineInfo;
    type IntoIter = std::slice::Iter<'a, CoroutineInfo>;

    fn into_iter(self) -> Self::IntoIter {
        self.coroutines.iter()
    }
}

impl fmt::Display for Dump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} coroutines", self.len())?;
        let mut between = ": ";
        for state in CoroutineState::ALL {
            let count = self.iter().filter(|one| one.state() == state).count();
            if count > 0 {
                write!(f, "{between}{count} {state}")?;
                between = ", ";
            }
        }
        writeln!(f)?;
        for hint in &self.hints {
            writeln!(f, "{hint}")?;
        }
        for group in self.groups() {
            write!(f, "\n{group}")?;
        }
        if !self.stack_use.is_empty() {
            writeln!(
                f,
                "\nstacks of those that have ended, by where they were spawned:"
            )?;
        }
        for place in &self.stack_use {
            writeln!(f, "  {place}")?;
        }
        Ok(())
    }
}

/// Of what can be waited for.
const KINDS: usize = 10;

/// What two coroutines have in common that do the same.
#[derive(PartialEq, Eq, Hash)]
struct Likeness<'a> {
    state: CoroutineState,
    cancelled: bool,
    shared: bool,
    spawned_at: &'static Location<'static>,
    kinds: [bool; KINDS],
    trace: &'a [usize],
}

impl<'a> Likeness<'a> {
    fn of(one: &'a CoroutineInfo) -> Self {
        let mut kinds = [false; KINDS];
        for awaited in one.awaits() {
            kinds[match awaited {
                Awaited::Readable(_) => 0,
                Awaited::Writable(_) => 1,
                Awaited::Exception(_) => 2,
                Awaited::Time(_) => 3,
                Awaited::Lock(_) => 4,
                Awaited::End(_) => 5,
                Awaited::Receive { .. } => 6,
                Awaited::Send { .. } => 7,
                Awaited::Permits { .. } => 8,
                Awaited::Notification => 9,
            }] = true;
        }
        let trace = one.0.backtrace.as_deref();
        Self {
            state: one.state(),
            cancelled: one.is_cancelled(),
            shared: one.is_shared(),
            spawned_at: one.spawned_at(),
            kinds,
            trace: trace.map_or(&[], |trace| &trace.addresses),
        }
    }
}

/// Coroutines that do the same; one at least.
pub(super) struct Group<'a>(Vec<&'a CoroutineInfo>);

impl<'a> Group<'a> {
    pub(super) fn members(&self) -> &[&'a CoroutineInfo] {
        &self.0
    }

    /// The shortest and the longest time that one is parked.
    fn parked_for(&self) -> Option<(Duration, Duration)> {
        let times = || self.0.iter().filter_map(|one| one.parked_for());
        Some((times().min()?, times().max()?))
    }
}

impl fmt::Display for Group<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.0[0];
        write!(f, "{} {}", self.0.len(), first.state())?;
        if let Some((least, most)) = self.parked_for() {
            let (least, most) = (tenths(least), tenths(most));
            match least == most {
                true => write!(f, " for {most} s")?,
                false => write!(f, " for {least} to {most} s")?,
            }
        }
        let awaited = || self.0.iter().flat_map(|one| one.awaits());
        let mut known = HashSet::new();
        let different = awaited().filter(|&one| known.insert(one));
        write_awaited(f, different.filter(|one| !matches!(one, Awaited::Time(_))))?;
        let times = || awaited().filter_map(Awaited::time);
        if let (Some(least), Some(most)) = (times().min(), times().max()) {
            let left = |at: Instant| tenths(at.saturating_duration_since(Instant::now()));
            let range = match (left(least), left(most)) {
                (least, most) if least == most => most,
                (least, most) => format!("{least} to {most}"),
            };
            write!(f, ", for a time {range} s ahead")?;
        }
        if first.is_cancelled() {
            write!(f, ", cancelled")?;
        }
        if first.is_shared() {
            write!(f, ", on a shared stack")?;
        }
        writeln!(f, ", spawned at {}", first.spawned_at())?;
        for (i, one) in self.0.iter().take(NAMED).enumerate() {
            f.write_str(["  ", ", "][usize::from(i > 0)])?;
            if let Some(name) = one.name() {
                write!(f, "'{name}' ")?;
            }
            write!(f, "{}", one.id())?;
        }
        match self.0.len().saturating_sub(NAMED) {
            0 => writeln!(f)?,
            more => writeln!(f, " and {more} more")?,
        }
        match first.backtrace() {
            Some(trace) => write!(f, "{trace}"),
            None => Ok(()),
        }
    }
}

fn tenths(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64())
}

/// Of a runtime in which all wait for each other.
fn nothing_wakes(all: &[CoroutineInfo]) -> Option<String> {
    let waits_for_others = |one: &CoroutineInfo| {
        let mut awaited = one.awaits();
        one.state() == CoroutineState::Parked && !awaited.any(Awaited::comes_from_outside)
    };
    let stuck = !all.is_empty() && all.iter().all(waits_for_others) && !helpers::any_busy();
    stuck.then(|| {
        "all are parked, and none waits for a descriptor or a time: nothing in this runtime can \
         wake one, only a signal or a thread of the program's"
            .into()
    })
}
