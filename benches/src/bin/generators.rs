//! What a generator's switch costs beside corosensei's own:
//! `cargo run --release -p crore-benches --bin generators`.
//!
//! One value is a resume and a yield: two switches. The rounds of both take turns, and
//! the fastest of each counts. Both handles are in memory, as a field is; that of a bare
//! coroutine which never leaves a loop is kept in registers.

use std::hint::black_box;
use std::time::Instant;

use corosensei::{Coroutine, CoroutineResult};
use crore::generator::{Generator, GeneratorState};

/// Short ones: a machine with other work leaves some alone.
const ROUNDS: u32 = 500;
const VALUES: u64 = 50_000;

fn time(mut value: impl FnMut() -> u64) -> f64 {
    let start = Instant::now();
    let mut sum = 0_u64;
    for _ in 0..VALUES {
        sum = sum.wrapping_add(value());
    }
    black_box(sum);
    start.elapsed().as_nanos() as f64 / VALUES as f64
}

/// The fastest rounds of the two, in nanoseconds a value.
fn compare(what: &str, mut bare: impl FnMut() -> u64, mut ours: impl FnMut() -> u64) {
    let mut best = [f64::INFINITY; 2];
    for _ in 0..ROUNDS {
        best[0] = best[0].min(time(&mut bare));
        best[1] = best[1].min(time(&mut ours));
    }
    println!(
        "{what:36} corosensei {:5.1}   generator {:5.1}   {:.2} times",
        best[0],
        best[1],
        best[1] / best[0]
    );
}

fn out(place: &str) {
    let mut bare = Coroutine::<(), u64, ()>::new(|yielder, ()| {
        for i in 0.. {
            yielder.suspend(i);
        }
    });
    let mut ours = Generator::<(), u64>::new(|yielder, ()| {
        for i in 0.. {
            yielder.yield_(i);
        }
    });
    compare(
        &format!("{place}: a number out"),
        || match black_box(&mut bare).resume(()) {
            CoroutineResult::Yield(number) => number,
            CoroutineResult::Return(()) => unreachable!(),
        },
        || black_box(&mut ours).next().unwrap(),
    );
    // corosensei was built without unwinding.
    std::mem::forget(bare);
}

fn both_ways(place: &str) {
    let mut bare = Coroutine::<u64, u64, ()>::new(|yielder, mut number| {
        loop {
            number = yielder.suspend(number + 1);
        }
    });
    let mut ours = Generator::<u64, u64>::new(|yielder, mut number| {
        loop {
            number = yielder.yield_(number + 1);
        }
    });
    compare(
        &format!("{place}: a number in and out"),
        || match black_box(&mut bare).resume(black_box(1)) {
            CoroutineResult::Yield(number) => number,
            CoroutineResult::Return(()) => unreachable!(),
        },
        || match black_box(&mut ours).resume(black_box(1)) {
            GeneratorState::Yielded(number) => number,
            GeneratorState::Complete(()) => unreachable!(),
        },
    );
    std::mem::forget(bare);
}

fn main() {
    println!("ns a value, fastest of {ROUNDS} rounds");
    out("plain thread");
    both_ways("plain thread");
    crore::run(|| {
        out("coroutine");
        both_ways("coroutine");
        // SAFETY: the closure lends nobody its locals.
        let shared = unsafe {
            crore::spawn_shared(|| {
                out("on a shared stack");
                both_ways("on a shared stack");
            })
        };
        shared.join().unwrap();
    })
    .unwrap();
}
