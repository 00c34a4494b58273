//! The promise: a future can be a task of its own, without a stack, and is in
//! all else what a coroutine is: joined, cancelled, detached, woken, stolen.

use std::future::{Future, pending, poll_fn, ready};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use crore::sync::channel;
use crore::{Builder, JoinHandle, Runtime, run, spawn, spawn_future, spawn_future_local};

/// Counts its drops.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Relaxed);
    }
}

fn counter() -> (Arc<AtomicUsize>, Counted) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Counted(Arc::clone(&count));
    (count, counted)
}

/// Ready at the second poll, which somebody else must bring about: leaves its
/// waker on the shelf.
fn one_wake(shelf: Arc<Mutex<Option<Waker>>>) -> impl Future<Output = ()> {
    let mut first = true;
    poll_fn(move |cx| {
        if std::mem::take(&mut first) {
            *shelf.lock().unwrap() = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(())
    })
}

fn yields(n: u32) -> impl Future<Output = u32> {
    let mut left = n;
    poll_fn(move |cx| {
        if left == 0 {
            return Poll::Ready(n);
        }
        left -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
}

#[test]
fn the_output_comes_out() {
    run(|| {
        assert_eq!(spawn_future(ready(5)).join().unwrap(), 5);
        assert_eq!(spawn_future(yields(1_000)).join().unwrap(), 1_000);
        let text = Rc::new(String::from("not Send"));
        let theirs = Rc::clone(&text);
        let echoed = spawn_future_local(async move {
            yields(3).await;
            theirs
        });
        assert!(Rc::ptr_eq(&echoed.join().unwrap(), &text));
        // Awaited by another of them.
        let inner = spawn_future(yields(5));
        let outer = spawn_future(async { inner.await.unwrap() * 2 });
        assert_eq!(outer.join().unwrap(), 10);
    })
    .unwrap();
}

#[test]
fn they_take_turns_with_coroutines() {
    run(|| {
        let turns = Rc::new(std::cell::Cell::new(0));
        let theirs = Rc::clone(&turns);
        let coroutine = crore::spawn_local(move || {
            for _ in 0..100 {
                theirs.set(theirs.get() + 1);
                crore::yield_now();
            }
        });
        spawn_future(yields(52)).join().unwrap();
        assert!(turns.get() >= 50, "{}", turns.get());
        coroutine.join().unwrap();
    })
    .unwrap();
}

#[test]
fn channels_and_locks_join_them_to_coroutines() {
    run(|| {
        let (to, inbox) = channel::bounded::<u64>(4);
        let (back, outbox) = channel::bounded::<u64>(0);
        let future = spawn_future(async move {
            let mut count = 0;
            while let Ok(number) = inbox.recv_async().await {
                back.send_async(number * 2).await.unwrap();
                count += 1;
            }
            count
        });
        let sender = spawn(move || (0..1_000).for_each(|n| to.send(n).unwrap()));
        let doubled: Vec<u64> = outbox.iter().collect();
        assert!(doubled.into_iter().eq((0..1_000).map(|n| n * 2)));
        sender.join().unwrap();
        assert_eq!(future.join().unwrap(), 1_000);
    })
    .unwrap();
}

#[test]
fn a_hundred_thousand_wait_and_are_woken() {
    run(|| {
        let shelf = Arc::new(Mutex::new(Vec::new()));
        let all: Vec<_> = (0..100_000u64)
            .map(|i| {
                let shelf = Arc::clone(&shelf);
                let mut first = true;
                spawn_future(poll_fn(move |cx| {
                    if std::mem::take(&mut first) {
                        shelf.lock().unwrap().push(cx.waker().clone());
                        return Poll::Pending;
                    }
                    Poll::Ready(i)
                }))
            })
            .collect();
        crore::yield_now();
        let wakers = std::mem::take(&mut *shelf.lock().unwrap());
        assert_eq!(wakers.len(), 100_000);
        wakers.iter().for_each(Waker::wake_by_ref);
        wakers.iter().for_each(Waker::wake_by_ref);
        let sum: u64 = all.into_iter().map(|one| one.join().unwrap()).sum();
        assert_eq!(sum, 99_999 * 50_000);
        // Late ones reach nobody.
        wakers.into_iter().for_each(Waker::wake);
    })
    .unwrap();
}

#[test]
fn a_panic_reaches_the_joiner_and_drops_the_future_once() {
    run(|| {
        let (count, counted) = counter();
        let torn: JoinHandle<()> = spawn_future(async move {
            let _counted = counted;
            yields(3).await;
            std::panic::resume_unwind(Box::new("torn"));
        });
        let payload = torn.join().unwrap_err().into_panic();
        assert_eq!(*payload.downcast::<&str>().unwrap(), "torn");
        assert_eq!(count.load(Relaxed), 1);

        // A future that panics in its destructor as well, and one that only does.
        struct Loud(bool);
        impl Future for Loud {
            type Output = u32;
            fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<u32> {
                if self.0 {
                    std::panic::resume_unwind(Box::new("poll"));
                }
                Poll::Ready(3)
            }
        }
        impl Drop for Loud {
            fn drop(&mut self) {
                std::panic::resume_unwind(Box::new("drop"));
            }
        }
        let payload = spawn_future(Loud(true)).join().unwrap_err().into_panic();
        assert_eq!(*payload.downcast::<&str>().unwrap(), "poll");
        assert_eq!(spawn_future(Loud(false)).join().unwrap(), 3);
        drop((spawn_future(Loud(true)), spawn_future(Loud(false))));
        assert_eq!(spawn_future(yields(10)).join().unwrap(), 10);
    })
    .unwrap();
}

#[test]
fn cancelling_drops_it_in_every_state() {
    run(|| {
        // Not started.
        let (count, counted) = counter();
        let unstarted = spawn_future(async move { drop(counted) });
        unstarted.cancel();
        assert!(unstarted.join().unwrap_err().is_cancelled());
        assert_eq!(count.load(Relaxed), 1);

        // Waiting; runnable.
        for runnable in [false, true] {
            let (count, counted) = counter();
            let waiting = spawn_future(async move {
                let _counted = counted;
                if runnable {
                    yields(u32::MAX).await;
                }
                pending::<()>().await
            });
            crore::yield_now();
            assert_eq!(count.load(Relaxed), 0);
            waiting.coroutine().unpark();
            waiting.cancel();
            assert!(waiting.join().unwrap_err().is_cancelled());
            assert_eq!(count.load(Relaxed), 1);
        }

        // In its own poll: what is ready all the same is ready.
        let own: Arc<Mutex<Option<crore::Coroutine>>> = Arc::default();
        for outcome in [Poll::Ready(4), Poll::Pending] {
            let theirs = Arc::clone(&own);
            let one = spawn_future(poll_fn(move |_| {
                theirs.lock().unwrap().take().unwrap().cancel();
                outcome
            }));
            *own.lock().unwrap() = Some(one.coroutine());
            match (outcome, one.join()) {
                (Poll::Ready(value), Ok(joined)) => assert_eq!(joined, value),
                (Poll::Pending, Err(error)) => assert!(error.is_cancelled()),
                (outcome, joined) => panic!("{outcome:?} became {joined:?}"),
            }
        }
    })
    .unwrap();
}

#[test]
fn the_end_of_the_runtime_drops_what_waits() {
    for workers in [1, 3] {
        let runtime = Runtime::builder().workers(workers).build().unwrap();
        let (count, counted) = counter();
        let counted = Arc::new(counted);
        let handles: Vec<_> = runtime
            .run(|| {
                (0..1_000)
                    .map(|i| {
                        let counted = Arc::clone(&counted);
                        spawn_future(async move {
                            yields(i % 3).await;
                            pending::<()>().await;
                            drop(counted);
                        })
                    })
                    .collect()
            })
            .unwrap();
        drop(counted);
        assert_eq!(count.load(Relaxed), 1, "all have let go");
        for handle in handles {
            assert!(handle.join().unwrap_err().is_cancelled());
        }
        // Of those in mailboxes at the end nobody has heard.
        let metrics = runtime.metrics();
        assert!((1..=1_001).contains(&metrics.spawned), "{metrics:?}");
        assert_eq!(metrics.spawned, metrics.ended);
    }
}

#[test]
fn a_detached_one_goes_on() {
    run(|| {
        let (count, counted) = counter();
        // Once before its first poll, once after it.
        for polls in [0, 1] {
            let shelf = Arc::new(Mutex::new(None));
            let (theirs, done) = (Arc::clone(&shelf), Arc::clone(&count));
            let before = count.load(Relaxed);
            let handle = spawn_future(async move {
                one_wake(theirs).await;
                done.fetch_add(1, Relaxed);
            });
            (0..polls).for_each(|_| crore::yield_now());
            drop(handle);
            crore::yield_now();
            assert_eq!(count.load(Relaxed), before);
            shelf.lock().unwrap().take().unwrap().wake();
            crore::yield_now();
            assert_eq!(count.load(Relaxed), before + 1);
        }
        // What it returns is dropped.
        drop(spawn_future(async move { counted }));
        crore::yield_now();
        assert_eq!(count.load(Relaxed), 3);
    })
    .unwrap();
}

#[test]
fn one_that_owns_its_own_handle_may_drop_it() {
    run(|| {
        let own: Arc<Mutex<Option<JoinHandle<u32>>>> = Arc::default();
        let theirs = Arc::clone(&own);
        let ended = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&ended);
        *own.lock().unwrap() = Some(spawn_future(async move {
            yields(1).await;
            drop(theirs.lock().unwrap().take());
            yields(1).await;
            end.store(true, Relaxed);
            3
        }));
        while !ended.load(Relaxed) {
            crore::yield_now();
        }
    })
    .unwrap();
}

#[test]
fn no_coroutine_is_inside_and_blocking_says_so() {
    run(|| {
        let parked = spawn(crore::park);
        crore::yield_now();
        let peer = parked.coroutine();
        let (_keep, receiver) = channel::unbounded::<()>();
        let inside = spawn_future(async move {
            assert!(crore::try_current().is_none());
            crore::yield_now(); // the thread's
            crore::sleep(Duration::from_millis(1));
            assert!(receiver.try_recv().is_err());
            receiver.recv().is_ok()
        });
        let text = inside.join().unwrap_err().to_string();
        assert!(text.contains("spawn_future"), "{text}");
        assert!(text.contains("await instead"), "{text}");
        let blocking = spawn_future(async move { parked.join() });
        assert!(blocking.join().unwrap_err().is_panic());
        let nested = spawn_future(async { crore::block_on(pending::<()>()) });
        assert!(nested.join().unwrap_err().is_panic());
        peer.unpark();
    })
    .unwrap();
}

#[test]
fn names_ids_and_limits_are_those_of_coroutines() {
    let runtime = Runtime::builder().max_coroutines(2).build().unwrap();
    runtime
        .run(|| {
            let one = Builder::new()
                .name("one".into())
                .spawn_future(pending::<()>())
                .unwrap();
            assert_eq!(one.coroutine().name(), Some("one"));
            let error = Builder::new().spawn_future(ready(())).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::QuotaExceeded);
            one.coroutine().id().cancel();
            assert!(one.join().unwrap_err().is_cancelled());
            let rc = Rc::new(1);
            let local = Builder::new()
                .spawn_future_local(async move { *rc })
                .unwrap();
            assert_eq!(local.join().unwrap(), 1);
        })
        .unwrap();
    let error = Builder::new().spawn_future(ready(())).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::NotConnected);
}

#[test]
fn from_outside_and_onto_several_workers() {
    let runtime = Runtime::builder().workers(3).build().unwrap();
    let handle = runtime.handle();
    let outside = thread::spawn(move || {
        let all: Vec<_> = (0..3_000u32)
            .map(|i| handle.spawn_future(async move { yields(i % 5).await + i }))
            .collect();
        let mut sum = 0;
        for one in all {
            sum += one.join().unwrap();
        }
        sum
    });
    let sum = runtime
        .run(|| {
            while !outside.is_finished() {
                crore::yield_now();
            }
            outside.join().unwrap()
        })
        .unwrap();
    assert_eq!(sum, 2_999 * 1_500 + 600 * 10);
}

#[test]
fn an_unstarted_one_is_stolen_and_a_started_one_stays() {
    let runtime = Runtime::builder().workers(2).build().unwrap();
    runtime
        .run(|| {
            let seen = Arc::new(AtomicU32::new(0));
            let theirs = Arc::clone(&seen);
            let here = thread::current().id();
            let stolen = spawn_future(async move {
                let first = thread::current().id();
                theirs.store(1, Relaxed);
                for _ in 0..100 {
                    yields(1).await;
                    assert_eq!(thread::current().id(), first);
                }
                first
            });
            // This worker computes: only another can have polled it.
            while seen.load(Relaxed) == 0 {
                std::hint::spin_loop();
            }
            assert_ne!(stolen.join().unwrap(), here);
        })
        .unwrap();
}
