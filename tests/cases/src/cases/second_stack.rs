//! Blocking calls on a second stack inside of a coroutine (`stacker::grow`, generators,
//! wasmtime). A read said `EDEADLK`, a sleep stopped the worker. Right: they park, in all kinds.

use std::{io::*, os::unix::net::UnixStream, time::*};
pub(crate) fn main() {
    crore::run(|| {
        for tls in [false, true] {
            let go = |f: Box<dyn FnOnce() -> String + Send>| {
                crore::Builder::new()
                    .own_thread_locals(tls)
                    .spawn(f)
                    .unwrap()
            };
            let (mut a, mut b) = UnixStream::pair().unwrap();
            let h = go(Box::new(move || {
                format!("{:?}", stacker::grow(1 << 20, || a.read(&mut [0; 8])))
            }));
            std::thread::sleep(Duration::from_millis(50));
            let _ = b.write_all(b"hello");
            println!(
                "own thread-locals {tls}: read on stacker's stack: {} (want Ok(5))",
                h.join().unwrap()
            );
            let beat = crore::spawn(|| {
                let mut worst = Duration::ZERO;
                for _ in 0..30 {
                    let t = Instant::now();
                    std::thread::sleep(Duration::from_millis(5));
                    worst = worst.max(t.elapsed());
                }
                worst
            });
            go(Box::new(|| {
                stacker::grow(1 << 20, || std::thread::sleep(Duration::from_millis(300)));
                String::new()
            }))
            .join()
            .unwrap();
            println!(
                "own thread-locals {tls}: sleep of 300 ms there stopped another coroutine for {:?}",
                beat.join().unwrap()
            );
        }
    })
    .unwrap();
}
