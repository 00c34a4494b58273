//! crore::scope is O(n^2) in its children: each look for the next child walks all vacant
//! entries of the slab from the front (scope/mod.rs:295), under a spin lock.
//! 20k: 1.0 s, 40k: 4.3 s, 80k: 17 s; std::thread::scope and tokio's JoinSet are O(n).

use std::time::Instant;
pub(crate) fn main() {
    for n in [10_000, 20_000, 40_000] {
        crore::run(|| {
            let t = Instant::now();
            crore::scope(|s| {
                for _ in 0..n {
                    s.spawn(|| ());
                }
            });
            println!("{n} children: {:?}", t.elapsed());
        })
        .unwrap();
    }
}
