//! Channels: order, hand-over, disconnection, drops, timeouts.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crore::sync::channel::*;

use super::{Random, Spawner};

/// As good as for ever, and no test waits for it.
const LONG: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_millis(2);

pub(crate) fn fifo_for_every_capacity<S: Spawner>(s: &S) {
    for capacity in 0..10 {
        let (tx, rx) = bounded(capacity);
        let sender = s.spawn(move || (0..200).for_each(|i| tx.send(i).unwrap()));
        for i in 0..200 {
            assert_eq!(rx.recv(), Ok(i));
            assert!(rx.len() <= capacity);
        }
        s.join(sender);
        assert_eq!(rx.recv(), Err(RecvError));
    }
}

pub(crate) fn ping_pong<S: Spawner>(s: &S) {
    for capacity in [0, 1, usize::MAX] {
        let (ping, pinged) = bounded(capacity);
        let (pong, ponged) = bounded(capacity);
        let echo = s.spawn(move || pinged.iter().for_each(|i: u32| pong.send(i + 1).unwrap()));
        for i in 0..1_000 {
            ping.send(i).unwrap();
            assert_eq!(ponged.recv(), Ok(i + 1));
        }
        drop(ping);
        s.join(echo);
        assert_eq!(ponged.recv(), Err(RecvError));
    }
}

/// A send on a rendezvous channel returns after the receiver has the value:
/// then only the one receive that is under way can be behind.
pub(crate) fn rendezvous_returns_after_the_handover<S: Spawner>(s: &S) {
    let (tx, rx) = rendezvous();
    let received = Arc::new(AtomicUsize::new(0));
    let counter = received.clone();
    let receiver = s.spawn(move || {
        for _ in rx.iter() {
            counter.fetch_add(1, Ordering::SeqCst);
        }
    });
    for i in 0..500 {
        tx.send(()).unwrap();
        let n = received.load(Ordering::SeqCst);
        assert!(
            n == i || n == i + 1,
            "{n} received when {} were sent",
            i + 1
        );
        assert!(tx.is_empty());
    }
    drop(tx);
    s.join(receiver);
    assert_eq!(received.load(Ordering::SeqCst), 500);
}

pub(crate) fn every_value_reaches_one_receiver<S: Spawner>(s: &S) {
    const SENDERS: usize = 3;
    const EACH: usize = 1_000;
    for capacity in [0, 1, 7, usize::MAX] {
        let (tx, rx) = bounded(capacity);
        let receivers: Vec<_> = (0..3)
            .map(|_| {
                let rx = rx.clone();
                s.spawn(move || rx.into_iter().collect::<Vec<(usize, usize)>>())
            })
            .collect();
        drop(rx);
        let send = move |sender| (0..EACH).for_each(|i| tx.send((sender, i)).unwrap());
        s.fan(SENDERS, send);
        let mut seen: HashMap<(usize, usize), usize> = HashMap::new();
        for receiver in receivers {
            let got = s.join(receiver);
            for sender in 0..SENDERS {
                let of_one: Vec<_> = got.iter().filter(|v| v.0 == sender).collect();
                assert!(of_one.is_sorted(), "one sender's values come in order");
            }
            got.into_iter()
                .for_each(|value| *seen.entry(value).or_default() += 1);
        }
        assert_eq!(seen.len(), SENDERS * EACH);
        assert!(seen.values().all(|&n| n == 1));
    }
}

pub(crate) fn prime_sieve<S: Spawner>(s: &S) {
    let (tx, mut rx) = rendezvous();
    // Ends by itself when the first filter hangs up.
    let mut handles = vec![s.spawn(move || while_ok(2.., |n| tx.send(n)))];
    let mut primes = Vec::new();
    for _ in 0..12 {
        let prime: u32 = rx.recv().unwrap();
        primes.push(prime);
        let (tx, next) = rendezvous();
        let numbers = std::mem::replace(&mut rx, next);
        handles.push(s.spawn(move || {
            while_ok(numbers.iter().filter(|n| n % prime != 0), |n| tx.send(n));
        }));
    }
    assert_eq!(primes, [2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37]);
    drop(rx);
    handles.into_iter().for_each(|handle| s.join(handle));
}

fn while_ok<E>(numbers: impl IntoIterator<Item = u32>, mut f: impl FnMut(u32) -> Result<(), E>) {
    for n in numbers {
        if f(n).is_err() {
            return;
        }
    }
}

pub(crate) fn buffered_values_outlive_their_senders<S: Spawner>(s: &S) {
    let (tx, rx) = bounded(3);
    s.join(s.spawn(move || (0..3).for_each(|i| tx.send(i).unwrap())));
    assert_eq!(rx.try_iter().collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(rx.try_recv(), Err(TryRecvError::Disconnected));
    assert_eq!(rx.recv_timeout(LONG), Err(RecvTimeoutError::Disconnected));
}

pub(crate) fn waiting_receivers_learn_of_the_last_sender<S: Spawner>(s: &S) {
    let (tx, rx) = bounded::<u32>(1);
    let receivers: Vec<_> = (0..4)
        .map(|_| {
            let rx = rx.clone();
            s.spawn(move || rx.recv())
        })
        .collect();
    let other = tx.clone();
    S::yield_now();
    drop(tx);
    other.send(1).unwrap();
    drop(other);
    let results: Vec<_> = receivers.into_iter().map(|handle| s.join(handle)).collect();
    assert_eq!(results.iter().filter(|result| **result == Ok(1)).count(), 1);
    assert_eq!(results.iter().filter(|result| result.is_err()).count(), 3);
}

pub(crate) fn waiting_senders_get_their_values_back<S: Spawner>(s: &S) {
    let (tx, rx) = bounded(0);
    let senders: Vec<_> = (0..4)
        .map(|i| {
            let tx = tx.clone();
            s.spawn(move || tx.send(Box::new(i)))
        })
        .collect();
    let first = rx.recv().unwrap();
    let second = rx.clone();
    drop(rx);
    assert!(!tx.is_disconnected());
    drop(second);
    assert!(tx.is_disconnected());
    for (i, sender) in senders.into_iter().enumerate() {
        let expected = if *first == i {
            Ok(())
        } else {
            Err(SendError(Box::new(i)))
        };
        assert_eq!(s.join(sender), expected);
    }
    assert_eq!(
        tx.try_send(Box::new(9)),
        Err(TrySendError::Disconnected(Box::new(9)))
    );
    assert_eq!(
        tx.send_timeout(Box::new(9), LONG),
        Err(SendTimeoutError::Disconnected(Box::new(9)))
    );
}

/// Counts itself as made and as dropped.
struct Counted(Arc<[AtomicUsize; 2]>);

impl Counted {
    fn new(counts: &Arc<[AtomicUsize; 2]>) -> Self {
        counts[0].fetch_add(1, Ordering::SeqCst);
        Self(counts.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0[1].fetch_add(1, Ordering::SeqCst);
    }
}

pub(crate) fn values_are_dropped_once<S: Spawner>(s: &S) {
    for seed in 1..30 {
        let counts = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
        let (tx, rx) = bounded(seed as usize % 4);
        let receivers: Vec<_> = (0..2)
            .map(|i| {
                let rx = rx.clone();
                s.spawn(move || {
                    let mut random = Random(seed * 77 + i);
                    // Hangs up in the middle, sometimes at a time limit.
                    for _ in 0..random.below(60) {
                        let _ = match random.below(3) {
                            0 => rx.try_recv().ok(),
                            1 => rx.recv_timeout(Duration::from_micros(50)).ok(),
                            _ => rx.recv().ok(),
                        };
                        S::yield_now();
                    }
                })
            })
            .collect();
        drop(rx);
        let theirs = counts.clone();
        s.fan(3, move |i| {
            let mut random = Random(seed * 991 + i as u64);
            for _ in 0..40 {
                let value = Counted::new(&theirs);
                let _ = match random.below(3) {
                    0 => tx.try_send(value).ok(),
                    1 => tx.send_timeout(value, Duration::from_micros(50)).ok(),
                    _ => tx.send(value).ok(),
                };
            }
        });
        receivers.into_iter().for_each(|handle| s.join(handle));
        let [made, dropped] = [0, 1].map(|i| counts[i].load(Ordering::SeqCst));
        assert_eq!((made, dropped), (120, 120), "seed {seed}");
    }
}

pub(crate) fn timeouts_return_what_they_had<S: Spawner>(s: &S) {
    let (tx, rx) = bounded(1);
    assert_eq!(rx.recv_timeout(SHORT), Err(RecvTimeoutError::Timeout));
    assert_eq!(tx.send_timeout(1, SHORT), Ok(()));
    assert_eq!(tx.send_timeout(2, SHORT), Err(SendTimeoutError::Timeout(2)));
    let sender = s.spawn(move || tx.send_timeout(3, LONG));
    assert_eq!(rx.recv_timeout(LONG), Ok(1));
    assert_eq!(rx.recv_timeout(LONG), Ok(3));
    assert_eq!(s.join(sender), Ok(()));
}

pub(crate) fn ends_say_what_is_between<S: Spawner>(s: &S) {
    for ((tx, rx), capacity) in [
        (rendezvous(), Some(0)),
        (bounded(3), Some(3)),
        (unbounded(), None),
    ] {
        assert_eq!((tx.capacity(), rx.capacity()), (capacity, capacity));
        for sent in 0..capacity.unwrap_or(3) {
            let said = (tx.len(), rx.len(), tx.is_empty(), rx.is_empty());
            assert_eq!(said, (sent, sent, sent == 0, sent == 0));
            tx.send(sent).unwrap();
        }
        assert!(!tx.is_disconnected());
        let gone = s.spawn(move || drop(rx));
        s.join(gone);
        assert!(tx.is_disconnected());
    }
}

pub(crate) fn iterators_end<S: Spawner>(s: &S) {
    let (tx, rx) = unbounded();
    let sender = s.spawn(move || (0..10).for_each(|i| tx.send(i).unwrap()));
    assert_eq!((&rx).into_iter().take(4).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert_eq!(rx.into_iter().sum::<u32>(), (4..10).sum());
    s.join(sender);
}

pub(crate) fn a_stream_through_stages<S: Spawner>(s: &S) {
    let (first, mut rx) = bounded(2);
    for _ in 0..20 {
        let (tx, next) = bounded(1);
        let input = std::mem::replace(&mut rx, next);
        s.spawn(move || input.into_iter().for_each(|n: u64| tx.send(n + 1).unwrap()));
    }
    s.spawn(move || (0..200).for_each(|n| first.send(n).unwrap()));
    assert!(rx.into_iter().eq(20..220));
}

/// Blocking, trying, timed and async operations on one channel.
pub(crate) fn mixed_forms_agree<S: Spawner>(s: &S) {
    let (tx, rx) = bounded(2);
    let senders = {
        let tx = tx.clone();
        s.spawn(move || {
            for i in 0..300_u64 {
                let done = match i % 3 {
                    0 => tx.send(i).is_ok(),
                    1 => tx.send_timeout(i, LONG).is_ok(),
                    _ => {
                        let mut case = tx.case(i);
                        select(&mut [&mut case]);
                        case.take() == Some(Ok(()))
                    }
                };
                assert!(done);
            }
        })
    };
    drop(tx);
    let mut random = Random(5);
    let mut got = Vec::new();
    loop {
        let value = match random.below(4) {
            0 => rx.recv().ok(),
            1 => rx.recv_timeout(LONG).ok(),
            2 => {
                let mut case = rx.case();
                select(&mut [&mut case]);
                case.take().and_then(Result::ok)
            }
            _ => match rx.try_recv() {
                Err(TryRecvError::Empty) => {
                    S::yield_now();
                    continue;
                }
                done => done.ok(),
            },
        };
        match value {
            Some(value) => got.push(value),
            None => break,
        }
    }
    s.join(senders);
    assert!(got.into_iter().eq(0..300));
}
