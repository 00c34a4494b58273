//! The promise: where threads are coroutines, code that starts, joins, names and ends
//! threads sees what it sees of the kernel's.
#![cfg(all(feature = "futex", target_os = "linux", target_env = "gnu"))]

#[path = "../common/mod.rs"]
mod common;
mod life;
mod pthreads;
mod real;
mod std_threads;

use std::fmt::Debug;

/// Runs `scenario` on a plain thread, and on one of a runtime whose threads are coroutines,
/// and compares what it returns.
fn same<T: Debug + PartialEq + Send + 'static>(scenario: fn() -> T) {
    let plain = std::thread::spawn(scenario).join().unwrap();
    for workers in [1, 3] {
        let ours = with_coroutines(workers, move || {
            std::thread::spawn(scenario).join().unwrap()
        });
        assert_eq!(
            ours, plain,
            "left: coroutines of {workers} workers, right: threads"
        );
    }
}

fn with_coroutines<T: Send>(workers: usize, scenario: impl FnOnce() -> T) -> T {
    let builder = crore::Runtime::builder().threads_as_coroutines(true);
    builder
        .workers(workers)
        .build()
        .unwrap()
        .run(scenario)
        .unwrap()
}
