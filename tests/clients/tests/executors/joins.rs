//! The promise: a `JoinHandle` is a future like any other, whoever polls it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

#[test]
fn futures_join() {
    crore::run(|| {
        // In a coroutine, by our own executor.
        let both = crore::block_on(async {
            let (a, b) = (crore::spawn(|| 2), crore::spawn(|| 3));
            futures::join!(a, b)
        });
        assert_eq!((both.0.unwrap(), both.1.unwrap()), (2, 3));

        // On another thread, by another executor, under a waker that changes.
        let all: futures::stream::FuturesUnordered<_> = (0..100u32)
            .map(|i| {
                crore::spawn(move || {
                    crore::yield_now();
                    i
                })
            })
            .collect();
        let (main, done) = (crore::current(), Arc::new(AtomicUsize::new(0)));
        let theirs = Arc::clone(&done);
        let sum = thread::spawn(move || {
            use futures::StreamExt;
            let sum = futures::executor::block_on(all.fold(0, async |sum, i| sum + i.unwrap()));
            theirs.store(1, Relaxed);
            main.unpark();
            sum
        });
        while done.load(Relaxed) == 0 {
            crore::park();
        }
        assert_eq!(sum.join().unwrap(), 4950);
    })
    .unwrap();
}

#[test]
fn a_handle_polled_by_one_task_and_then_by_another_wakes_the_latter() {
    crore::run(|| {
        let mut handle = crore::spawn(|| {
            crore::park();
            9
        });
        let id = handle.coroutine().id();
        crore::block_on(async {
            assert!(futures::poll!(&mut handle).is_pending());
        });
        let joiner = crore::spawn(move || handle.join().unwrap());
        crore::yield_now();
        id.unpark();
        assert_eq!(joiner.join().unwrap(), 9);
    })
    .unwrap();
}

#[test]
#[should_panic(expected = "polled after its end")]
fn a_handle_polled_after_the_end_panics() {
    let mut handle = crore::run(|| crore::spawn(|| 1)).unwrap();
    futures::executor::block_on(async {
        let _ = (&mut handle).await;
        let _ = (&mut handle).await;
    });
}
