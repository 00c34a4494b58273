use std::time::Instant;
#[inline(never)]
fn level(d: u32, x: u64) -> u64 {
    if d == 0 {
        crore::park();
        x
    } else {
        std::hint::black_box(level(d - 1, x.wrapping_mul(31))) + (x & 1)
    }
}
fn rss() -> u64 {
    let s = std::fs::read_to_string("/proc/self/statm").unwrap();
    s.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}
fn main() {
    let n: usize = std::env::args()
        .nth(1)
        .map(|s| s.parse().unwrap())
        .unwrap_or(1_000_000);
    let depth: u32 = std::env::args()
        .nth(2)
        .map(|s| s.parse().unwrap())
        .unwrap_or(3);
    let rt = crore::Runtime::builder().build().unwrap();
    let h2 = rt.handle();
    rt.run(|| {
        let r0 = rss();
        let t = Instant::now();
        let mut ids = Vec::with_capacity(n);
        for i in 0..n {
            let h = unsafe {
                crore::spawn_shared(move || {
                    let mut s = i as u64;
                    loop {
                        s = level(depth, s) | 1;
                    }
                    #[allow(unreachable_code)]
                    ()
                })
            };
            ids.push(h.coroutine().id());
            drop(h);
            if i % 1024 == 0 {
                crore::yield_now();
            }
        }
        crore::yield_now();
        println!(
            "spawn+first run {:.1} ns",
            t.elapsed().as_nanos() as f64 / n as f64
        );
        let r1 = rss();
        println!(
            "bytes each {:.1} (with 8 B ids)",
            (r1 - r0) as f64 / n as f64
        );
        for round in 0..2 {
            for id in &ids {
                id.unpark();
            }
            let t = Instant::now();
            crore::yield_now();
            println!(
                "round {round} resume in order {:.1} ns",
                t.elapsed().as_nanos() as f64 / n as f64
            );
        }
        let mut x = 88172645463325252u64;
        let mut order = ids.clone();
        for i in (1..n).rev() {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            order.swap(i, (x % (i as u64 + 1)) as usize);
        }
        for id in &order {
            id.unpark();
        }
        let t = Instant::now();
        crore::yield_now();
        println!(
            "resume random {:.1} ns",
            t.elapsed().as_nanos() as f64 / n as f64
        );
        crore::sleep(std::time::Duration::from_millis(1));
        println!("{:?}", h2.metrics());
        std::process::exit(0);
    })
    .unwrap();
}
