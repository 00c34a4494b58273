//! What a runtime counts is what has happened.

use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crore::{Builder, Handle, Metrics, Runtime};

/// What `f` adds to the metrics of a runtime of so many workers, by its end.
fn counted(workers: usize, f: impl FnOnce()) -> Metrics {
    let runtime = Runtime::builder().workers(workers).build().unwrap();
    runtime.run(f).unwrap();
    runtime.metrics()
}

#[test]
fn spawns_and_ends_are_counted() {
    let metrics = counted(1, || {
        (0..10).for_each(|_| crore::spawn(|| ()).join().unwrap())
    });
    // The main coroutine, too.
    assert_eq!((metrics.spawned, metrics.ended), (11, 11));
    assert_eq!(metrics.abandoned, 0);
}

#[test]
fn each_start_and_resume_counts() {
    let metrics = counted(1, || (0..5).for_each(|_| crore::yield_now()));
    assert_eq!(metrics.resumed, 6);
}

#[test]
fn the_workers_counts_add_up() {
    let runtime = Runtime::builder().workers(2).build().unwrap();
    let children: u64 = runtime
        .run(|| {
            (0..100).for_each(|_| drop(crore::spawn(crore::yield_now)));
            100
        })
        .unwrap();
    let each = runtime.handle().worker_metrics();
    assert_eq!(each.len(), 2);
    let spawned: u64 = each.iter().map(|worker| worker.spawned).sum();
    assert_eq!(spawned, runtime.metrics().spawned);
    assert_eq!(spawned, children + 1);
}

/// At least, and of each worker by itself.
#[test]
fn processor_time_is_counted_while_a_worker_runs_and_stays() {
    let runtime = Runtime::builder().workers(2).watchdog(None).build();
    let runtime = runtime.unwrap();
    let busy = |worker: usize| runtime.handle().worker_metrics()[worker].busy_micros;
    assert_eq!((busy(0), busy(1)), (0, 0));
    for run in 1..=2 {
        let before = busy(0);
        runtime
            .run(|| {
                while busy(0) - before < 20_000 {
                    std::hint::black_box((0..1_000u64).sum::<u64>());
                }
                assert!(busy(1) < run * 20_000, "it has nothing to do");
            })
            .unwrap();
        assert!(busy(0) >= before + 20_000);
    }
}

#[test]
fn what_another_worker_takes_is_counted() {
    let runtime = Runtime::builder().workers(2).watchdog(None).build();
    let runtime = runtime.unwrap();
    let steals = || runtime.metrics().steals;
    runtime
        .run(|| {
            // This worker does not give way until another has come for its tasks.
            while steals() == 0 {
                drop(crore::spawn(|| ()));
                std::hint::black_box((0..1_000u64).sum::<u64>());
            }
        })
        .unwrap();
}

#[test]
fn a_handle_counts_while_it_runs() {
    let live = || {
        let metrics = Handle::current().unwrap().metrics();
        metrics.spawned - metrics.ended
    };
    crore::run(|| {
        let before = live();
        let parked = crore::spawn(crore::park);
        assert_eq!(live(), before + 1);
        parked.coroutine().unpark();
        parked.join().unwrap();
        assert_eq!(live(), before);
    })
    .unwrap();
}

/// The looks at the kernel come when all of them wait.
#[test]
fn what_waits_is_counted() {
    let runtime = Runtime::builder().watchdog(None).build().unwrap();
    let counts = || {
        let now = runtime.metrics();
        (now.parked, now.runnable, now.timers, now.descriptors)
    };
    runtime
        .run(|| {
            let (silent, _other) = UnixStream::pair().unwrap();
            let day = Duration::from_secs(86_400);
            (0..3).for_each(|_| drop(crore::spawn(crore::park)));
            (0..2).for_each(|_| drop(crore::spawn(move || crore::sleep(day))));
            crore::spawn(move || crore::io::readable(&silent));
            let moment = || crore::sleep(Duration::from_millis(1));
            moment();
            // The main coroutine is parked at that look, and its timer has fired.
            assert_eq!(counts(), (7, 0, 2, 1));
            let spins = crore::spawn(|| (0..1_000_000).for_each(|_| crore::yield_now()));
            moment();
            assert_eq!((counts().0, counts().1), (7, 1));
            spins.cancel();
        })
        .unwrap();
    assert_eq!((counts().0, counts().1, counts().2), (0, 0, 0));
}

/// At least.
#[test]
fn the_longest_wait_in_the_run_queue_is_that_behind_one_who_computes() {
    let runtime = Runtime::builder().watchdog(None).build().unwrap();
    let computes = Duration::from_millis(20);
    runtime
        .run(|| {
            let begun = Instant::now();
            while begun.elapsed() < computes {
                std::hint::spin_loop();
            }
            crore::sleep(Duration::from_millis(1));
        })
        .unwrap();
    let metrics = runtime.metrics();
    assert!(u128::from(metrics.longest_queue_wait_micros) >= computes.as_micros());
    assert!(metrics.queue_wait_micros <= metrics.longest_queue_wait_micros);
}

#[test]
fn stacks_are_counted_by_size() {
    let runtime = Runtime::builder().build().unwrap();
    let counts = || {
        let sizes = runtime.handle().stack_metrics().into_iter();
        let counts = sizes.map(|size| (size.bytes >> 10, size.in_use, size.warm));
        counts.collect::<Vec<_>>()
    };
    runtime
        .run(|| {
            for size in [256 << 10, 128 << 10, 256 << 10] {
                let builder = Builder::new().stack_size(size);
                drop(builder.spawn(crore::park).unwrap());
            }
            crore::sleep(Duration::from_millis(1));
            // The main coroutine's is larger.
            assert_eq!(counts()[..2], [(128, 1, 0), (256, 2, 0)]);
            assert_eq!((counts()[2].1, counts().len()), (1, 3));
        })
        .unwrap();
    assert_eq!(counts()[..2], [(128, 0, 1), (256, 0, 2)]);
    assert_eq!((counts()[2].1, counts()[2].2), (0, 1));
}

#[test]
fn what_waits_for_a_helper_thread_is_counted() {
    crate::common::succeeds("what_waits_for_a_helper_thread_is_counted", || {
        crore::blocking::set_max_threads(2);
        crore::run(|| {
            let (ends, end) = std::sync::mpsc::channel::<()>();
            let end = std::sync::Arc::new(std::sync::Mutex::new(end));
            let closures: Vec<_> = (0..5)
                .map(|_| {
                    let end = std::sync::Arc::clone(&end);
                    crore::spawn_blocking(move || end.lock().unwrap().recv().unwrap_err())
                })
                .collect();
            // Two are being done, or are about to be.
            assert_eq!(crore::blocking::queued(), 3);
            drop(ends);
            closures
                .into_iter()
                .for_each(|one| assert!(one.join().is_ok()));
            assert_eq!(crore::blocking::queued(), 0);
        })
        .unwrap();
    });
}
