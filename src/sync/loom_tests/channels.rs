//! loom models of the channels and of select; see the parent module.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use loom::sync::Arc;
use loom::thread;

use super::*;
use crate::sync::channel::{self, Case, RecvError, SendError, TryRecvError, select_async};

/// Two values through a channel, then its end.
fn stream(capacity: usize) {
    let (tx, rx) = channel::bounded(capacity);
    let sender = thread::spawn(move || {
        tx.send(1).unwrap();
        tx.send(2).unwrap();
    });
    assert_eq!(
        (rx.recv(), rx.recv(), rx.recv()),
        (Ok(1), Ok(2), Err(RecvError))
    );
    sender.join().unwrap();
}

#[test]
fn channel_bounded_by_one_streams() {
    loom::model(|| stream(1));
}

#[test]
fn channel_rendezvous_streams() {
    loom::model(|| stream(0));
}

#[test]
fn channel_unbounded_streams() {
    loom::model(|| stream(usize::MAX));
}

#[test]
fn channel_with_two_receivers_gives_each_value_once() {
    bounded(|| {
        let (tx, rx) = channel::bounded(1);
        let other_rx = rx.clone();
        let other = thread::spawn(move || assert!(other_rx.recv().is_ok_and(|n| n < 2)));
        let sender = thread::spawn(move || (0..2).for_each(|n| tx.send(n).unwrap()));
        assert!(rx.recv().is_ok());
        drop(rx);
        other.join().unwrap();
        sender.join().unwrap();
    });
}

#[test]
fn channel_disconnect_races_a_waiting_receiver() {
    loom::model(|| {
        let (tx, rx) = channel::bounded::<u32>(1);
        let sender = thread::spawn(move || drop(tx));
        assert_eq!(finish(rx.recv_async(), join(sender)), Err(RecvError));
    });
}

#[test]
fn channel_disconnect_races_a_waiting_sender() {
    loom::model(|| {
        let (tx, rx) = channel::rendezvous();
        let value = Arc::new(());
        let receiver = thread::spawn(move || drop(rx));
        let sent = finish(tx.send_async(value.clone()), join(receiver));
        assert!(matches!(sent, Err(SendError(_))));
        drop(sent);
        assert_eq!(Arc::strong_count(&value), 1, "neither lost nor doubled");
    });
}

/// A receiver gives up at the moment when it is handed a value.
#[test]
fn channel_value_of_a_dropped_receiver_goes_on() {
    loom::model(|| {
        let (tx, rx) = channel::rendezvous();
        let mut first = rx.recv_async();
        assert!(poll(&mut first, &Flag::new()).is_pending());
        let sender = thread::spawn(move || tx.send(1).unwrap());
        let got = finish(rx.recv_async(), || {
            drop(first);
            sender.join().unwrap();
        });
        assert_eq!(got, Ok(1));
        assert_eq!(rx.try_recv(), Err(TryRecvError::Disconnected));
    });
}

/// What `RecvFuture` must not do: look, let go of the lock, then queue.
struct Careless<'a> {
    receiver: &'a channel::Receiver<u32>,
    future: channel::RecvFuture<'a, u32>,
    queued: bool,
}

impl Future for Careless<'_> {
    type Output = Result<u32, RecvError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.queued {
            return Pin::new(&mut self.future).poll(cx);
        }
        if let Ok(value) = self.receiver.try_recv() {
            return Poll::Ready(Ok(value));
        }
        self.future.queue_without_a_look(cx.waker().clone());
        self.queued = true;
        Poll::Pending
    }
}

#[test]
#[should_panic(expected = "lost wake-up")]
fn channel_receiver_without_second_look_is_caught() {
    loom::model(|| {
        let (tx, rx) = channel::bounded(1);
        let _keep = tx.clone();
        let sender = thread::spawn(move || tx.send(1).unwrap());
        let careless = Careless {
            receiver: &rx,
            future: rx.recv_async(),
            queued: false,
        };
        let got = finish(careless, join(sender));
        assert_eq!(got, Ok(1));
    });
}

// ---- select ----

/// Two senders, a select over both channels: one value each time, none lost.
#[test]
fn select_takes_exactly_one() {
    loom::model(|| {
        let (tx1, rx1) = channel::bounded(1);
        let (tx2, rx2) = channel::bounded(1);
        let one = thread::spawn(move || tx1.send(1).unwrap());
        let two = thread::spawn(move || tx2.send(2).unwrap());
        let (mut case1, mut case2) = (rx1.case(), rx2.case());
        let chosen = finish(select_async(&mut [&mut case1, &mut case2]), || {
            one.join().unwrap();
            two.join().unwrap();
        });
        let got = if chosen == 0 {
            case1.take()
        } else {
            case2.take()
        };
        assert_eq!(got, Some(Ok(chosen + 1)));
        assert!(case1.take().or(case2.take()).is_none());
        let left = rx1.try_recv().or(rx2.try_recv());
        assert_eq!(left, Ok(2 - chosen));
    });
}

fn meet(flip: bool) {
    loom::model(move || {
        let (a_tx, a_rx) = channel::rendezvous::<u32>();
        let (b_tx, b_rx) = channel::rendezvous::<u32>();
        // Each sends on one channel and receives on the other: two pairs of
        // cases match, and exactly one of them must.
        let other = thread::spawn(move || {
            let (mut send, mut recv) = (b_tx.case(2), a_rx.case());
            let mut cases: [&mut (dyn Case + Send); 2] = [&mut recv, &mut send];
            if flip {
                cases.reverse();
            }
            block_on(select_async(&mut cases));
            let (sent, received) = (send.take(), recv.take());
            assert!(sent.is_some() != received.is_some());
            if let Some(received) = received {
                assert_eq!(received, Ok(1));
            }
        });
        let (mut send, mut recv) = (a_tx.case(1), b_rx.case());
        block_on(select_async(&mut [&mut send, &mut recv]));
        let (sent, received) = (send.take(), recv.take());
        assert!(sent.is_some() != received.is_some());
        if let Some(received) = received {
            assert_eq!(received, Ok(2));
        }
        other.join().unwrap();
    });
}

#[test]
fn selects_meet_in_the_same_order() {
    meet(false);
}

#[test]
fn selects_meet_in_opposite_order() {
    meet(true);
}

/// One of two selects that could meet is claimed by a third party.
#[test]
fn selects_meet_or_leave_who_has_another_partner() {
    bounded(|| {
        let (a_tx, a_rx) = channel::rendezvous::<u32>();
        let (b_tx, b_rx) = channel::bounded(1);
        let (_keep, never) = channel::rendezvous::<u32>();
        // Refused if the other has met us, and has ended.
        let third = thread::spawn(move || b_tx.send(2).is_ok());
        let other = thread::spawn(move || {
            let (mut a, mut b) = (a_rx.case(), b_rx.case());
            block_on(select_async(&mut [&mut a, &mut b]));
            let (from_a, from_b) = (a.take(), b.take());
            assert!(from_a.is_some() != from_b.is_some());
            from_a == Some(Ok(1))
        });
        let (mut send, mut recv) = (a_tx.case(1), never.case());
        {
            let mut cases: [&mut (dyn Case + Send); 2] = [&mut send, &mut recv];
            let _ = poll(&mut select_async(&mut cases), &Flag::new());
        }
        let sent = send.take().is_some_and(|sent| sent.is_ok());
        drop((send, recv));
        drop(a_tx);
        third.join().unwrap();
        assert_eq!(other.join().unwrap(), sent);
    });
}

#[test]
fn select_dropped_half_way_keeps_the_value() {
    loom::model(|| {
        let (tx, rx) = channel::rendezvous();
        let (_keep, silent) = channel::rendezvous::<u32>();
        let sender = thread::spawn(move || tx.send(1).is_ok());
        {
            let (mut case, mut never) = (rx.case(), silent.case());
            let mut cases: [&mut (dyn Case + Send); 2] = [&mut case, &mut never];
            let mut future = select_async(&mut cases);
            let _ = poll(&mut future, &Flag::new());
        }
        assert_eq!(rx.recv(), Ok(1));
        assert!(sender.join().unwrap());
    });
}
