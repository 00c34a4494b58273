//! The floor: corosensei's switch without a scheduler.

use std::time::{Duration, Instant};

use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult};

/// `tasks` coroutines resumed in turns, `rounds` times each.
pub fn switches(tasks: u64, rounds: u64) -> Duration {
    let mut all: Vec<Coroutine<(), (), u64>> = (0..tasks)
        .map(|_| {
            let stack = DefaultStack::new(32 * 1024).expect("there is memory");
            Coroutine::with_stack(stack, move |yielder, ()| {
                let mut count = 0;
                loop {
                    yielder.suspend(());
                    count += 1;
                    if count == rounds {
                        return count;
                    }
                }
            })
        })
        .collect();
    let mut resume_all = || -> u64 {
        all.iter_mut()
            .map(|task| match task.resume(()) {
                CoroutineResult::Yield(()) => 0,
                CoroutineResult::Return(count) => count,
            })
            .sum()
    };
    assert_eq!(resume_all(), 0); // all have started
    let start = Instant::now();
    let done: u64 = (0..rounds).map(|_| resume_all()).sum();
    let time = start.elapsed();
    assert_eq!(done, tasks * rounds);
    time
}
