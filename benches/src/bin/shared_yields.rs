//! What a yield costs on shared stacks:
//! `cargo run --release -p crore-benches --bin shared_yields`.

use std::cell::Cell;
use std::hint::black_box;
use std::rc::Rc;
use std::time::Instant;

use crore::{Metrics, Runtime};

const ROUNDS: u32 = 10;
const YIELDS: u32 = 1_000_000;

/// Yields of `hot` coroutines on `stacks` shared stacks, or on their own if
/// there are none: nanoseconds each in the fastest round, and the counters.
fn yields(hot: u32, stacks: u32) -> (f64, Metrics) {
    let runtime = Runtime::builder()
        .shared_stacks(stacks.max(1), 1 << 20)
        .check_shared(false)
        .build()
        .unwrap();
    let best = runtime.run(|| {
        let stop = Rc::new(Cell::new(false));
        for i in 0..hot {
            let stop = Rc::clone(&stop);
            let body = move || {
                let mut live = u64::from(i);
                while !stop.get() {
                    crore::yield_now();
                    live = black_box(live).wrapping_add(1);
                }
            };
            if stacks == 0 {
                crore::spawn_local(body);
            } else {
                // SAFETY: it hands out no reference to its locals.
                unsafe { crore::spawn_shared(body) };
            }
        }
        crore::yield_now();
        let turns = YIELDS / hot;
        let times = (0..ROUNDS).map(|_| {
            let start = Instant::now();
            (0..turns).for_each(|_| crore::yield_now());
            // The main coroutine yields as well.
            start.elapsed().as_nanos() as f64 / f64::from(turns * (hot + 1))
        });
        let best = times.fold(f64::INFINITY, f64::min);
        stop.set(true);
        crore::yield_now();
        best
    });
    (best.unwrap(), runtime.metrics())
}

fn main() {
    println!("ns a yield, fastest of {ROUNDS} rounds");
    for (hot, stacks) in [
        (8, 0),
        (1000, 0),
        (8, 8),
        (4, 8),
        (8, 1),
        (1000, 1),
        (1000, 8),
    ] {
        let (time, metrics) = yields(hot, stacks);
        let place = match stacks {
            0 => "their own stacks".to_owned(),
            n => format!("{n} shared stacks"),
        };
        println!(
            "{hot:5} on {place:17} {time:6.1}   copied: {}, frames of {} bytes",
            metrics.frame_saves > u64::from(hot),
            metrics.largest_frame
        );
        let displaced = stacks > 0 && hot > stacks;
        assert_eq!(metrics.frame_saves > u64::from(hot), displaced);
    }
}
