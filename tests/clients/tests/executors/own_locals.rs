//! Locks, channels and executors of others that know threads, unmodified,
//! between coroutines with thread-locals of their own.

use std::sync::Arc;
use std::time::Duration;

use crore::{Builder, JoinHandle};

const MANY: u32 = 16;
const ROUNDS: u32 = 50;

fn own<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    Builder::new().own_thread_locals(true).spawn(f).unwrap()
}

/// Runs `f` with one worker and with two.
fn on_workers(f: fn()) {
    for workers in [1, 2] {
        let runtime = crore::Runtime::builder().workers(workers).build().unwrap();
        runtime.run(f).unwrap();
    }
}

fn all<T: Send + 'static>(f: impl Fn(u32) -> T + Send + Sync + 'static) -> Vec<T> {
    let f = Arc::new(f);
    let spawned: Vec<_> = (0..MANY)
        .map(|i| {
            let f = Arc::clone(&f);
            own(move || f(i))
        })
        .collect();
    spawned.into_iter().map(|one| one.join().unwrap()).collect()
}

#[test]
fn parking_lot_queues_coroutines() {
    on_workers(|| {
        let sum = Arc::new(parking_lot::Mutex::new(0));
        let theirs = Arc::clone(&sum);
        all(move |_| {
            for _ in 0..ROUNDS {
                let mut sum = theirs.lock();
                let before = *sum;
                crore::yield_now();
                *sum = before + 1;
            }
        });
        assert_eq!(*sum.lock(), MANY * ROUNDS);
        let lock = Arc::new(parking_lot::ReentrantMutex::new(std::cell::Cell::new(0)));
        let theirs = Arc::clone(&lock);
        all(move |_| {
            let outer = theirs.lock();
            let before = outer.get();
            crore::yield_now();
            let inner = theirs.lock();
            crore::yield_now();
            assert_eq!(inner.get(), before, "nobody else was inside");
            inner.set(before + 1);
        });
        assert_eq!(lock.lock().get(), MANY);
        let turn = Arc::new((parking_lot::Mutex::new(0), parking_lot::Condvar::new()));
        all(move |i| {
            let (lock, changed) = &*turn;
            let mut turn = lock.lock();
            changed.wait_while(&mut turn, |turn| *turn != i);
            *turn += 1;
            changed.notify_all();
        });
    });
}

#[test]
fn crossbeam_channels() {
    on_workers(|| {
        for room in [0, 1, 100] {
            let (sender, receiver) = crossbeam_channel::bounded(room);
            let sums = all(move |i| {
                if i % 2 == 0 {
                    (0..ROUNDS).for_each(|round| sender.send(u64::from(round)).unwrap());
                    0
                } else {
                    let times = 0..ROUNDS;
                    times.map(|_| receiver.recv().unwrap()).sum::<u64>()
                }
            });
            let expected = (0..u64::from(ROUNDS)).sum::<u64>() * u64::from(MANY / 2);
            assert_eq!(sums.into_iter().sum::<u64>(), expected);
        }
    });
}

#[test]
fn each_blocks_on_a_tokio_runtime_of_its_own() {
    on_workers(|| {
        let sums = all(|i| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
                let sending = tokio::spawn(async move {
                    for round in 0..ROUNDS {
                        tokio::time::sleep(Duration::from_micros(100)).await;
                        sender.send(round).await.unwrap();
                    }
                });
                let mut sum = i;
                while let Some(number) = receiver.recv().await {
                    sum += number;
                }
                sending.await.unwrap();
                sum
            })
        });
        let expected = MANY * (0..ROUNDS).sum::<u32>() + (0..MANY).sum::<u32>();
        assert_eq!(sums.into_iter().sum::<u32>(), expected);
    });
}
