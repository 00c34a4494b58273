//! Closures of `spawn_blocking` that wait for coroutines which wait for a look-up. One
//! bounded pool served both, so 64 of them never ended. Right: they end.

use std::{net::ToSocketAddrs, sync::mpsc, time::Duration};
pub(crate) fn main() {
    std::thread::spawn(|| {
        std::thread::sleep(Duration::from_secs(5));
        println!("FAULT: deadlock");
        unsafe { libc::_exit(3) }
    });
    crore::run(|| {
        let all: Vec<_> = (0..64)
            .map(|_| {
                let (tx, rx) = mpsc::channel();
                let closure = crore::spawn_blocking(move || rx.recv().unwrap());
                crore::spawn(move || {
                    crore::sleep(Duration::from_millis(50));
                    tx.send("localhost:80".to_socket_addrs().unwrap().count())
                        .unwrap()
                });
                closure
            })
            .collect();
        for closure in all {
            closure.join().unwrap();
        }
        println!("fine");
    })
    .unwrap();
}
