//! The promise: a coroutine that does not give its worker back is named, with where it
//! is; nothing else is.

use std::hint::black_box;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use crore::{Builder, CoroutineState, Handle, Runtime};

use crate::common::{in_child, set_limit, stderr};

const LIMIT: Duration = Duration::from_millis(30);

fn watched() -> Runtime {
    let builder = Runtime::builder().watchdog(Some(LIMIT));
    builder.build().unwrap()
}

fn holds() -> u64 {
    Handle::current().unwrap().metrics().holds
}

/// The reports of a child in which a coroutine named 'hog' runs `body`.
fn reports_of(name: &str, body: fn()) -> Vec<String> {
    let output = in_child(name, || {
        watched()
            .run(|| {
                let hog = Builder::new().name("hog".into()).spawn(body).unwrap();
                hog.join().unwrap();
            })
            .unwrap();
    });
    reports(&output)
}

fn reports(output: &Output) -> Vec<String> {
    let text = stderr(output);
    assert!(output.status.success(), "{text}");
    let parts = text.split("crore: ").skip(1);
    parts.map(str::to_owned).collect()
}

#[track_caller]
fn names_the_hog(reports: &[String], function: &str) {
    let [report, ..] = reports else {
        panic!("no report");
    };
    assert!(report.starts_with("coroutine 'hog' (id "), "{report}");
    assert!(
        report.contains("spawned at tests/faults/holds.rs:"),
        "{report}"
    );
    assert!(report.contains(" has held worker 0 for "), "{report}");
    if cfg!(feature = "symbols") {
        assert!(report.contains(function), "{report}");
    }
}

#[inline(never)]
fn computes_until_it_is_reported() {
    while holds() == 0 {
        black_box((0..1_000u64).sum::<u64>());
    }
}

#[test]
fn one_that_computes() {
    let reports = reports_of("one_that_computes", computes_until_it_is_reported);
    names_the_hog(&reports, "computes_until_it_is_reported");
    assert!(!reports[0].contains("system call"), "{}", reports[0]);
}

#[inline(never)]
fn sleeps_unhooked() {
    crore::unhooked(|| {
        while holds() == 0 {
            thread::sleep(8 * LIMIT);
        }
    });
}

#[test]
fn one_that_sleeps_where_it_is_not_hooked() {
    let reports = reports_of("one_that_sleeps_where_it_is_not_hooked", sleeps_unhooked);
    names_the_hog(&reports, "sleeps_unhooked");
    assert!(
        reports[0].contains("in the system call clock_nanosleep"),
        "{}",
        reports[0]
    );
}

/// The watchdog takes none of a program's descriptors, so it does not miss them.
#[test]
fn one_that_sleeps_where_no_descriptor_is_left() {
    let reports = reports_of("one_that_sleeps_where_no_descriptor_is_left", || {
        set_limit(libc::RLIMIT_NOFILE, 0);
        sleeps_unhooked();
    });
    let [report, ..] = reports.as_slice() else {
        panic!("no report");
    };
    let call = "in the system call clock_nanosleep";
    assert!(report.contains(call), "{report}");
}

/// A system call that no hook can see.
#[cfg(target_arch = "x86_64")]
#[inline(never)]
fn reads_inline() {
    use std::os::fd::AsRawFd;

    let (reader, writer) = std::os::unix::net::UnixStream::pair().unwrap();
    let writer = thread::spawn(move || {
        thread::sleep(20 * LIMIT);
        drop(writer);
    });
    let mut byte = 0u8;
    let mut result = libc::SYS_read as isize;
    // SAFETY: `read` of one byte into a live buffer, and of nothing else.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") result,
            in("rdi") reader.as_raw_fd(), in("rsi") &raw mut byte, in("rdx") 1,
            lateout("rcx") _, lateout("r11") _,
        );
    }
    assert_eq!(result, 0);
    writer.join().unwrap();
}

#[cfg(target_arch = "x86_64")]
#[test]
fn one_that_reads_by_an_inline_system_call() {
    let reports = reports_of("one_that_reads_by_an_inline_system_call", reads_inline);
    names_the_hog(&reports, "reads_inline");
    let call = "in the system call read on descriptor ";
    assert!(reports[0].contains(call), "{}", reports[0]);
}

/// Many at the same time, none for long; and waits, which are what workers are for.
#[test]
fn nobody_who_gives_it_back() {
    let output = in_child("nobody_who_gives_it_back", || {
        watched()
            .run(|| {
                let all: Vec<_> = (0..50)
                    .map(|_| {
                        crore::spawn(|| {
                            for _ in 0..40 {
                                black_box((0..10_000u64).sum::<u64>());
                                crore::yield_now();
                                crore::sleep(Duration::from_millis(2));
                            }
                        })
                    })
                    .collect();
                all.into_iter().for_each(|one| one.join().unwrap());
                crore::sleep(10 * LIMIT);
                assert_eq!(holds(), 0);
            })
            .unwrap();
    });
    assert_eq!(reports(&output), Vec::<String>::new());
}

/// Its own handler of the signal stays the program's, and is not called; then reports
/// have no backtrace.
#[test]
fn a_program_that_has_the_signal_for_itself() {
    extern "C" fn never(_: libc::c_int) {
        std::process::abort();
    }
    let output = in_child("a_program_that_has_the_signal_for_itself", || {
        // SAFETY: the handler is async-signal-safe.
        unsafe { libc::signal(libc::SIGURG, never as *const () as libc::sighandler_t) };
        watched().run(computes_until_it_is_reported).unwrap();
    });
    let reports = reports(&output);
    assert_eq!(reports.len(), 1, "{reports:?}");
    assert!(
        reports[0].starts_with("a coroutine has held worker 0 for "),
        "{reports:?}"
    );
    assert_eq!(reports[0].trim_end().lines().count(), 1, "{reports:?}");
}

#[inline(never)]
fn computes_until(end: &AtomicBool) {
    while !end.load(Relaxed) {
        black_box((0..1_000u64).sum::<u64>());
    }
}

/// Of its own worker nobody could say it: that reads no mail.
#[test]
fn a_dump_has_what_a_busy_worker_runs_and_the_others_there() {
    let runtime = Runtime::builder().watchdog(None).build().unwrap();
    let (handle, end) = (runtime.handle(), Arc::new(AtomicBool::new(false)));
    let (stop, begun) = (Arc::clone(&end), Arc::new(AtomicBool::new(false)));
    let begins = Arc::clone(&begun);
    let asker = thread::spawn(move || {
        while !begun.load(Relaxed) {
            thread::yield_now();
        }
        let dump = handle.dump();
        stop.store(true, Relaxed);
        dump
    });
    runtime
        .run(|| {
            let parked: Vec<_> = (0..100).map(|_| crore::spawn(crore::park)).collect();
            crore::yield_now();
            let hog = Builder::new().name("hog".into());
            let hog = hog.spawn(move || {
                begins.store(true, Relaxed);
                computes_until(&end);
            });
            hog.unwrap().join().unwrap();
            parked.iter().for_each(|one| one.coroutine().unpark());
        })
        .unwrap();
    let dump = asker.join().unwrap();
    // The main coroutine, too, which joins.
    let parked = dump
        .iter()
        .filter(|one| one.state() == CoroutineState::Parked);
    assert_eq!((dump.len(), parked.count()), (102, 101), "{dump:?}");
    let hog = dump.iter().find(|one| one.name() == Some("hog")).unwrap();
    assert_eq!(hog.state(), CoroutineState::Running);
    let trace = hog.backtrace().expect("it was interrupted").to_string();
    if cfg!(feature = "symbols") {
        assert!(trace.contains("computes_until"), "{trace}");
        assert!(
            !trace.contains("crore::sched::run"),
            "the worker's own: {trace}"
        );
    }
}
