//! A runtime on another backend than the kernel's: files in memory, and time
//! that passes only while every coroutine waits.

use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::driver::{Direction, FileKind, MemoryBackend, Readiness};
use crate::runtime::Runtime;
use crate::sched::Cx;
use crate::sync::channel;

/// A number that nobody else in this process has.
const FD: RawFd = 8_100;

fn runtime(memory: &MemoryBackend) -> Runtime {
    let builder = Runtime::builder().backend(Arc::new(memory.clone()));
    builder.build().unwrap()
}

#[test]
fn coroutines_wait_for_files_in_memory() {
    let memory = MemoryBackend::new();
    memory.open(FD, FileKind::Tcp);
    let writer = memory.clone();
    let woken = runtime(&memory).run(move || {
        let reader = crate::spawn(|| {
            let cx = Cx::current().expect("a coroutine");
            cx.wait(FD, Direction::Read, None).is_ok()
        });
        crate::sleep(Duration::from_secs(60));
        let read = true;
        let ready = Readiness {
            read,
            ..Readiness::default()
        };
        writer.set_ready(FD, ready, true);
        reader.join().unwrap()
    });
    assert!(woken.unwrap());
}

#[test]
fn days_of_sleeps_and_timeouts_pass_at_once() {
    let memory = MemoryBackend::new();
    let real = Instant::now();
    let day = Duration::from_secs(86_400);
    let order = runtime(&memory).run(move || {
        let (tx, rx) = channel::unbounded();
        for days in [3, 1, 2] {
            let tx = tx.clone();
            crate::spawn(move || {
                crate::sleep(day * days);
                tx.send(days).unwrap();
            });
        }
        assert!(crate::timeout(day / 2, || rx.recv()).is_err());
        assert!(rx.recv_timeout(day / 4).is_err());
        [(); 3].map(|()| rx.recv().unwrap())
    });
    assert_eq!(order.unwrap(), [1, 2, 3]);
    assert!(real.elapsed() < day);
}

#[test]
fn another_thread_reaches_a_runtime_that_sleeps_in_memory() {
    let (tx, rx) = channel::unbounded();
    let thread = std::thread::spawn(move || tx.send(7).unwrap());
    let got = runtime(&MemoryBackend::new()).run(move || rx.recv().unwrap());
    assert_eq!(got.unwrap(), 7);
    thread.join().unwrap();
}
