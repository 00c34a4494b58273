//! A number of coroutines that hovers at the border of a segment of slots. The segment was
//! given back to the kernel and faulted in again each time, 2 MiB a round. Right: it is kept.

use std::time::Instant;
fn cpu() -> f64 {
    let mut u: libc::rusage = unsafe { std::mem::zeroed() };
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut u) };
    let s = |t: libc::timeval| t.tv_sec as f64 * 1e6 + t.tv_usec as f64;
    s(u.ru_utime) + s(u.ru_stime)
}
pub(crate) fn main() {
    let parked = || unsafe { crore::spawn_shared(crore::park) };
    for (what, n) in [
        ("inside", 6 * 65536 - 2000),
        ("at the border", 6 * 65536 - 2),
    ] {
        crore::Runtime::builder()
            .build()
            .unwrap()
            .run(|| {
                let mut all: Vec<_> = (0..n).map(|_| parked()).collect();
                crore::yield_now();
                let (rounds, t, c) = (500, Instant::now(), cpu());
                for _ in 0..rounds {
                    let two = [parked(), parked()]; // one opens the next segment
                    let one = all.pop().unwrap();
                    crore::yield_now();
                    one.coroutine().unpark();
                    one.join().unwrap();
                    for h in two {
                        h.coroutine().unpark();
                        h.join().unwrap();
                    }
                    all.push(parked());
                    crore::yield_now();
                }
                println!(
                    "{what}: {:.1} us of cpu a round ({:?} wall)",
                    (cpu() - c) / rounds as f64,
                    t.elapsed() / rounds
                );
                all.iter().for_each(|h| h.coroutine().unpark());
                all.into_iter().for_each(|h| h.join().unwrap());
            })
            .unwrap();
    }
}
