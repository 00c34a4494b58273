//! A cancelled coroutine in std's JoinHandle::join does not park any more: the hook falls back to
//! the real pthread_join and blocks the worker's thread (hook/thread.rs:56). If the joined thread
//! needs anything of that worker, that is a deadlock, with no report. Should go on parking, as
//! the docs say of locks ("wait for real"), so that the others run.

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
