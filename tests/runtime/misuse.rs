//! The promise: handles and futures that are used in ways which nobody should
//! (leaked, asked again after their end, kept for too long) harm nobody else,
//! and leave nothing behind.

use std::fs;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::process::{Command, Stdio};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use crore::Runtime;
use crore::sync::channel;

const LONG: Duration = Duration::from_secs(3600);

#[test]
fn a_sent_future_that_is_polled_again_takes_nobody_s_turn() {
    let mut context = Context::from_waker(Waker::noop());
    let (tx, rx) = channel::bounded(1);
    let mut send = pin!(tx.send_async(1));
    assert!(send.as_mut().poll(&mut context).is_ready());
    assert_eq!(rx.try_recv(), Ok(1));
    let mut recv = pin!(rx.recv_async());
    assert!(recv.as_mut().poll(&mut context).is_pending());
    let _ = catch_unwind(AssertUnwindSafe(|| {
        let _ = send.as_mut().poll(&mut context);
    }));
    tx.try_send(2).unwrap();
    assert_eq!(recv.as_mut().poll(&mut context), Poll::Ready(Ok(2)));
}

#[test]
fn a_shutdown_ends_with_the_run_that_it_was_for() {
    let runtime = Runtime::builder().build().unwrap();
    let handle = runtime.handle();
    let waiter = runtime
        .run(move || {
            let waiter = thread::spawn(move || handle.shutdown(LONG).is_ok());
            crore::sleep(Duration::from_millis(50));
            waiter
        })
        .unwrap();
    // Waits for the next run, of which the shutdown knows nothing.
    let left = runtime.handle().spawn(|| ());
    assert!(waiter.join().unwrap());
    drop(runtime);
    assert!(left.join().unwrap_err().is_cancelled());
}

#[test]
fn an_id_that_was_asked_for_before_the_end_takes_no_room_after_it() {
    let ids: Vec<String> = (0..50)
        .map(|_| {
            let runtime = Runtime::builder().build().unwrap();
            let never = runtime.handle().spawn(|| ());
            let id = never.coroutine().id().to_string();
            drop(runtime);
            assert!(never.join().unwrap_err().is_cancelled());
            id
        })
        .collect();
    // "worker:place:generation": the places come up again.
    let place = |id: &String| id.split(':').nth(1).unwrap().parse::<u32>().unwrap();
    let highest = ids.iter().map(place).max().unwrap();
    assert!(highest < 25, "{ids:?}");
}

/// Bytes of address space.
fn address_space() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmSize:"))
        .unwrap();
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    kilobytes << 10
}

#[test]
fn shared_stacks_that_are_too_many_are_an_error_and_all_given_back() {
    // In a process of its own: others reserve address space meanwhile.
    let name = "shared_stacks_that_are_too_many_are_an_error_and_all_given_back";
    let output = crate::common::in_child(name, || {
        let before = address_space();
        for _ in 0..3 {
            let runtime = Runtime::builder()
                .shared_stacks(u32::MAX, 1 << 30)
                .check_shared(false)
                .build()
                .unwrap();
            runtime
                .run(|| {
                    // SAFETY: it has no locals.
                    let error = unsafe { crore::spawn_shared(|| ()) }.join().unwrap_err();
                    assert!(error.to_string().contains("stacks of"), "{error}");
                })
                .unwrap();
        }
        // A terabyte each, if it is not given back.
        let kept = address_space().saturating_sub(before);
        assert!(kept < 1 << 38, "{kept} bytes kept");
    });
    assert!(
        output.status.success(),
        "{}",
        crate::common::stderr(&output)
    );
}

#[test]
fn sizes_out_of_all_bounds_are_errors() {
    crore::run(|| {
        let error = crore::Builder::new()
            .stack_size(usize::MAX)
            .spawn(|| ())
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(crore::Builder::new().stack_size(0).spawn(|| ()).is_ok());
    })
    .unwrap();
    let runtime = Runtime::builder()
        .shared_stacks(u32::MAX, usize::MAX)
        .check_shared(false)
        .max_coroutines(u32::MAX)
        .max_stacks(usize::MAX)
        .warm_stacks(usize::MAX)
        .drain(Duration::MAX)
        .build()
        .unwrap();
    runtime
        .run(|| {
            // SAFETY: it has no locals.
            let error = unsafe { crore::spawn_shared(|| ()) }.join().unwrap_err();
            assert!(error.to_string().contains("too large"), "{error}");
            crore::spawn(|| 3).join().unwrap()
        })
        .unwrap();
    assert!(Runtime::builder().workers(usize::MAX).build().is_err());
}

#[test]
fn a_standard_error_that_nobody_reads_ends_nothing() {
    const NAME: &str = "a_standard_error_that_nobody_reads_ends_nothing";
    const CHILD: &str = "CRORE_TEST_NOBODY_READS";
    if std::env::var_os(CHILD).is_some() {
        let ended = crore::run(|| {
            let deaf = crore::spawn(|| {
                loop {
                    let _ = catch_unwind(AssertUnwindSafe(crore::yield_now));
                }
            });
            crore::yield_now();
            deaf.cancel();
            // The message about it goes nowhere.
            deaf.join().unwrap_err().is_cancelled()
        });
        std::process::exit(i32::from(!ended.unwrap()));
    }
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &crate::common::whole_name(NAME), "--nocapture"])
        .env(CHILD, "1")
        .stdout(Stdio::null())
        .stderr(writer)
        .status()
        .unwrap();
    assert!(status.success(), "{status:?}");
}
