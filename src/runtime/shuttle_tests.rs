//! Scenarios of joins: handles and sets of them, while their tasks end.

use std::time::Duration;

use shuttle::thread;

use super::join_handle::JoinHandle;
use super::join_set::JoinSet;
use crate::shim::scenario::{check, crowd, join};
use crate::sync::channel::select;
use crate::task::Addr;
use crate::task::model::{self, Drops, TaskSide};

/// Over when the others have had a turn: models have no clock.
const MOMENT: Duration = Duration::from_nanos(1);

fn task(drops: &Drops) -> (TaskSide, JoinHandle<()>) {
    let (task, join) = model::cell(drops, Some(Addr::new(1, 0, 0)));
    (task, JoinHandle::new(join))
}

/// Nobody sleeps on, however it waits: by a join, by joins with a limit, in a select.
#[test]
fn joins_of_all_kinds_see_the_end() {
    check(|| {
        let drops = Drops::default();
        let (tasks, mut handles): (Vec<_>, Vec<_>) = (0..5).map(|_| task(&drops)).unzip();
        let ends: Vec<_> = tasks
            .into_iter()
            .map(|task| thread::spawn(move || task.end()))
            .collect();
        let [mut one, mut other] = [handles.pop().unwrap(), handles.pop().unwrap()];
        let selects = thread::spawn(move || {
            let (mut first, mut second) = (one.case(), other.case());
            let chosen = select(&mut [&mut first, &mut second]);
            let taken = [first.take(), second.take()];
            assert!(taken[chosen].as_ref().is_some_and(Result::is_err));
            assert!(taken[1 - chosen].is_none());
            drop((first, second));
            if chosen == 0 { other } else { one }
        });
        let mut joins: Vec<_> = handles
            .into_iter()
            .map(|handle| thread::spawn(move || assert!(handle.join().is_err())))
            .collect();
        joins.push(thread::spawn(move || {
            let mut left = selects.join().unwrap();
            loop {
                match left.join_timeout(MOMENT) {
                    Ok(result) => return assert!(result.is_err()),
                    Err(back) => left = back,
                }
            }
        }));
        join(joins);
        join(ends);
        assert_eq!(*drops.lock().unwrap(), 5);
    });
}

/// Three threads have a set each, whose members end while they are put in.
#[test]
fn sets_join_each_member_once() {
    const SETS: usize = 3;
    const MEMBERS: usize = 3;
    check(|| {
        let drops = Drops::default();
        let theirs = Drops::clone(&drops);
        join(crowd(SETS, move |number| {
            let (tasks, handles): (Vec<_>, Vec<_>) = (0..MEMBERS).map(|_| task(&theirs)).unzip();
            let ends: Vec<_> = tasks
                .into_iter()
                .map(|task| thread::spawn(move || task.end()))
                .collect();
            let mut set = JoinSet::new();
            let mut joined = 0;
            for handle in handles {
                set.insert(handle);
                joined += usize::from(set.join_next_timeout(MOMENT).is_some());
            }
            if number == 0 {
                set.detach_all();
            } else {
                joined += set.join_all().len();
                assert_eq!(joined, MEMBERS);
            }
            join(ends);
        }));
        assert_eq!(*drops.lock().unwrap(), SETS * MEMBERS);
    });
}
