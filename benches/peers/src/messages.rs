//! Messages through channels: tokio's tasks, and threads with the channels of
//! `std` and of flume. Coroutines have theirs in `crore-benches`.
//!
//! Two workloads. **Ping-pong**: two that answer each other through channels
//! of capacity one; nothing is ever in flight but one message, so each costs a
//! wake-up and a wait. **Stream**: one sends, one receives, with a capacity of
//! [`CAPACITY`].

use std::thread;
use std::time::Duration;

use crate::clock::now;

/// Room in a stream's channel.
pub const CAPACITY: usize = 128;

/// Sends `n` and wants each back, one more.
pub fn ping(n: u64, send: impl Fn(u64), receive: impl Fn() -> u64) {
    for i in 0..n {
        send(i);
        assert_eq!(receive(), i + 1);
    }
}

/// Sends back `n`, each one more.
pub fn pong(n: u64, send: impl Fn(u64), receive: impl Fn() -> u64) {
    (0..n).for_each(|_| send(receive() + 1));
}

/// Sends `n`.
pub fn stream(n: u64, send: impl Fn(u64)) {
    (0..n).for_each(send);
}

/// Receives `n`.
pub fn drain(n: u64, receive: impl Fn() -> u64) {
    let sum: u64 = (0..n).map(|_| receive()).sum();
    assert_eq!(sum, n * n.saturating_sub(1) / 2);
}

/// The time of both, the second of which runs on a thread of its own.
fn on_threads(here: impl FnOnce(), there: impl FnOnce() + Send) -> Duration {
    thread::scope(|scope| {
        let start = now();
        let there = scope.spawn(there);
        here();
        there.join().unwrap();
        now() - start
    })
}

/// Tasks: on the current_thread runtime, or on the multi-threaded one.
pub mod on_tokio {
    use super::*;
    use tokio::runtime::Builder;
    use tokio::sync::mpsc::channel;

    fn time(
        workers: usize,
        one: impl Future<Output = ()> + Send + 'static,
        other: impl Future<Output = ()> + Send + 'static,
    ) -> Duration {
        let runtime = if workers == 1 {
            Builder::new_current_thread().build()
        } else {
            Builder::new_multi_thread().worker_threads(workers).build()
        };
        let runtime = runtime.expect("threads can be had");
        runtime.block_on(async {
            let start = now();
            let (one, other) = (tokio::spawn(one), tokio::spawn(other));
            one.await.unwrap();
            other.await.unwrap();
            now() - start
        })
    }

    pub fn ping_pong(workers: usize, n: u64) -> Duration {
        let (to, mut inbox) = channel(1);
        let (back, mut outbox) = channel(1);
        let ping = async move {
            for i in 0..n {
                to.send(i).await.unwrap();
                assert_eq!(outbox.recv().await, Some(i + 1));
            }
        };
        let pong = async move {
            for _ in 0..n {
                let i: u64 = inbox.recv().await.unwrap();
                back.send(i + 1).await.unwrap();
            }
        };
        time(workers, ping, pong)
    }

    pub fn stream(workers: usize, n: u64) -> Duration {
        let (to, mut inbox) = channel(CAPACITY);
        let stream = async move {
            for i in 0..n {
                to.send(i).await.unwrap();
            }
        };
        let drain = async move {
            let mut sum = 0;
            while let Some(i) = inbox.recv().await {
                sum += i;
            }
            assert_eq!(sum, n * n.saturating_sub(1) / 2);
        };
        time(workers, stream, drain)
    }
}

/// Two threads and the channel of `std`.
pub mod on_std {
    use super::*;
    use std::sync::mpsc::sync_channel;

    pub fn ping_pong(n: u64) -> Duration {
        let (to, inbox) = sync_channel(1);
        let (back, outbox) = sync_channel(1);
        on_threads(
            move || ping(n, |i| to.send(i).unwrap(), || outbox.recv().unwrap()),
            move || pong(n, |i| back.send(i).unwrap(), || inbox.recv().unwrap()),
        )
    }

    pub fn stream(n: u64) -> Duration {
        let (to, inbox) = sync_channel(CAPACITY);
        on_threads(
            move || super::stream(n, |i| to.send(i).unwrap()),
            move || drain(n, || inbox.recv().unwrap()),
        )
    }
}

/// Two threads and the channel of flume.
pub mod on_flume {
    use super::*;
    use flume::bounded;

    pub fn ping_pong(n: u64) -> Duration {
        let (to, inbox) = bounded(1);
        let (back, outbox) = bounded(1);
        on_threads(
            move || ping(n, |i| to.send(i).unwrap(), || outbox.recv().unwrap()),
            move || pong(n, |i| back.send(i).unwrap(), || inbox.recv().unwrap()),
        )
    }

    pub fn stream(n: u64) -> Duration {
        let (to, inbox) = bounded(CAPACITY);
        on_threads(
            move || super::stream(n, |i| to.send(i).unwrap()),
            move || drain(n, || inbox.recv().unwrap()),
        )
    }
}
