//! Promise: a waiting future of `crore::sync` may be dropped at any time. No
//! wake-up, permit or value is lost by it, and none is doubled.
//!
//! A small executor polls only what was woken, in random order, and drops at
//! random. When nothing is woken any more, nothing may be left waiting.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake};

use crore::sync::{channel, *};

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Task<'a> {
    future: Pin<Box<dyn Future<Output = ()> + 'a>>,
    woken: Arc<Woken>,
}

struct Executor<'a> {
    tasks: Vec<Task<'a>>,
    random: u64,
}

impl<'a> Executor<'a> {
    fn new(seed: u64) -> Self {
        Self {
            tasks: Vec::new(),
            random: (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15),
        }
    }

    fn below(&mut self, n: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 20) as usize % n
    }

    fn spawn(&mut self, future: impl Future<Output = ()> + 'a) {
        let woken = Arc::new(Woken(AtomicBool::new(true)));
        self.tasks.push(Task {
            future: Box::pin(future),
            woken,
        });
    }

    /// Polls what is woken until nothing is; drops about one task in
    /// `drop_one_in` steps. Returns how many still wait.
    fn run(&mut self, drop_one_in: usize) -> usize {
        loop {
            let woken: Vec<_> = (0..self.tasks.len())
                .filter(|&i| self.tasks[i].woken.0.load(Ordering::Relaxed))
                .collect();
            if woken.is_empty() {
                return self.tasks.len();
            }
            if self.below(drop_one_in) == 0 {
                let victim = self.below(self.tasks.len());
                drop(self.tasks.swap_remove(victim));
                continue;
            }
            let at = woken[self.below(woken.len())];
            let task = &mut self.tasks[at];
            // Now and then another waker, as executors do.
            let changed = Arc::new(Woken(AtomicBool::new(false)));
            let old = std::mem::replace(&mut task.woken, changed);
            let waker = task.woken.clone().into();
            drop(old);
            if task
                .future
                .as_mut()
                .poll(&mut Context::from_waker(&waker))
                .is_ready()
            {
                drop(self.tasks.swap_remove(at));
            }
        }
    }
}

/// Gives the others a turn.
async fn turn() {
    let mut first = true;
    std::future::poll_fn(|cx| {
        if std::mem::take(&mut first) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    })
    .await;
}

#[test]
fn mutexes_are_never_left_locked() {
    for seed in 0..300 {
        let (mutex, inside) = (Mutex::new(()), Cell::new(0));
        let mut executor = Executor::new(seed);
        for _ in 0..12 {
            executor.spawn(async {
                for _ in 0..5 {
                    let _guard = mutex.lock_async().await.unwrap();
                    struct Leave<'a>(&'a Cell<u32>);
                    impl Drop for Leave<'_> {
                        fn drop(&mut self) {
                            self.0.set(self.0.get() - 1);
                        }
                    }
                    inside.set(inside.get() + 1);
                    let _leave = Leave(&inside);
                    assert_eq!(inside.get(), 1);
                    turn().await;
                }
            });
        }
        assert_eq!(executor.run(10), 0, "seed {seed}: lost wake-up");
        assert!(mutex.try_lock().is_ok());
    }
}

#[test]
fn permits_balance() {
    for seed in 0..300 {
        let semaphore = Semaphore::new(3);
        let lock = RwLock::new(0);
        let mut executor = Executor::new(seed);
        for i in 0..12 {
            let (semaphore, lock) = (&semaphore, &lock);
            executor.spawn(async move {
                for round in 0..4 {
                    let permit = semaphore.acquire_async(1 + (i + round) % 3).await.unwrap();
                    turn().await;
                    drop(permit);
                    if (i + round) % 4 == 0 {
                        *lock.write_async().await.unwrap() += 1;
                    } else {
                        let guard = lock.read_async().await.unwrap();
                        turn().await;
                        drop(guard);
                    }
                }
            });
        }
        assert_eq!(executor.run(12), 0, "seed {seed}: lost wake-up");
        assert_eq!(semaphore.available_permits(), 3);
        assert!(lock.try_write().is_ok());
    }
}

#[test]
fn notifications_are_passed_on() {
    for seed in 0..300 {
        let notify = Notify::new();
        let mut executor = Executor::new(seed);
        for _ in 0..10 {
            // Each wakes the next: a token that goes round.
            executor.spawn(async {
                struct Pass<'a>(&'a Notify);
                impl Drop for Pass<'_> {
                    fn drop(&mut self) {
                        self.0.notify_one();
                    }
                }
                notify.notified().await;
                let _pass = Pass(&notify);
                turn().await;
            });
        }
        notify.notify_one();
        assert_eq!(executor.run(8), 0, "seed {seed}: the token was lost");
        assert!(notify.try_wait() && !notify.try_wait());
    }
}

async fn arrive(barrier: &Barrier) {
    barrier.wait_async().await;
}

#[test]
fn barriers_count_who_is_there() {
    let barrier = Barrier::new(3);
    let mut executor = Executor::new(1);
    executor.spawn(arrive(&barrier));
    executor.spawn(arrive(&barrier));
    assert_eq!(executor.run(usize::MAX), 2);
    drop(executor.tasks.pop());
    executor.spawn(arrive(&barrier));
    assert_eq!(
        executor.run(usize::MAX),
        2,
        "the one that left does not count"
    );
    executor.spawn(arrive(&barrier));
    assert_eq!(executor.run(usize::MAX), 0);
}

#[test]
fn an_initialiser_that_is_dropped_lets_the_next_try() {
    for seed in 0..100 {
        let cell = OnceCell::new();
        let mut executor = Executor::new(seed);
        for i in 0..6 {
            let cell = &cell;
            executor.spawn(async move {
                cell.get_or_init_async(|| async move {
                    turn().await;
                    i
                })
                .await;
            });
        }
        assert_eq!(executor.run(5), 0, "seed {seed}: lost wake-up");
        assert_eq!(cell.get(), Some(cell.get_or_init(|| 99)));
    }
}

/// What was accepted and what came out, in numbers, when senders, receivers
/// and selects are dropped half-way.
#[test]
fn channel_values_balance() {
    for seed in 0..600 {
        let capacity = seed as usize % 4;
        let (tx, rx) = channel::bounded::<Rc<usize>>(capacity);
        let values: Vec<_> = (0..80).map(Rc::new).collect();
        let received = RefCell::new(Vec::new());
        let mut executor = Executor::new(seed);
        for i in 0..8 {
            let (tx, values) = (tx.clone(), &values[i * 10..][..10]);
            executor.spawn(async move {
                for value in values {
                    if tx.send_async(value.clone()).await.is_err() {
                        return;
                    }
                }
            });
        }
        for _ in 0..6 {
            let (rx, received) = (rx.clone(), &received);
            executor.spawn(async move {
                while let Ok(value) = rx.recv_async().await {
                    received.borrow_mut().push(*value);
                    turn().await;
                }
            });
        }
        drop((tx, rx));
        assert_eq!(executor.run(15), 0, "seed {seed}: lost wake-up");
        let mut received = received.take();
        let n = received.len();
        received.sort_unstable();
        received.dedup();
        assert_eq!(received.len(), n, "seed {seed}: a value came twice");
        assert!(
            values.iter().all(|value| Rc::strong_count(value) == 1),
            "seed {seed}: a value leaked"
        );
    }
}

#[test]
fn receivers_that_are_dropped_lose_no_value() {
    for seed in 0..300 {
        let (tx, rx) = channel::bounded(seed as usize % 3);
        let (other_tx, other) = channel::bounded(1);
        let received = RefCell::new(Vec::new());
        let mut executor = Executor::new(seed);
        executor.spawn(async {
            for i in 0..60 {
                tx.send_async(i).await.unwrap();
                if i % 3 == 0 {
                    other_tx.send_async(i + 1_000).await.unwrap();
                }
            }
        });
        // Poll, and drop at random, receivers and selects; take what is ready.
        let waker = std::task::Waker::noop();
        let mut cx = Context::from_waker(waker);
        while received.borrow().len() < 80 {
            executor.run(usize::MAX);
            let mut plain = rx.recv_async();
            let (mut case, mut other_case) = (rx.case(), other.case());
            if executor.below(2) == 0 {
                let mut cases: [&mut (dyn channel::Case + Send); 2] = [&mut case, &mut other_case];
                let mut select = channel::select_async(&mut cases);
                let first = Pin::new(&mut select).poll(&mut cx).is_ready();
                executor.run(usize::MAX);
                let again = first
                    || executor.below(2) == 0 && Pin::new(&mut select).poll(&mut cx).is_ready();
                drop(select);
                if again {
                    received
                        .borrow_mut()
                        .extend(case.take().or(other_case.take()).and_then(Result::ok));
                }
            } else if let Poll::Ready(value) = Pin::new(&mut plain).poll(&mut cx) {
                received.borrow_mut().extend(value.ok());
            } else {
                executor.run(usize::MAX);
                received.borrow_mut().extend(other.try_recv().ok());
            }
        }
        let mut received = received.take();
        received.sort_unstable();
        let expected = (0..60).chain((0..60).step_by(3).map(|i| i + 1_000));
        assert!(received.into_iter().eq(expected), "seed {seed}");
    }
}
