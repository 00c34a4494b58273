//! The promise: `block_on` waits for any future, whoever wakes it and however.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::AcqRel, Ordering::Relaxed};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Waker};
use std::thread;

use crore::block_on;

use crate::common::{in_child, stderr};

/// Runs it in a coroutine, on a shared stack, and on a plain thread.
fn everywhere(f: impl Fn() + Clone + Send + 'static) {
    let again = f.clone();
    crore::run(|| {
        crore::spawn(f.clone()).join().unwrap();
        // SAFETY: the closures of this file keep all that others see on the heap.
        unsafe { crore::spawn_shared(f) }.join().unwrap();
    })
    .unwrap();
    again();
}

/// Ready at the n-th poll; calls `wake` in each one before.
fn after_polls(n: u32, wake: impl Fn(&Waker)) -> impl Future<Output = u32> {
    let mut polls = 0;
    poll_fn(move |cx| {
        polls += 1;
        if polls == n {
            return Poll::Ready(polls);
        }
        wake(cx.waker());
        Poll::Pending
    })
}

#[test]
fn those_that_wake_themselves() {
    everywhere(|| {
        assert_eq!(block_on(after_polls(1, |_| unreachable!())), 1);
        assert_eq!(block_on(after_polls(100, Waker::wake_by_ref)), 100);
        assert_eq!(
            block_on(after_polls(100, |waker| waker.clone().wake_by_ref())),
            100
        );
        let many = |waker: &Waker| (0..10).for_each(|_| waker.wake_by_ref());
        assert_eq!(block_on(after_polls(100, many)), 100);
    });
}

#[test]
fn those_that_wake_themselves_let_others_run() {
    crore::run(|| {
        let turns = Arc::new(AtomicU32::new(0));
        let theirs = Arc::clone(&turns);
        let other = crore::spawn(move || {
            for _ in 0..100 {
                theirs.fetch_add(1, Relaxed);
                crore::yield_now();
            }
        });
        block_on(after_polls(51, Waker::wake_by_ref));
        assert!(turns.load(Relaxed) >= 50);
        other.join().unwrap();
    })
    .unwrap();
}

/// What a thread fills and a future waits for.
#[derive(Default)]
struct Shelf<T> {
    value: Option<T>,
    waker: Option<Waker>,
}

/// Ready when the shelf is filled; replaces its waker at every poll.
fn filled<T>(shelf: Arc<Mutex<Shelf<T>>>) -> impl Future<Output = T> {
    poll_fn(move |cx| {
        let mut shelf = shelf.lock().unwrap();
        match shelf.value.take() {
            Some(value) => Poll::Ready(value),
            None => {
                shelf.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    })
}

fn fill<T>(shelf: &Mutex<Shelf<T>>, value: T) {
    let mut shelf = shelf.lock().unwrap();
    shelf.value = Some(value);
    let waker = shelf.waker.take();
    drop(shelf);
    waker.inspect(Waker::wake_by_ref);
}

#[test]
fn those_that_another_thread_wakes() {
    everywhere(|| {
        for round in 0..200u32 {
            let shelf = Arc::new(Mutex::new(Shelf::default()));
            let theirs = Arc::clone(&shelf);
            let thread = thread::spawn(move || fill(&theirs, round));
            assert_eq!(block_on(filled(shelf)), round);
            thread.join().unwrap();
        }
    });
}

#[test]
fn those_of_another_library() {
    everywhere(|| {
        let (send, receive) = futures::channel::oneshot::channel();
        let thread = thread::spawn(move || send.send("from a thread").unwrap());
        assert_eq!(block_on(receive).unwrap(), "from a thread");
        thread.join().unwrap();

        use futures::{SinkExt, StreamExt};
        let (mut send, receive) = futures::channel::mpsc::channel(1);
        let thread = thread::spawn(move || {
            block_on(async {
                for i in 0..1000u32 {
                    send.send(i).await.unwrap();
                }
            });
        });
        let sum = block_on(receive.fold(0, async |sum, i| sum + i));
        assert_eq!(sum, 499_500);
        thread.join().unwrap();
    });
}

#[test]
fn wakers_of_one_coroutine_are_equal_and_of_two_are_not() {
    let here = || block_on(poll_fn(|cx| Poll::Ready(cx.waker().clone())));
    crore::run(|| {
        assert!(here().will_wake(&here()));
        let other = crore::spawn(here).join().unwrap();
        assert!(!here().will_wake(&other));
    })
    .unwrap();
}

#[test]
fn a_waker_outlives_everything_and_does_nothing_then() {
    let here = || block_on(poll_fn(|cx| Poll::Ready(cx.waker().clone())));
    let (of_ended, of_main) = crore::run(|| {
        let of_ended = crore::spawn(here).join().unwrap();
        // Somebody else lives in its place now, and waits for nothing of it.
        let other = crore::spawn(|| {
            let mut polls = 0;
            block_on(poll_fn(|cx| {
                polls += 1;
                if polls == 3 {
                    return Poll::Ready(polls);
                }
                cx.waker().wake_by_ref();
                Poll::Pending
            }))
        });
        (0..10).for_each(|_| of_ended.wake_by_ref());
        assert_eq!(other.join().unwrap(), 3);
        (of_ended, here())
    })
    .unwrap();
    of_ended.wake_by_ref();
    crore::run(|| {
        of_main.wake_by_ref();
        let theirs = of_main.clone();
        thread::spawn(move || theirs.wake()).join().unwrap();
        crore::spawn(crore::yield_now).join().unwrap();
    })
    .unwrap();
    drop(of_main);
}

/// In a child: other tests' runtimes would have this one's places.
#[test]
fn an_id_of_an_ended_runtime_means_nobody_in_the_next() {
    let name = "an_id_of_an_ended_runtime_means_nobody_in_the_next";
    let output = in_child(name, || {
        let old = crore::run(|| {
            let ended: Vec<_> = (0..10).map(|_| crore::spawn(|| ())).collect();
            let ids: Vec<_> = ended.iter().map(|one| one.coroutine().id()).collect();
            ended.into_iter().for_each(|one| one.join().unwrap());
            ids
        })
        .unwrap();
        crore::run(|| {
            // Here, too, main is the first, and these come after it.
            let new: Vec<_> = (0..10).map(|_| crore::spawn(crore::park)).collect();
            crore::yield_now();
            for id in old {
                id.unpark();
                id.cancel();
            }
            (0..3).for_each(|_| crore::yield_now());
            assert!(new.iter().all(|one| !one.is_finished()));
            for one in new {
                one.coroutine().unpark();
                one.join().unwrap();
            }
        })
        .unwrap();
    });
    assert!(output.status.success(), "{}", stderr(&output));
}

/// Tells its wakers' and its own end.
struct Unready(Arc<AtomicUsize>);

impl Future for Unready {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

impl Drop for Unready {
    fn drop(&mut self) {
        self.0.fetch_add(1, Relaxed);
    }
}

#[test]
fn a_future_dropped_half_way() {
    let drops = Arc::new(AtomicUsize::new(0));
    let theirs = Arc::clone(&drops);
    // By the code that waits, …
    everywhere(move || {
        let before = theirs.load(Relaxed);
        let first = futures::future::select(
            Unready(Arc::clone(&theirs)),
            Box::pin(after_polls(3, Waker::wake_by_ref)),
        );
        drop(block_on(first));
        assert_eq!(theirs.load(Relaxed), before + 1);
    });
    // … and by cancellation.
    let theirs = Arc::clone(&drops);
    let before = drops.load(Relaxed);
    crore::run(|| {
        let handle = crore::spawn(move || block_on(Unready(theirs)));
        crore::yield_now();
        handle.cancel();
        assert!(handle.join().unwrap_err().is_cancelled());
    })
    .unwrap();
    assert_eq!(drops.load(Relaxed), before + 1);
}

#[test]
fn a_future_that_panics_panics_its_coroutine() {
    crore::run(|| {
        let handle = crore::spawn(|| {
            block_on(async {
                futures::future::ready(()).await;
                panic!("in a future");
            })
        });
        let error: crore::JoinError = handle.join().unwrap_err();
        assert_eq!(error.to_string(), "coroutine panicked: in a future");
    })
    .unwrap();
}

#[test]
fn block_on_within_block_on() {
    everywhere(|| {
        let value = block_on(async {
            let inner = block_on(after_polls(5, Waker::wake_by_ref));
            inner + after_polls(7, Waker::wake_by_ref).await
        });
        assert_eq!(value, 12);
    });
}

#[test]
fn a_plain_thread_s_token_is_only_borrowed() {
    // Somebody else's unpark makes it look again, and no harm is done.
    let (send, receive) = mpsc::channel();
    let thread = thread::spawn(move || {
        send.send(thread::current()).unwrap();
        block_on(after_polls(1000, Waker::wake_by_ref))
    });
    let theirs = receive.recv().unwrap();
    while !thread.is_finished() {
        theirs.unpark();
    }
    assert_eq!(thread.join().unwrap(), 1000);
}

/// Tickets that threads hand to a coroutine, which waits for each of them.
#[derive(Default)]
struct Till {
    tickets: AtomicU32,
    waker: Mutex<Option<Waker>>,
}

impl Till {
    fn give(&self) {
        self.tickets.fetch_add(1, AcqRel);
        let waker = self.waker.lock().unwrap().take();
        waker.inspect(Waker::wake_by_ref);
    }

    /// Takes at least one; says how many.
    fn take(&self) -> impl Future<Output = u32> + '_ {
        poll_fn(|cx| {
            // The waker first, then the look: a ticket given in between wakes.
            *self.waker.lock().unwrap() = Some(cx.waker().clone());
            match self.tickets.swap(0, AcqRel) {
                0 => Poll::Pending,
                some => Poll::Ready(some),
            }
        })
    }
}

#[test]
fn threads_wake_thousands_at_random_and_nothing_is_lost() {
    const COROUTINES: usize = 2000;
    const THREADS: u64 = 4;
    const EACH: u32 = 10;

    let tills: Arc<Vec<Till>> = Arc::new((0..COROUTINES).map(|_| Till::default()).collect());
    let runtime = crore::Runtime::builder().build().unwrap();
    let taken: u32 = thread::scope(|scope| {
        for seed in 1..=THREADS {
            let tills = Arc::clone(&tills);
            scope.spawn(move || {
                let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
                let mut left: Vec<_> = (0..COROUTINES).flat_map(|i| [i; EACH as usize]).collect();
                while !left.is_empty() {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    let next = left.swap_remove(random as usize % left.len());
                    tills[next].give();
                }
            });
        }
        let run = runtime.run(|| {
            let all: Vec<_> = (0..COROUTINES)
                .map(|i| {
                    let tills = Arc::clone(&tills);
                    crore::spawn(move || {
                        let mut taken = 0;
                        while taken < THREADS as u32 * EACH {
                            taken += block_on(tills[i].take());
                        }
                        taken
                    })
                })
                .collect();
            all.into_iter().map(|handle| handle.join().unwrap()).sum()
        });
        run.unwrap()
    });
    assert_eq!(taken, COROUTINES as u32 * THREADS as u32 * EACH);
}

#[test]
fn threads_unpark_join_and_spawn_at_random() {
    const THREADS: u32 = 4;
    const ROUNDS: u32 = 500;

    let runtime = crore::Runtime::builder().build().unwrap();
    let sum: u32 = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                let handle = runtime.handle();
                scope.spawn(move || {
                    let mut sum = 0;
                    for round in 0..ROUNDS {
                        let parked = handle.spawn(move || {
                            crore::park();
                            round
                        });
                        let id = parked.coroutine().id();
                        match round % 3 {
                            0 => id.unpark(),
                            1 => _ = handle.spawn(move || id.unpark()),
                            _ => _ = thread::spawn(move || id.unpark()).join(),
                        }
                        sum += parked.join().unwrap();
                    }
                    sum
                })
            })
            .collect();
        let run = runtime.run(|| {
            while !threads.iter().all(|thread| thread.is_finished()) {
                crore::yield_now();
            }
        });
        run.unwrap();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    });
    assert_eq!(sum, THREADS * (0..ROUNDS).sum::<u32>());
    let metrics = runtime.metrics();
    assert_eq!(metrics.spawned, metrics.ended);
}
