//! `std::sync::mpsc` and `crossbeam-channel` with both ends in coroutines of
//! the same threads. Both know who waits by the thread, and skip themselves.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crore_clients::{each, like_threads, spread_crowd};
use crossbeam_channel as crossbeam;

const CROWD: usize = 50;
const MESSAGES: usize = 100;

fn on_one_and_on_three(test: fn()) {
    like_threads(1, test);
    like_threads(3, test);
}

/// Pairs that hand a number to and fro, each adding one.
#[test]
fn pairs_meet_at_a_rendezvous_of_std() {
    on_one_and_on_three(|| {
        let (totals, _) = spread_crowd(CROWD, |i| {
            let (ask, asked) = mpsc::sync_channel::<usize>(0);
            let (answer, answered) = mpsc::sync_channel(0);
            let other = crore::spawn(move || {
                while let Ok(value) = asked.recv() {
                    answer.send(value + 1).unwrap();
                }
            });
            let mut value = i;
            for _ in 0..MESSAGES {
                ask.send(value + 1).unwrap();
                value = answered.recv().unwrap();
            }
            drop(ask);
            other.join().unwrap();
            value
        });
        each(&totals, |i| i + 2 * MESSAGES);
    });
}

/// Many senders, and a channel of one place or of any number.
#[test]
fn many_send_to_one_by_std() {
    on_one_and_on_three(|| {
        let (bounded, from_bounded) = mpsc::sync_channel(1);
        let (unbounded, from_unbounded) = mpsc::channel();
        let sum = crore::spawn(move || from_bounded.iter().sum::<usize>());
        let count = crore::spawn(move || from_unbounded.iter().count());
        spread_crowd(CROWD, move |i| {
            for message in 0..MESSAGES {
                bounded.send(i * MESSAGES + message).unwrap();
                unbounded.send(()).unwrap();
            }
        });
        assert_eq!(sum.join().unwrap(), (0..CROWD * MESSAGES).sum());
        assert_eq!(count.join().unwrap(), CROWD * MESSAGES);
    });
}

#[test]
fn waits_at_channels_of_std_end_in_time() {
    on_one_and_on_three(|| {
        let (ends, _) = spread_crowd(CROWD, |_| {
            let (send, receive) = mpsc::channel::<()>();
            let late = receive.recv_timeout(Duration::from_millis(5));
            let gone = crore::spawn(move || receive.recv());
            drop(send);
            (late, gone.join().unwrap())
        });
        let ends_as = (Err(mpsc::RecvTimeoutError::Timeout), Err(mpsc::RecvError));
        each(&ends, |_| ends_as);
    });
}

/// Coroutines and plain threads at the two ends.
#[test]
fn plain_threads_are_at_the_other_end() {
    on_one_and_on_three(|| {
        let (answers, _) = spread_crowd(10, |i| {
            let (ask, asked) = mpsc::sync_channel::<usize>(0);
            let (answer, answered) = crossbeam::bounded(0);
            let other = thread::spawn(move || {
                for value in asked {
                    answer.send(value * 2).unwrap();
                }
            });
            let mut sum = 0;
            for message in 0..MESSAGES {
                ask.send(i + message).unwrap();
                sum += answered.recv().unwrap();
            }
            drop(ask);
            other.join().unwrap();
            sum
        });
        each(&answers, |i| (0..MESSAGES).map(|it| 2 * (i + it)).sum());
    });
}

#[test]
fn pairs_meet_at_a_rendezvous_of_crossbeam() {
    on_one_and_on_three(|| {
        let (totals, _) = spread_crowd(CROWD, |i| {
            let (ask, asked) = crossbeam::bounded::<usize>(0);
            let (answer, answered) = crossbeam::bounded(0);
            let other = crore::spawn(move || {
                for value in asked {
                    answer.send(value + 1).unwrap();
                }
            });
            let mut value = i;
            for _ in 0..MESSAGES {
                ask.send(value + 1).unwrap();
                value = answered.recv().unwrap();
            }
            drop(ask);
            other.join().unwrap();
            value
        });
        each(&totals, |i| i + 2 * MESSAGES);
    });
}

/// Each takes from either of two channels until both are at their end; what
/// all took together is what was sent.
#[test]
fn crossbeam_selects() {
    on_one_and_on_three(|| {
        let (narrow, from_narrow) = crossbeam::bounded(1);
        let (wide, from_wide) = crossbeam::unbounded();
        let senders: Vec<_> = (0..CROWD)
            .map(|i| {
                let (narrow, wide) = (narrow.clone(), wide.clone());
                crore::spawn(move || {
                    for message in 0..MESSAGES {
                        narrow.send(i * MESSAGES + message).unwrap();
                        wide.send(1).unwrap();
                    }
                })
            })
            .collect();
        drop((narrow, wide));
        let (sums, _) = spread_crowd(CROWD, move |_| {
            let (mut from_narrow, mut from_wide) = (from_narrow.clone(), from_wide.clone());
            let (mut sums, mut open) = ((0, 0), 2);
            while open > 0 {
                crossbeam::select! {
                    recv(from_narrow) -> message => match message {
                        Ok(value) => sums.0 += value,
                        Err(_) => { from_narrow = crossbeam::never(); open -= 1; }
                    },
                    recv(from_wide) -> message => match message {
                        Ok(value) => sums.1 += value,
                        Err(_) => { from_wide = crossbeam::never(); open -= 1; }
                    },
                }
            }
            sums
        });
        for sender in senders {
            sender.join().unwrap();
        }
        let both = sums
            .iter()
            .fold((0, 0), |all, it| (all.0 + it.0, all.1 + it.1));
        let sent = CROWD * MESSAGES;
        assert_eq!(both, ((0..sent).sum::<usize>(), sent));
    });
}

#[test]
fn waits_at_channels_of_crossbeam_end_in_time() {
    on_one_and_on_three(|| {
        let woken = Arc::new(AtomicUsize::new(0));
        let theirs = Arc::clone(&woken);
        let (late, _) = spread_crowd(CROWD, move |_| {
            let (_send, receive) = crossbeam::bounded::<()>(1);
            let late = receive.recv_timeout(Duration::from_millis(5));
            let alarm = crossbeam::after(Duration::from_millis(5));
            crossbeam::select! {
                recv(receive) -> _ => unreachable!("nobody sends"),
                recv(alarm) -> _ => theirs.fetch_add(1, Ordering::Relaxed),
            };
            late
        });
        each(&late, |_| Err(crossbeam::RecvTimeoutError::Timeout));
        assert_eq!(woken.load(Ordering::Relaxed), CROWD);
    });
}
