//! A cancelled coroutine in the `join` of std's `JoinHandle`. It blocked the worker's thread,
//! which was a deadlock if the joined thread needed that worker. Right: it parks on.

use std::{sync::mpsc, time::Duration};
pub(crate) fn main() {
    std::thread::spawn(|| {
        std::thread::sleep(Duration::from_secs(10));
        println!("FAULT: the worker hangs");
        std::process::exit(1)
    });
    crore::run(|| {
        let (tx, rx) = mpsc::channel::<u32>();
        let sender = crore::spawn(move || {
            crore::sleep(Duration::from_secs(3));
            tx.send(7).unwrap()
        });
        let joiner = crore::spawn(move || {
            std::thread::spawn(move || rx.recv().unwrap())
                .join()
                .unwrap()
        });
        crore::sleep(Duration::from_millis(500));
        joiner.cancel();
        sender.join().unwrap();
        println!("OK {:?}", joiner.join());
    })
    .unwrap();
}
