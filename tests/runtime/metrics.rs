//! What a runtime counts is what has happened.

use crore::{Handle, Metrics, Runtime};

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
