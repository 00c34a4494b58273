//! Ten million `unpark`s of one coroutine from a thread while the worker computes. Each was a
//! message with memory of its own, kept for ever. Right: no memory, as std's.

fn rss() -> String {
    std::fs::read_to_string("/proc/self/status")
        .unwrap()
        .lines()
        .find(|l| l.starts_with("VmRSS"))
        .unwrap()
        .into()
}
pub(crate) fn main() {
    crore::run(|| {
        let c = crore::spawn(|| {
            loop {
                crore::park()
            }
        });
        crore::yield_now();
        let co = c.coroutine();
        println!("before {}", rss());
        let t = std::thread::spawn(move || {
            for _ in 0..10_000_000 {
                co.unpark()
            }
        });
        while !t.is_finished() {
            std::hint::spin_loop()
        } // a worker that computes for a second or three
        println!("while it computes {}", rss());
        crore::sleep(std::time::Duration::from_millis(500));
        println!("long after {}", rss());
    })
    .unwrap();
}
