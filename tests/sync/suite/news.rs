//! Values that are told once, to all, or over and over: `oneshot`, `broadcast`, `watch`;
//! and guards that own their lock.

use std::sync::Arc;
use std::sync::mpsc::TryRecvError;
use std::time::Duration;

use crore::sync::{Mutex, RwLock, Semaphore, broadcast, oneshot, watch};

use super::Spawner;

pub(crate) fn oneshot_gives_one_value<S: Spawner>(s: &S) {
    let (tx, rx) = oneshot::channel();
    let waits = s.spawn(move || rx.recv());
    S::yield_now();
    tx.send(7).unwrap();
    assert_eq!(s.join(waits), Ok(7));
    let (tx, rx) = oneshot::channel::<u32>();
    let waits = s.spawn(move || rx.recv());
    S::yield_now();
    drop(tx);
    assert!(s.join(waits).is_err());
    let (tx, rx) = oneshot::channel();
    drop(rx);
    assert!(tx.is_closed());
    assert_eq!(tx.send(7), Err(7));
    let (tx, rx) = oneshot::channel();
    tx.send(7).unwrap();
    assert_eq!(rx.try_recv(), Ok(7));
    assert_eq!(rx.try_recv(), Err(TryRecvError::Disconnected));
}

pub(crate) fn broadcast_tells_all<S: Spawner>(s: &S) {
    let (tx, rx) = broadcast::channel(1_000);
    let first = rx.clone();
    let receivers = s.fan(5, {
        let tx = tx.clone();
        move |_| {
            let rx = tx.subscribe();
            let ready = tx.send(0).unwrap();
            (rx, ready)
        }
    });
    tx.send(1).unwrap();
    drop(tx);
    let all = receivers.into_iter().map(|(rx, _)| rx).chain([rx, first]);
    let sums: Vec<_> = all
        .map(|mut rx| {
            s.spawn(move || {
                let mut last = None;
                loop {
                    match rx.recv() {
                        Ok(n) => last = Some(n),
                        Err(why) => return (last, why),
                    }
                }
            })
        })
        .collect();
    for sum in sums {
        assert_eq!(s.join(sum), (Some(1), broadcast::RecvError::Closed));
    }
}

pub(crate) fn broadcast_says_what_was_missed<S: Spawner>(s: &S) {
    let (tx, mut rx) = broadcast::channel(3);
    for n in 0..10 {
        assert_eq!(tx.send(n), Ok(1));
    }
    assert_eq!(rx.recv(), Err(broadcast::RecvError::Lagged(7)));
    assert_eq!([rx.recv(), rx.recv(), rx.recv()], [Ok(7), Ok(8), Ok(9)]);
    assert_eq!(rx.try_recv(), Err(broadcast::TryRecvError::Empty));
    let short = Duration::from_millis(1);
    assert_eq!(rx.recv_timeout(short), Err(broadcast::TryRecvError::Empty));
    let waits = s.spawn(move || (rx.recv(), rx));
    S::yield_now();
    tx.send(10).unwrap();
    let (value, rx) = s.join(waits);
    assert_eq!(value, Ok(10));
    drop(rx);
    assert_eq!(tx.send(11), Err(11));
    assert_eq!(
        (tx.receiver_count(), tx.subscribe().try_recv()),
        (0, Err(broadcast::TryRecvError::Empty))
    );
}

pub(crate) fn watch_shows_the_last<S: Spawner>(s: &S) {
    let (tx, mut rx) = watch::channel(0);
    assert!(!rx.has_changed());
    let seen = s.spawn(move || {
        let mut seen = Vec::new();
        while rx.changed().is_ok() {
            seen.push(*rx.borrow_and_update());
        }
        seen
    });
    for n in 1..=100 {
        tx.send(n).unwrap();
        if n % 10 == 0 {
            S::yield_now();
        }
    }
    let mut late = tx.subscribe();
    drop(tx);
    let seen = s.join(seen);
    assert_eq!(seen.last(), Some(&100), "the last one is always seen");
    assert!(seen.is_sorted() && seen.len() <= 100);
    assert!(late.changed().is_err() && *late.borrow() == 100);
}

pub(crate) fn watch_waits_for_what_is_wanted<S: Spawner>(s: &S) {
    let (tx, mut rx) = watch::channel(vec![0]);
    let waits = s.spawn(move || rx.wait_for(|all| all.len() == 3).map(|all| all[2]));
    for n in 1..3 {
        S::yield_now();
        tx.send_modify(|all| all.push(n));
    }
    assert_eq!(s.join(waits), Ok(2));
    assert_eq!(tx.send(vec![]), Err(vec![]));
    assert_eq!(tx.send_replace(vec![1]).len(), 3);
    let short = Duration::from_millis(1);
    let mut rx = tx.subscribe();
    assert!(rx.changed_timeout(short).is_err());
    drop(tx);
    let gone = rx.wait_for(|all| all.len() == 9).map(|all| all.len());
    assert!(gone.is_err());
}

pub(crate) fn owned_guards_keep_their_locks<S: Spawner>(s: &S) {
    let mutex = Arc::new(Mutex::new(0));
    s.fan(50, {
        let mutex = Arc::clone(&mutex);
        move |_| {
            let mut guard = Arc::clone(&mutex).lock_owned().unwrap();
            S::yield_now();
            *guard += 1;
        }
    });
    let held = Arc::clone(&mutex).lock_owned().unwrap();
    assert!(mutex.try_lock().is_err());
    drop(mutex);
    assert_eq!(*held, 50);
    let lock = Arc::new(RwLock::new(0));
    s.fan(20, {
        let lock = Arc::clone(&lock);
        move |i| match i % 2 {
            0 => *Arc::clone(&lock).write_owned().unwrap() += 1,
            _ => assert!(*Arc::clone(&lock).read_owned().unwrap() <= 10),
        }
    });
    let reader = Arc::clone(&lock).read_owned().unwrap();
    assert!(*reader == 10 && lock.try_write().is_err());
    let places = Arc::new(Semaphore::new(2));
    s.fan(20, {
        let places = Arc::clone(&places);
        move |_| {
            let place = Arc::clone(&places).acquire_owned(1).unwrap();
            S::yield_now();
            drop(place);
        }
    });
    let last = Arc::clone(&places).acquire_owned(2).unwrap();
    assert!(Arc::clone(&places).try_acquire_owned(1).is_err());
    drop(places);
    assert_eq!(last.count(), 2);
}

pub(crate) fn owned_guards_poison<S: Spawner>(s: &S) {
    let (mutex, lock) = (Arc::new(Mutex::new(0)), Arc::new(RwLock::new(0)));
    let (theirs, written) = (Arc::clone(&mutex), Arc::clone(&lock));
    let panics = s.spawn(move || {
        let _held = (theirs.lock_owned(), written.write_owned());
        panic!("expected: poisons both");
    });
    assert!(s.try_join::<()>(panics).is_none());
    assert!(Arc::clone(&mutex).lock_owned().is_err() && mutex.is_poisoned());
    assert!(Arc::clone(&lock).read_owned().is_err() && lock.is_poisoned());
}
