//! Scenarios of the channels and of select; see the parent module.

use super::{MOMENT, begin};
use crate::shim::scenario::{check, crowd, join};
use crate::sync::channel::{
    self, Receiver, RecvTimeoutError, SendTimeoutError, Sender, select, select_timeout,
};
use crate::sync::{CancelToken, broadcast, watch};

const SENDERS: usize = 3;
const RECEIVERS: usize = 3;
const VALUES: usize = 3;

/// What this thread's values are, of which some are not accepted in time.
fn send_some(number: usize, tx: &Sender<usize>) -> Vec<usize> {
    let mut accepted = Vec::new();
    for value in (0..VALUES).map(|n| number * VALUES + n) {
        let sent = match value % 3 {
            0 => tx.send_timeout(value, MOMENT),
            _ => tx
                .send(value)
                .map_err(|_| SendTimeoutError::Disconnected(value)),
        };
        match sent {
            Ok(()) => accepted.push(value),
            Err(SendTimeoutError::Timeout(back)) => assert_eq!(back, value),
            Err(SendTimeoutError::Disconnected(_)) => panic!("receivers stay to the end"),
        }
    }
    accepted
}

/// Receives to the end, giving up now and then.
fn receive_all(number: usize, rx: &Receiver<usize>) -> Vec<usize> {
    let mut received = Vec::new();
    loop {
        let early = begin(rx.recv_async()).map(|early| early.map_err(Into::into));
        let next = early.unwrap_or_else(|| match number {
            0 => rx.recv_timeout(MOMENT),
            _ => rx.recv().map_err(Into::into),
        });
        match next {
            Ok(value) => received.push(value),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return received,
        }
    }
}

/// Each value that a sender got rid of comes out once.
fn stream(capacity: usize) {
    let (tx, rx) = channel::bounded(capacity);
    let receivers = crowd(RECEIVERS, move |number| receive_all(number, &rx));
    let senders = crowd(SENDERS, move |number| send_some(number, &tx.clone()));
    let (mut sent, mut received) = (join(senders).concat(), join(receivers).concat());
    sent.sort_unstable();
    received.sort_unstable();
    assert_eq!(sent, received);
}

#[test]
fn a_rendezvous_hands_each_value_over_once() {
    check(|| stream(0));
}

#[test]
fn a_channel_of_one_place_hands_each_value_over_once() {
    check(|| stream(1));
}

#[test]
fn a_channel_without_a_limit_hands_each_value_over_once() {
    check(|| stream(usize::MAX));
}

/// Four selects over two channels, of capacity 0 and 1, and four senders.
#[test]
fn each_select_takes_one_value() {
    check(|| {
        let (tx, rx) = channel::rendezvous();
        let (other_tx, other_rx) = channel::bounded(1);
        let selects = crowd(4, move |_| {
            let (mut one, mut other) = (rx.case(), other_rx.case());
            select(&mut [&mut one, &mut other]);
            let taken: Vec<_> = one.take().into_iter().chain(other.take()).collect();
            assert_eq!(taken.len(), 1, "{taken:?}");
            taken[0].expect("senders wait until it is taken")
        });
        let senders = crowd(4, move |number| {
            let tx = if number < 2 { &tx } else { &other_tx };
            tx.send(number).unwrap();
            // The channel stays: its end would be received, too.
            tx.clone()
        });
        let _senders = join(senders);
        let mut taken = join(selects);
        taken.sort_unstable();
        assert_eq!(taken, [0, 1, 2, 3]);
    });
}

/// Three select to send on one channel or to receive on the other, three the other way
/// round: they meet two by two.
#[test]
fn six_selects_meet_two_by_two() {
    check(|| {
        let (a_tx, a_rx) = channel::rendezvous();
        let (b_tx, b_rx) = channel::rendezvous();
        let met = join(crowd(6, move |number| {
            let (tx, rx) = match number % 2 {
                0 => (&a_tx, &b_rx),
                _ => (&b_tx, &a_rx),
            };
            let (mut send, mut recv) = (tx.case(number), rx.case());
            select(&mut [&mut send, &mut recv]);
            let (sent, received) = (send.take(), recv.take());
            assert!(sent.is_some() != received.is_some());
            assert!(sent.is_none_or(|sent| sent.is_ok()));
            received.map(|received| received.expect("all stay"))
        }));
        let received: Vec<_> = met.into_iter().flatten().collect();
        assert_eq!(received.len(), 3, "{received:?}");
        let mut different = received.clone();
        different.sort_unstable();
        different.dedup();
        assert_eq!(different.len(), 3, "{received:?}");
    });
}

/// Selects that give up lose no value: what came for them is theirs, or stays.
#[test]
fn selects_that_give_up_lose_nothing() {
    check(|| {
        let (tx, rx) = channel::bounded(1);
        let (other_tx, other_rx) = channel::rendezvous();
        let token = CancelToken::new();
        let theirs = token.clone();
        let selects = crowd(3, move |number| {
            let mut received = Vec::new();
            loop {
                let (mut one, mut other, mut end) = (rx.case(), other_rx.case(), theirs.case());
                let cases: &mut [&mut dyn channel::Case; 3] = &mut [&mut one, &mut other, &mut end];
                if number == 0 {
                    select_timeout(cases, MOMENT);
                } else {
                    select(cases);
                }
                received.extend(one.take().into_iter().chain(other.take()).flatten());
                if end.take().is_some() {
                    drop((one, other));
                    received.extend(rx.try_iter());
                    return received;
                }
            }
        });
        let senders = crowd(2, move |number| {
            let values = [2 * number, 2 * number + 1];
            let tx = if number == 0 { &tx } else { &other_tx };
            values.into_iter().for_each(|value| tx.send(value).unwrap());
            // The channel stays: its end would be received for ever.
            tx.clone()
        });
        let _senders = join(senders);
        token.cancel();
        let mut received = join(selects).concat();
        received.sort_unstable();
        assert_eq!(received, [0, 1, 2, 3]);
    });
}

/// Two senders and four receivers, each of which hears all or knows how many it missed.
#[test]
fn a_broadcast_is_counted_by_each_receiver() {
    check(|| {
        let (tx, rx) = broadcast::channel(2);
        let receivers: Vec<_> = std::iter::once(rx)
            .chain((0..3).map(|_| tx.subscribe()))
            .map(|mut rx| {
                shuttle::thread::spawn(move || {
                    let mut heard = 0;
                    loop {
                        match rx.recv() {
                            Ok(()) => heard += 1,
                            Err(broadcast::RecvError::Lagged(missed)) => heard += missed,
                            Err(broadcast::RecvError::Closed) => return heard,
                        }
                    }
                })
            })
            .collect();
        let tx = crate::shim::Arc::new(tx);
        join(crowd(2, move |_| {
            for _ in 0..3 {
                let _ = tx.send(());
            }
        }));
        assert_eq!(join(receivers), [6; 4]);
    });
}

/// Whatever comes between, each watcher sees the last value.
#[test]
fn watchers_see_the_last_value() {
    check(|| {
        let (tx, rx) = watch::channel(0);
        let watchers = crowd(4, move |number| {
            let mut rx = rx.clone();
            match number {
                0 => {
                    while *rx.borrow_and_update() < 6 {
                        let _ = rx.changed_timeout(MOMENT);
                    }
                }
                _ => drop(rx.wait_for(|value| *value >= 6).unwrap()),
            }
        });
        let tx = crate::shim::Arc::new(tx);
        let theirs = crate::shim::Arc::clone(&tx);
        join(crowd(2, move |_| {
            (0..3).for_each(|_| theirs.send_modify(|value| *value += 1));
        }));
        join(watchers);
    });
}
