//! Who waits for whom: whose end, or whose lock, and the circles of that; and who waits for
//! what nobody else has.

use std::collections::HashMap;
use std::time::Duration;

use crate::runtime::info::{Awaited, CoroutineInfo, CoroutineState};
use crate::runtime::join_handle::CoroutineId;
use crate::sched::{Blocker, TaskInfo};

/// Hints of one kind at most.
const MOST: usize = 8;

/// What the time that one is parked may be too much by.
const PARKED_TO_WITHIN: Duration = Duration::from_millis(100);

/// Finds out whom each task waits for, among all of a dump.
pub(super) fn resolve(tasks: &mut [TaskInfo]) {
    if tasks.iter().all(|task| task.blocker.is_none()) {
        return;
    }
    let (mut keys, mut cells, mut numbers) = (HashMap::new(), HashMap::new(), HashMap::new());
    for task in tasks.iter() {
        keys.insert(task.marks.key, task.identity);
        cells.insert(task.marks.cell, task.identity);
        numbers.insert(task.marks.number, task.identity);
    }
    // What is nobody's.
    cells.remove(&0);
    numbers.remove(&0);
    for task in tasks {
        task.blocked_by = match task.blocker {
            Some(Blocker::Holder(key)) => keys.get(&key).copied(),
            Some(Blocker::Number(number)) => numbers.get(&number).copied(),
            Some(Blocker::End(cell)) => cells.get(&cell).copied(),
            _ => None,
        };
    }
}

/// What looks wrong with that, a line each. `took` is the time in which the workers were
/// asked, each at some moment of it.
pub(super) fn hints(all: &[CoroutineInfo], took: Duration) -> Vec<String> {
    let places: HashMap<_, _> = all
        .iter()
        .enumerate()
        .map(|(i, one)| (one.id(), i))
        .collect();
    let next = |place: usize| -> Option<usize> {
        let by = all[place].0.blocked_by.filter(|_| is_stuck(&all[place]))?;
        places.get(&CoroutineId::of(by)).copied()
    };
    let mut hints = Vec::new();
    // Each has one to wait for at most. Whom a walk meets again that began with it is
    // on a circle.
    let mut walk_of = vec![0; all.len()];
    for start in 0..all.len() {
        let mut at = start;
        let met = loop {
            if walk_of[at] != 0 {
                break (walk_of[at] == start + 1).then_some(at);
            }
            walk_of[at] = start + 1;
            match next(at) {
                Some(other) => at = other,
                None => break None,
            }
        };
        let Some(first) = met else { continue };
        let mut circle = vec![first];
        while let Some(other) = circle.last().and_then(|&last| next(last)) {
            if other == first {
                break;
            }
            circle.push(other);
        }
        let circle: Vec<_> = circle.into_iter().map(|place| &all[place]).collect();
        if hints.len() < MOST && is_of_one_moment(&circle, took) {
            hints.push(in_words(&circle));
        }
    }
    let ended = all.iter().filter(|one| one.0.holder_ended && is_stuck(one));
    hints.extend(ended.take(MOST).map(|one| {
        format!(
            "{} waits for a lock whose holder has ended: unless that gave its guard to \
             another, nothing opens it",
            label(one)
        )
    }));
    hints.extend(forsaken(all, took));
    hints
}

/// Semaphores that nobody has but those who wait for their permits: each has a reference
/// of its own, and there are no more.
fn forsaken(all: &[CoroutineInfo], took: Duration) -> Vec<String> {
    let mut waiters: HashMap<_, Vec<_>> = HashMap::new();
    for one in all.iter().filter(|one| is_stuck(one)) {
        if let Some(Blocker::Permits {
            owned: Some(it), ..
        }) = one.0.blocker
        {
            waiters.entry(it).or_default().push(one);
        }
    }
    let forsaken = waiters.into_iter().filter(|(semaphore, waiters)| {
        waiters.len() == semaphore.references && is_of_one_moment(waiters, took)
    });
    let mut forsaken: Vec<_> = forsaken.map(|(_, waiters)| waiters).collect();
    forsaken.sort_by_key(|waiters| waiters[0].id());
    let in_words = |waiters: Vec<&CoroutineInfo>| {
        let others = match waiters.len() - 1 {
            0 => String::new(),
            others => format!(" and {others} more"),
        };
        format!(
            "{}{others} wait for permits of a semaphore that nobody else has: nothing adds any",
            label(waiters[0])
        )
    };
    forsaken.into_iter().take(MOST).map(in_words).collect()
}

/// It is parked, and no event, no time and no end of its own wakes it.
fn is_stuck(one: &CoroutineInfo) -> bool {
    let parked = one.state() == CoroutineState::Parked && !one.is_cancelled();
    parked && !one.awaits().any(Awaited::comes_from_outside)
}

/// Whether they wait so at the same time, although their workers were asked one after the
/// other.
fn is_of_one_moment(circle: &[&CoroutineInfo], took: Duration) -> bool {
    let mut workers = circle.iter().map(|one| one.0.marks.worker);
    let first = workers.next();
    let long = |one: &&CoroutineInfo| {
        let parked = one.parked_for();
        parked.is_some_and(|time| time > took + PARKED_TO_WITHIN)
    };
    workers.all(|worker| Some(worker) == first) || circle.iter().all(long)
}

fn in_words(circle: &[&CoroutineInfo]) -> String {
    if let [one] = circle {
        return format!(
            "{} waits for a lock that it holds itself: it never goes on",
            label(one)
        );
    }
    let others = circle.iter().cycle().skip(1);
    let each = circle.iter().zip(others).map(|(one, other)| {
        let (who, other) = (label(one), label(other));
        match joins(one) {
            true => format!("{who} waits for {other} to end"),
            false => format!("{who} waits for a lock that {other} holds"),
        }
    });
    let each: Vec<_> = each.collect();
    format!("{}: none of them ever goes on", each.join(", "))
}

fn joins(one: &CoroutineInfo) -> bool {
    matches!(one.0.blocker, Some(Blocker::End(_)))
}

/// By name and id.
fn label(one: &CoroutineInfo) -> String {
    match one.name() {
        Some(name) => format!("'{name}' {}", one.id()),
        None => one.id().to_string(),
    }
}
