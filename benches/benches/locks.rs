//! Locks: a std Mutex that nobody else wants, on a thread and in a coroutine;
//! one that goes from hand to hand between two coroutines of a worker, beside
//! crore's own.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};

fn uncontended(n: u64) -> Duration {
    let mutex = std::sync::Mutex::new(0_u64);
    let start = Instant::now();
    for _ in 0..n {
        *black_box(&mutex).lock().unwrap() += 1;
    }
    let took = start.elapsed();
    assert_eq!(*mutex.lock().unwrap(), n);
    took
}

/// Two coroutines take the lock `n` times in all, always while the other has
/// it: each lets the other run while it holds the lock, so that it comes and
/// waits, and once more when it has let go, so that it gets it.
fn hand_over<M: Send + Sync + 'static>(n: u64, mutex: M, hold: fn(&M)) -> Duration {
    crore::run(move || {
        let mutex = Arc::new(mutex);
        let start = Instant::now();
        let both = [n / 2, n - n / 2].map(|n| {
            let mutex = Arc::clone(&mutex);
            crore::spawn(move || {
                for _ in 0..n {
                    hold(&mutex);
                    crore::yield_now();
                }
            })
        });
        both.into_iter().for_each(|one| one.join().unwrap());
        start.elapsed()
    })
    .unwrap()
}

fn locks(c: &mut Criterion) {
    let mut group = c.benchmark_group("std Mutex, uncontended");
    group.bench_function("on a thread", |b| b.iter_custom(uncontended));
    group.bench_function("in a coroutine", |b| {
        b.iter_custom(|n| crore::run(|| uncontended(n)).unwrap())
    });
    group.finish();
    let mut group = c.benchmark_group("hand-over between two coroutines, two yields with it");
    group.bench_function("std Mutex", |b| {
        b.iter_custom(|n| {
            hand_over(n, std::sync::Mutex::new(()), |mutex| {
                let _held = mutex.lock().unwrap();
                crore::yield_now();
            })
        })
    });
    group.bench_function("crore::sync::Mutex", |b| {
        b.iter_custom(|n| {
            hand_over(n, crore::sync::Mutex::new(()), |mutex| {
                let _held = mutex.lock().unwrap();
                crore::yield_now();
            })
        })
    });
    group.bench_function("nothing: the two yields", |b| {
        b.iter_custom(|n| hand_over(n, (), |()| crore::yield_now()))
    });
}

criterion_group!(benches, locks);
criterion_main!(benches);
