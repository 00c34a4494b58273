use std::time::Instant;
fn main() {
    for &n in &[2usize, 64, 1000, 100_000] {
        crore::run(|| {
            let rounds = (20_000_000 / n).max(10) as u64;
            let hs: Vec<_> = (0..n)
                .map(|_| {
                    crore::spawn(move || {
                        for _ in 0..rounds {
                            crore::yield_now()
                        }
                    })
                })
                .collect();
            let t = Instant::now();
            for h in hs {
                h.join().unwrap();
            }
            let e = t.elapsed();
            println!(
                "yield {n}: {:.1} ns",
                e.as_nanos() as f64 / (rounds * n as u64) as f64
            );
        })
        .unwrap();
    }
    crore::run(|| {
        for _ in 0..3 {
            let n = 1_000_000;
            let t = Instant::now();
            for _ in 0..n {
                crore::spawn(|| ()).join().unwrap();
            }
            println!(
                "spawn+join one by one {:.1} ns",
                t.elapsed().as_nanos() as f64 / n as f64
            );
            let t = Instant::now();
            for _ in 0..n / 1000 {
                let v: Vec<_> = (0..1000).map(|_| crore::spawn(|| ())).collect();
                for h in v {
                    h.join().unwrap();
                }
            }
            println!(
                "spawn+join batches of 1000 {:.1} ns",
                t.elapsed().as_nanos() as f64 / n as f64
            );
        }
    })
    .unwrap();
}
