//! Threads that stay the kernel's.

use std::thread;

use crate::with_coroutines;

/// The kernel's number of the thread. (`gettid` is each thread's own.)
fn tid() -> i32 {
    let place = std::fs::read_link("/proc/thread-self").unwrap();
    place
        .file_name()
        .unwrap()
        .to_str()
        .unwrap()
        .parse()
        .unwrap()
}

#[test]
fn only_threads_of_coroutines_are_coroutines_and_only_if_asked_for() {
    let (here, other) = with_coroutines(1, || (tid(), thread::spawn(tid).join().unwrap()));
    assert_eq!(here, other);
    crore::run(|| assert_ne!(tid(), thread::spawn(tid).join().unwrap())).unwrap();
    assert_ne!(tid(), thread::spawn(tid).join().unwrap());
}

#[test]
fn unhooked_code_starts_real_threads() {
    with_coroutines(1, || {
        let real = crore::unhooked(|| thread::spawn(tid));
        assert_ne!(real.join().unwrap(), tid());
    });
}

#[test]
fn start_routines_are_kept_real_as_the_builder_says() {
    let runtime = crore::Runtime::builder()
        .threads_as_coroutines(true)
        .keep_real(|_| true)
        .build()
        .unwrap();
    runtime
        .run(|| assert_ne!(thread::spawn(tid).join().unwrap(), tid()))
        .unwrap();
}

#[test]
fn helper_threads_of_the_runtime_are_real() {
    with_coroutines(1, || {
        let helper = crore::spawn_blocking(tid).join().unwrap();
        assert_ne!(helper, tid());
        // The disk, a name, a command: each by a thread that waits.
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        file.sync_all().ok();
        assert!(std::net::ToSocketAddrs::to_socket_addrs("localhost:80").is_ok());
        let done = std::process::Command::new("true").status().unwrap();
        assert!(done.success());
    });
}

#[test]
fn a_real_thread_joins_one_that_is_a_coroutine() {
    with_coroutines(1, || {
        let ours = thread::spawn(|| {
            thread::sleep(std::time::Duration::from_millis(20));
            tid()
        });
        let real = crore::unhooked(|| thread::spawn(move || (tid(), ours.join().unwrap())));
        let (real, ours) = real.join().unwrap();
        assert_eq!(ours, tid());
        assert_ne!(real, ours);
    });
}
