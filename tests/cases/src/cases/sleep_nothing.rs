//! Sleeps and timed waits that ask for no time at all, in a loop that waits for a flag. No
//! other coroutine, timer or socket of the worker ever had its turn. Right: they do.
//! Argument: the kind of wait.

use std::{sync::atomic::*, time::*};
static STOP: AtomicBool = AtomicBool::new(false);
static N: AtomicU64 = AtomicU64::new(0);
pub(crate) fn main() {
    std::thread::spawn(|| {
        std::thread::sleep(Duration::from_secs(3));
        println!(
            "FAULT: {} calls in 3 s, nobody else ran",
            N.load(Ordering::Relaxed)
        );
        unsafe { libc::_exit(3) }
    });
    let (case, ns) = (
        std::env::args().nth(1).unwrap_or("std".into()),
        Duration::from_nanos(1),
    );
    crore::run(move || {
        let spinner = crore::spawn(move || {
            let (_tx, rx) = crore::sync::channel::bounded::<u8>(1);
            let sem = crore::sync::Semaphore::new(0);
            let past = Instant::now();
            while !STOP.load(Ordering::Relaxed) {
                match case.as_str() {
                    "std" => std::thread::sleep(ns), // as while !flag { sleep(1 ns) }
                    "sleep0" => crore::sleep(Duration::ZERO),
                    "until" => crore::sleep_until(past),
                    "park" => crore::park_timeout(ns),
                    "recv" => drop(rx.recv_timeout(ns)),
                    "acquire" => drop(sem.acquire_timeout(1, Duration::ZERO)),
                    _ => unsafe {
                        let (mut m, mut c) = (
                            libc::PTHREAD_MUTEX_INITIALIZER,
                            libc::PTHREAD_COND_INITIALIZER,
                        );
                        libc::pthread_mutex_lock(&mut m);
                        libc::pthread_cond_timedwait(
                            &mut c,
                            &mut m,
                            &libc::timespec {
                                tv_sec: 1,
                                tv_nsec: 0,
                            },
                        );
                        libc::pthread_mutex_unlock(&mut m);
                    },
                }
                N.fetch_add(1, Ordering::Relaxed);
            }
        });
        crore::spawn(|| STOP.store(true, Ordering::Relaxed)); // runs never
        spinner.join().unwrap();
        println!("fine");
    })
    .unwrap();
}
