//! `rayon` called from coroutines: its pool is plain threads, and who waits
//! for it is a coroutine.

use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use crore_clients::{each, kernel_thread, like_threads, spread_crowd};
use rayon::prelude::*;

fn on_one_and_on_three(test: fn()) {
    like_threads(1, test);
    like_threads(3, test);
}

fn pool(threads: usize) -> rayon::ThreadPool {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
    pool.build().unwrap()
}

/// A job that ends when a coroutine of the thread that waits for it says so:
/// each of twenty in turn, as the pool has one thread.
#[test]
fn install_stops_only_its_coroutine() {
    on_one_and_on_three(|| {
        const CROWD: usize = 20;
        let pool = pool(1);
        let (say, said) = mpsc::sync_channel::<usize>(0);
        let said = Mutex::new(said);
        let helper = crore::spawn(move || (0..CROWD).try_for_each(|i| say.send(i)));
        let (mut heard, _) = spread_crowd(CROWD, move |_| {
            let here = kernel_thread();
            let (there, heard) =
                pool.install(|| (kernel_thread(), said.lock().unwrap().recv().unwrap()));
            assert_ne!(there, here, "a job in the coroutine itself");
            heard
        });
        heard.sort_unstable();
        each(&heard, |i| i);
        helper.join().unwrap().unwrap();
    });
}

#[test]
fn parallel_iterators_of_many_coroutines() {
    on_one_and_on_three(|| {
        let (sums, _) = spread_crowd(200, |i| {
            let numbers: Vec<usize> = (i..i + 10_000).collect();
            let sum: usize = numbers.par_iter().map(|it| it * 2).sum();
            // Others run between two calls.
            thread::sleep(std::time::Duration::from_millis(1));
            let mut shuffled: Vec<_> = numbers.iter().rev().copied().collect();
            shuffled.par_sort_unstable();
            assert_eq!(shuffled, numbers);
            sum
        });
        each(&sums, |i| (i..i + 10_000).sum::<usize>() * 2);
    });
}

/// The borrowed halves stay alive until both are done.
#[test]
fn joins_and_scopes_borrow() {
    fn sum(numbers: &[u64]) -> u64 {
        if numbers.len() < 100 {
            return numbers.iter().sum();
        }
        let (left, right) = numbers.split_at(numbers.len() / 2);
        let (left, right) = rayon::join(|| sum(left), || sum(right));
        left + right
    }
    on_one_and_on_three(|| {
        let (sums, _) = spread_crowd(100, |i| {
            let numbers: Vec<u64> = (0..5_000).map(|it| it + i as u64).collect();
            let mut by_scope = [0; 4];
            rayon::scope(|scope| {
                for (sum, part) in by_scope.iter_mut().zip(numbers.chunks(1250)) {
                    scope.spawn(move |_| *sum = part.iter().sum());
                }
            });
            let total = sum(&numbers);
            assert_eq!(by_scope.iter().sum::<u64>(), total);
            total
        });
        each(&sums, |i| (0..5_000).map(|it| it + i as u64).sum());
    });
}

/// A panic of a job comes back to the coroutine that waits for it.
#[test]
fn panics_come_back_to_who_waits() {
    on_one_and_on_three(|| {
        let pool = Arc::new(pool(2));
        let spawn = |i: usize| {
            let pool = Arc::clone(&pool);
            crore::spawn(move || {
                pool.install(|| assert!(i.is_multiple_of(2), "a panic that is wanted"))
            })
        };
        let all: Vec<_> = (0..20).map(spawn).collect();
        for (i, handle) in all.into_iter().enumerate() {
            assert_eq!(handle.join().is_ok(), i % 2 == 0, "{i}");
        }
    });
}
