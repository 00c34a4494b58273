//! Several workers: work spreads, wakes cross, nothing is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

fn runtime(workers: usize) -> crore::Runtime {
    crore::Runtime::builder().workers(workers).build().unwrap()
}

#[test]
fn a_hundred_thousand_spawns_from_inside() {
    for workers in [1, 2, 4] {
        let done = Arc::new(AtomicUsize::new(0));
        runtime(workers)
            .run(|| {
                let handles: Vec<_> = (0..100_000usize)
                    .map(|i| {
                        let done = Arc::clone(&done);
                        crore::spawn(move || {
                            if i % 7 == 0 {
                                crore::yield_now();
                            }
                            done.fetch_add(1, Relaxed);
                            i
                        })
                    })
                    .collect();
                for (i, handle) in handles.into_iter().enumerate() {
                    assert_eq!(handle.join().unwrap(), i);
                }
            })
            .unwrap();
        assert_eq!(done.load(Relaxed), 100_000);
    }
}

#[test]
fn spawns_from_outside_are_spread_evenly() {
    let runtime = runtime(2);
    let handle = runtime.handle();
    let outside = std::thread::spawn(move || {
        let all: Vec<_> = (0..200_000u64).map(|i| handle.spawn(move || i)).collect();
        let sum: u64 = all.into_iter().map(|one| one.join().unwrap()).sum();
        sum
    });
    runtime
        .run(|| {
            while !outside.is_finished() {
                crore::sleep(Duration::from_millis(1));
            }
        })
        .unwrap();
    assert_eq!(outside.join().unwrap(), 199_999 * 100_000);
    let each: Vec<u64> = runtime
        .handle()
        .worker_metrics()
        .iter()
        .map(|m| m.spawned)
        .collect();
    println!("{each:?}");
}

#[test]
fn unparks_cross_workers() {
    runtime(3)
        .run(|| {
            let ring: Vec<_> = (0..30)
                .map(|_| {
                    crore::spawn(|| {
                        for _ in 0..100 {
                            crore::park();
                        }
                    })
                })
                .collect();
            let ids: Vec<_> = ring.iter().map(|h| h.coroutine().id()).collect();
            while !ring.iter().all(|h| h.is_finished()) {
                for id in &ids {
                    id.unpark();
                }
                crore::yield_now();
            }
            for h in ring {
                h.join().unwrap();
            }
        })
        .unwrap();
}

#[test]
fn leftovers_of_all_workers_are_cancelled() {
    for _ in 0..20 {
        let handles = runtime(4)
            .run(|| {
                (0..1000)
                    .map(|i| {
                        crore::spawn(move || {
                            if i % 2 == 0 {
                                crore::park()
                            } else {
                                crore::sleep(Duration::from_secs(1000))
                            }
                        })
                    })
                    .collect::<Vec<_>>()
            })
            .unwrap();
        for handle in handles {
            assert!(handle.join().unwrap_err().is_cancelled());
        }
    }
}
