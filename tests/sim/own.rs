//! crore's own parts under simulation: channels, select, locks, cancellation, in orders
//! that a seed decides, with priorities for every other one.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crore::sim::{self, Schedule, Sim};
use crore::sync::{CancelToken, Condvar, Mutex, RwLock, Semaphore, channel};

/// `CRORE_OWN_SEEDS=1000` looks for longer.
fn seeds() -> u64 {
    let seeds = std::env::var("CRORE_OWN_SEEDS");
    seeds.map_or(250, |seeds| seeds.parse().unwrap())
}

/// Runs `body` in coroutines, by each seed.
fn by_seeds(body: fn()) {
    let pct = Schedule::Pct {
        changes: 4,
        steps: 400,
    };
    for schedule in [Schedule::Uniform, pct] {
        sim::check(0..seeds() / 2, |sim: Sim| {
            sim.schedule(schedule).client("one", body).run();
        });
    }
}

fn nap() {
    crore::sleep(Duration::from_micros(sim::random(300)));
}

#[test]
fn channels_lose_and_double_nothing() {
    by_seeds(|| {
        let (tx, rx) = channel::bounded(sim::random(3) as usize);
        let (log, seen) = channel::unbounded();
        for producer in 0..4_u64 {
            let tx = tx.clone();
            crore::spawn(move || {
                for number in 0..8 {
                    tx.send((producer, number)).unwrap();
                    if sim::random(3) == 0 {
                        nap();
                    }
                }
            });
        }
        drop(tx);
        for _ in 0..3 {
            let (rx, log) = (rx.clone(), log.clone());
            crore::spawn(move || {
                while let Ok(value) = rx.recv() {
                    log.send(value).unwrap();
                    if sim::random(4) == 0 {
                        crore::yield_now();
                    }
                }
            });
        }
        drop((rx, log));
        let mut all = BTreeMap::new();
        while let Ok(value) = seen.recv() {
            *all.entry(value).or_insert(0) += 1;
        }
        assert_eq!(all.len(), 32, "lost");
        assert!(all.values().all(|&times| times == 1), "doubled");
    });
}

#[test]
fn what_a_select_does_not_take_stays() {
    by_seeds(|| {
        let (one, from_one) = channel::bounded(1);
        let (two, from_two) = channel::bounded(0);
        let (done, end) = channel::bounded::<()>(0);
        for (tx, first) in [(one, 0), (two, 100)] {
            let done = done.clone();
            crore::spawn(move || {
                let mut number = first;
                while number < first + 20 {
                    crore::select! {
                        send(tx, number) -> sent => {
                            sent.unwrap();
                            number += 1;
                        },
                        after(Duration::from_micros(sim::random(200))) => {},
                    }
                }
                drop(done);
            });
        }
        drop(done);
        let (mut next, mut ended) = ([0, 100], 0);
        while next != [20, 120] {
            crore::select! {
                recv(from_one) -> value => take(&mut next[0], value),
                recv(from_two) -> value => take(&mut next[1], value),
                recv(end) -> _ => ended += 1,
                after(Duration::from_micros(sim::random(200))) => {},
            }
            if ended > 0 {
                crore::yield_now();
            }
        }
        fn take(next: &mut i32, value: Result<i32, channel::RecvError>) {
            match value {
                Ok(value) => {
                    assert_eq!(value, *next, "lost, or out of order");
                    *next += 1;
                }
                // It has sent all.
                Err(_) => crore::yield_now(),
            }
        }
    });
}

#[test]
fn locks_exclude_and_wake_who_waits() {
    by_seeds(|| {
        let (lock, changed) = (Arc::new(Mutex::new(0_u64)), Arc::new(Condvar::new()));
        let table = Arc::new(RwLock::new([0_u64; 2]));
        let permits = Arc::new(Semaphore::new(2));
        let within = Arc::new(AtomicU64::new(0));
        let all: Vec<_> = (0..8_u64)
            .map(|number| {
                let (lock, changed) = (Arc::clone(&lock), Arc::clone(&changed));
                let (table, permits) = (Arc::clone(&table), Arc::clone(&permits));
                let within = Arc::clone(&within);
                crore::spawn(move || {
                    let permit = permits.acquire(1).unwrap();
                    assert!(within.fetch_add(1, Ordering::Relaxed) < 2, "three within");
                    nap();
                    within.fetch_sub(1, Ordering::Relaxed);
                    drop(permit);
                    if number % 2 == 0 {
                        let mut pair = table.write().unwrap();
                        pair[0] += 1;
                        crore::yield_now();
                        pair[1] += 1;
                    } else {
                        let pair = table.read().unwrap();
                        crore::yield_now();
                        assert_eq!(pair[0], pair[1], "a reader beside a writer");
                    }
                    // One after the other, by their numbers.
                    let turn = lock.lock().unwrap();
                    let mut turn = changed.wait_while(turn, |turn| *turn != number).unwrap();
                    *turn += 1;
                    drop(turn);
                    changed.notify_all();
                })
            })
            .collect();
        all.into_iter().for_each(|one| one.join().unwrap());
        assert_eq!(*lock.lock().unwrap(), 8);
        assert_eq!(permits.available_permits(), 2);
    });
}

#[test]
fn whoever_is_cancelled_ends_and_gives_back() {
    by_seeds(|| {
        let token = CancelToken::new();
        let permits = Arc::new(Semaphore::new(1));
        let (tx, rx) = channel::bounded(1);
        let lock = Arc::new(Mutex::new(()));
        let all: Vec<_> = (0..9)
            .map(|number| {
                let (token, permits) = (token.clone(), Arc::clone(&permits));
                let (tx, rx, lock) = (tx.clone(), rx.clone(), Arc::clone(&lock));
                crore::spawn(move || {
                    token.bind(|| match number % 4 {
                        0 => loop {
                            let _permit = permits.acquire(1).unwrap();
                            nap();
                        },
                        1 => loop {
                            tx.send(number).unwrap();
                        },
                        2 => loop {
                            rx.recv().unwrap();
                        },
                        _ => loop {
                            let _held = lock.lock();
                            crore::sleep(Duration::from_micros(10));
                        },
                    });
                })
            })
            .collect();
        nap();
        if sim::random(2) == 0 {
            token.cancel();
        }
        all.iter().for_each(|one| one.cancel());
        for one in all {
            // By whichever way.
            let _ = catch_unwind(AssertUnwindSafe(|| one.join()));
        }
        assert_eq!(permits.available_permits(), 1, "a permit is lost");
        drop(lock.lock());
    });
}
