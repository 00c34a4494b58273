//! A thousand coroutines that were ten pages deep once, and wait. Each kept all that it had
//! touched, 48 KB. Right: some seconds later it has the page that its frames are on.

use std::hint::black_box;
use std::time::{Duration, Instant};

const EACH: usize = 1000;

#[inline(never)]
fn deep(n: usize) -> u64 {
    let page = black_box([n as u8; 4096]);
    match n {
        0 => u64::from(page[7]),
        _ => deep(n - 1) + u64::from(page[9]),
    }
}

fn dirty_bytes() -> usize {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = text.lines().find(|line| line.starts_with("Private_Dirty"));
    let kib = line.unwrap().split_whitespace().nth(1).unwrap();
    kib.parse::<usize>().unwrap() * 1024
}

pub(crate) fn main() {
    crore::run(|| {
        let (before, start) = (dirty_bytes(), Instant::now());
        let each = || dirty_bytes().saturating_sub(before) / EACH;
        for _ in 0..EACH {
            // Unoptimised code has each page twice.
            let roomy = crore::Builder::new().stack_size(256 << 10);
            let deep = || {
                black_box(deep(10));
                crore::park();
            };
            roomy.spawn(deep).unwrap();
        }
        crore::yield_now();
        println!("at first: {} bytes each", each());
        while each() > 9_000 && start.elapsed() < Duration::from_secs(50) {
            crore::sleep(Duration::from_millis(100));
        }
        let seconds = start.elapsed().as_secs();
        println!("at last: {} bytes each, after {seconds} s", each());
    })
    .unwrap();
}
