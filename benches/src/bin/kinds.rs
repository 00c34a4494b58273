//! What each kind of coroutine costs: the numbers of docs/KINDS.md.
//!
//! Prints processor time, the best of several turns in which the kinds follow
//! each other, and memory.

use std::time::Duration;

use crore_benches::kinds::Kind;

const TURNS: u32 = 7;

fn main() {
    let kinds = Kind::all();
    println!("{:<34}{:?}", "", kinds);
    let rows: [(&str, u64, &dyn Fn(Kind) -> Duration); 3] = [
        ("ns a yield, 2 runnable", 2 * 200_000, &|kind| {
            kind.yields(2, 200_000)
        }),
        ("ns a yield, 1 000 runnable", 1_000 * 400, &|kind| {
            kind.yields(1_000, 400)
        }),
        ("ns a spawn + run + join", 50_000, &|kind| {
            kind.spawns(50_000)
        }),
    ];
    for (name, operations, measure) in rows {
        let mut best = vec![Duration::MAX; kinds.len()];
        for _ in 0..TURNS {
            for (best, &kind) in best.iter_mut().zip(&kinds) {
                *best = (*best).min(measure(kind));
            }
        }
        print!("{name:<34}");
        for time in best {
            print!("{:>10.1}", time.as_nanos() as f64 / operations as f64);
        }
        println!();
    }
    print!("{:<34}", "bytes, parked, of 50 000");
    for kind in kinds {
        print!("{:>10.0}", kind.bytes(50_000));
    }
    println!();
}
