//! Waiting for several channel operations.

use std::time::Duration;

use crore::sync::channel::*;

use super::{Random, Spawner};

/// As good as for ever, and no test waits for it.
const LONG: Duration = Duration::from_secs(3600);

/// Both sides of a rendezvous wait in a select, with a second case each.
pub(crate) fn two_selects_meet<S: Spawner>(s: &S) {
    let (tx, rx) = rendezvous();
    let (other, never) = bounded::<usize>(1);
    let (quiet, silent) = bounded::<usize>(1);
    let sender = s.spawn(move || {
        for i in 0..500 {
            crore::select! {
                send(tx, i) -> sent => sent.unwrap(),
                recv(never) -> value => panic!("{value:?}"),
            }
        }
        never
    });
    for i in 0..500 {
        crore::select! {
            recv(silent) -> value => panic!("{value:?}"),
            recv(rx) -> value => assert_eq!(value, Ok(i)),
        }
    }
    s.join(sender);
    drop((other, quiet));
}

/// Go's `doubleselect`: several selects over the same channels, in different
/// order; every value comes exactly once.
pub(crate) fn several_selects_balance<S: Spawner>(s: &S) {
    const EACH: usize = 300;
    for capacity in [0, 1, 3] {
        let channels: Vec<_> = (0..3).map(|_| bounded::<usize>(capacity)).collect();
        let (tx, rx): (Vec<_>, Vec<_>) = channels.into_iter().unzip();
        let receivers: Vec<_> = (0..3)
            .map(|i| {
                let rx = rx.clone();
                s.spawn(move || {
                    let mut got = Vec::new();
                    let mut open = [0, 1, 2].map(|k| Some(&rx[(i + k) % 3]));
                    while open.iter().any(Option::is_some) {
                        let mut cases: Vec<_> =
                            open.iter().map(|rx| rx.map(Receiver::case)).collect();
                        let mut live: Vec<(usize, &mut RecvCase<'_, usize>)> = cases
                            .iter_mut()
                            .enumerate()
                            .filter_map(|(n, c)| Some((n, c.as_mut()?)))
                            .collect();
                        let mut dyns: Vec<&mut dyn Case> = live
                            .iter_mut()
                            .map(|(_, case)| &mut **case as &mut dyn Case)
                            .collect();
                        let chosen = select(&mut dyns);
                        let (at, case) = &mut live[chosen];
                        match (*at, case.take().unwrap()) {
                            (_, Ok(value)) => got.push(value),
                            (at, Err(RecvError)) => {
                                drop(cases);
                                open[at] = None;
                            }
                        }
                    }
                    got
                })
            })
            .collect();
        drop(rx);
        s.fan(3, move |i| {
            let mut random = Random(i as u64 + 3);
            for n in 0..EACH {
                let (a, b) = (random.below(3), random.below(3));
                let value = i * EACH + n;
                crore::select! {
                    send(tx[a], value) -> sent => sent.unwrap(),
                    send(tx[b], value) -> sent => sent.unwrap(),
                }
            }
        });
        let mut all: Vec<_> = receivers
            .into_iter()
            .flat_map(|handle| s.join(handle))
            .collect();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..3 * EACH), "capacity {capacity}");
    }
}

pub(crate) fn ready_cases_are_all_chosen<S: Spawner>(_: &S) {
    let (tx, rx) = unbounded();
    let (other_tx, other) = unbounded();
    (0..1_000).for_each(|_| tx.send(()).and(other_tx.send(())).unwrap());
    let mut counts = [0; 2];
    for _ in 0..1_000 {
        crore::select! {
            recv(rx) -> _ => counts[0] += 1,
            recv(other) -> _ => counts[1] += 1,
        }
    }
    assert!(counts.iter().all(|&n| n > 250), "{counts:?}");
}

pub(crate) fn merging_ends_when_all_are_closed<S: Spawner>(s: &S) {
    let (a, from_a) = bounded(1);
    let (b, from_b) = bounded(1);
    let (done, both) = bounded(2);
    let finished = done.clone();
    s.spawn(move || (0..100).for_each(|i| a.send(i).unwrap()));
    s.spawn(move || (100..200).for_each(|i| b.send(i).unwrap()));
    s.spawn(move || {
        let (mut sum, mut a_open, mut b_open) = (0, true, true);
        while a_open && b_open {
            crore::select! {
                recv(from_a) -> value => value.map_or_else(|_| a_open = false, |v| sum += v),
                recv(from_b) -> value => value.map_or_else(|_| b_open = false, |v| sum += v),
            }
        }
        sum += from_a.iter().sum::<u32>() + from_b.iter().sum::<u32>();
        finished.send(sum).unwrap();
    });
    drop(done);
    assert_eq!(both.iter().collect::<Vec<_>>(), [(0..200).sum::<u32>()]);
}

/// A select never meets itself, but others can take either side.
pub(crate) fn select_sends_and_receives_on_one_channel<S: Spawner>(s: &S) {
    let (tx, rx) = rendezvous();
    let handles: Vec<_> = (0..2)
        .map(|_| {
            let (tx, rx) = (tx.clone(), rx.clone());
            s.spawn(move || {
                crore::select! {
                    send(tx, ()) -> sent => i32::from(sent.is_ok()),
                    recv(rx) -> value => -i32::from(value.is_ok()),
                }
            })
        })
        .collect();
    let sum: i32 = handles.into_iter().map(|handle| s.join(handle)).sum();
    assert_eq!(sum, 0, "one sent, one received");
}

pub(crate) fn default_and_timeout<S: Spawner>(s: &S) {
    let (tx, rx) = rendezvous();
    let now = crore::select! {
        recv(rx) -> value => value.ok(),
        default => None,
    };
    assert_eq!(now, None);
    let late = crore::select! {
        recv(rx) -> value => value.ok(),
        default(Duration::from_millis(2)) => None,
    };
    assert_eq!(late, None);
    let sender = s.spawn(move || {
        let mut case = tx.case(7);
        assert_eq!(select_timeout(&mut [&mut case], LONG), Some(0));
        case.take()
    });
    let got = crore::select! {
        recv(rx) -> value => value.ok(),
        default(LONG) => None,
    };
    assert_eq!(got, Some(7));
    assert_eq!(s.join(sender), Some(Ok(())));
}

pub(crate) fn untaken_values_stay<S: Spawner>(_: &S) {
    let (tx, rx) = bounded(4);
    (0..3).for_each(|i| tx.send(i).unwrap());
    {
        let mut case = rx.case();
        assert_eq!(select(&mut [&mut case]), 0);
    }
    assert_eq!(rx.try_iter().collect::<Vec<_>>(), [0, 1, 2]);
    // A case that is not chosen keeps its value.
    let (full, _rx) = bounded(0);
    let mut case = full.case("kept");
    assert_eq!(
        select_timeout(&mut [&mut case], Duration::from_millis(1)),
        None
    );
    assert_eq!(case.take(), None);
    assert_eq!(case.into_value(), Some("kept"));
}
