//! Models of what is told: broadcasts, watched values, and selects over them and tokens.

use loom::thread;

use super::{finish, join};
use crate::sync::channel::{self, select_async};
use crate::sync::{CancelToken, broadcast, oneshot, watch};

#[test]
fn a_broadcast_reaches_who_waits() {
    loom::model(|| {
        let (tx, mut rx) = broadcast::channel(1);
        let sender = thread::spawn(move || _ = tx.send(1));
        assert_eq!(finish(Box::pin(rx.recv_async()), join(sender)), Ok(1));
    });
}

#[test]
fn the_last_sender_is_heard_of() {
    loom::model(|| {
        let (tx, mut rx) = broadcast::channel::<u32>(1);
        let (sets, mut sees) = watch::channel(0);
        let sender = thread::spawn(move || drop((tx, sets)));
        let closed = finish(Box::pin(rx.recv_async()), join(sender));
        assert_eq!(closed, Err(broadcast::RecvError::Closed));
        assert!(sees.changed().is_err());
    });
}

#[test]
fn a_change_wakes_who_watches() {
    loom::model(|| {
        let (tx, mut rx) = watch::channel(0);
        let sender = thread::spawn(move || tx.send(1).unwrap());
        finish(Box::pin(rx.changed_async()), join(sender)).unwrap();
        assert_eq!(*rx.borrow_and_update(), 1);
        assert!(!rx.has_changed());
    });
}

#[test]
fn a_oneshot_is_there_or_given_back() {
    loom::model(|| {
        let (tx, rx) = oneshot::channel();
        let sender = thread::spawn(move || tx.send(1).is_ok());
        let got = rx.try_recv().is_ok();
        drop(rx);
        let sent = sender.join().unwrap();
        assert!(sent || !got);
    });
}

/// A partner that completes a case, and a state that changes: one of them wins, and the
/// other has lost nothing.
#[test]
fn a_select_over_a_channel_and_a_token_takes_one() {
    loom::model(|| {
        let (tx, rx) = channel::bounded(1);
        let token = CancelToken::new();
        let theirs = token.clone();
        let sender = thread::spawn(move || tx.send(1).unwrap());
        let canceller = thread::spawn(move || theirs.cancel());
        let (mut recv, mut end) = (rx.case(), token.case());
        let chosen = finish(select_async(&mut [&mut recv, &mut end]), || {
            sender.join().unwrap();
            canceller.join().unwrap();
        });
        let (got, ended) = (recv.take(), end.take());
        match chosen {
            0 => assert!(got == Some(Ok(1)) && ended.is_none()),
            _ => assert!(got.is_none() && ended.is_some() && rx.try_recv() == Ok(1)),
        }
    });
}

#[test]
fn a_select_over_broadcasts_counts_on_for_one_only() {
    loom::model(|| {
        let (one, mut first) = broadcast::channel(1);
        let (other, mut second) = broadcast::channel(1);
        let senders = [one, other].map(|tx| thread::spawn(move || _ = tx.send(1)));
        let (mut a, mut b) = (first.case(), second.case());
        let chosen = finish(select_async(&mut [&mut a, &mut b]), || {
            senders.into_iter().for_each(|one| one.join().unwrap());
        });
        let taken = [a.take(), b.take()];
        drop((a, b));
        assert_eq!(taken[chosen], Some(Ok(1)));
        assert_eq!(taken[1 - chosen], None);
        let left = if chosen == 0 { &mut second } else { &mut first };
        assert_eq!(left.try_recv(), Ok(1));
    });
}

/// A token that gets its second chance by a wake-up of another case.
#[test]
fn a_select_that_is_dropped_leaves_its_places() {
    loom::model(|| {
        let (tx, mut rx) = broadcast::channel(1);
        let token = CancelToken::new();
        let theirs = token.clone();
        let both = thread::spawn(move || {
            let _ = tx.send(1);
            theirs.cancel();
        });
        {
            let (mut news, mut end) = (rx.case(), token.case());
            let mut cases: [&mut (dyn channel::Case + Send); 2] = [&mut news, &mut end];
            let mut select = select_async(&mut cases);
            let _ = super::poll(&mut select, &super::Flag::new());
        }
        both.join().unwrap();
        assert_eq!(rx.try_recv(), Ok(1));
    });
}
