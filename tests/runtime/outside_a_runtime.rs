//! The promise: what each function does outside a runtime, and how `run`
//! begins and ends.

use std::any::Any;
use std::cell::Cell;
use std::future::ready;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crore::{Builder, Coroutine, JoinHandle, Runtime};

const MS: Duration = Duration::from_millis(1);

fn message(result: Result<impl Sized, Box<dyn Any + Send>>) -> String {
    let Err(payload) = result else {
        panic!("it did not panic")
    };
    *payload.downcast::<String>().expect("a formatted message")
}

#[test]
fn spawning_outside_says_how_to_start_a_runtime() {
    // SAFETY: none of the closures ever runs.
    let shared = |f: fn()| unsafe { crore::spawn_shared(f) };
    let spawns: [&dyn Fn() -> JoinHandle<()>; 3] = [
        &|| crore::spawn(|| ()),
        &|| crore::spawn_local(|| ()),
        &|| shared(|| ()),
    ];
    for spawn in spawns {
        let text = message(catch_unwind(AssertUnwindSafe(spawn)));
        assert!(text.starts_with("failed to spawn: "), "{text}");
        assert!(text.contains("crore::run(|| …)"), "{text}");
    }
    let errors = [
        Builder::new().spawn(|| ()).unwrap_err(),
        Builder::new().spawn_local(|| ()).unwrap_err(),
        // SAFETY: it never runs.
        unsafe { Builder::new().spawn_shared(|| ()) }.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::NotConnected);
        assert!(error.to_string().contains("crore::run(|| …)"), "{error}");
    }
}

#[test]
fn nobody_is_current_outside() {
    assert!(crore::try_current().is_none());
    let text = message(catch_unwind(crore::current));
    assert!(text.contains("crore::run(|| …) starts one"), "{text}");
    crore::run(|| assert!(crore::try_current().is_some())).unwrap();
    assert!(crore::try_current().is_none());
}

#[test]
fn waiting_outside_is_the_thread_s_own() {
    let start = Instant::now();
    crore::yield_now();
    crore::sleep(MS);
    crore::sleep_until(start);
    crore::park_timeout(MS);
    assert!(start.elapsed() >= MS);
    thread::current().unpark();
    crore::park();
    assert_eq!(crore::block_on(ready(3)), 3);
}

#[test]
fn a_handle_of_a_dropped_runtime_reaches_no_other() {
    let large = Runtime::builder().max_coroutines(1 << 20).build().unwrap();
    large.run(|| crore::spawn(|| ()).join().unwrap()).unwrap();
    let stale = large.handle();
    assert_eq!(stale.metrics().spawned, 2);
    drop(large);
    // One of these takes the place of the dropped one.
    let others: Vec<_> = (0..8)
        .map(|_| Runtime::builder().max_coroutines(4).build().unwrap())
        .collect();
    let error = Builder::new().spawn_on(&stale, || ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotConnected);
    assert_eq!(error.to_string(), "the runtime has ended");
    let text = message(catch_unwind(AssertUnwindSafe(|| stale.spawn(|| ()))));
    assert_eq!(text, "failed to spawn: the runtime has ended");
    assert_eq!(stale.metrics(), crore::Metrics::default());
    for other in others {
        assert_eq!(other.metrics(), crore::Metrics::default());
        other.run(|| ()).unwrap();
        assert_eq!(other.metrics().spawned, 1);
    }
}

#[test]
fn run_does_not_nest() {
    let other = Runtime::builder().build().unwrap();
    crore::run(|| {
        for error in [
            crore::run(|| ()).unwrap_err(),
            other.run(|| ()).unwrap_err(),
        ] {
            let text = error.to_string();
            assert!(
                text.contains("spawn a coroutine instead of nesting run"),
                "{text}"
            );
        }
        // The one that runs is none the worse for it.
        crore::spawn(crore::yield_now).join().unwrap();
    })
    .unwrap();
    other.run(|| ()).unwrap();
}

#[test]
fn run_refuses_a_thread_that_unwinds() {
    struct RunsWhenDropped(mpsc::Sender<String>);
    impl Drop for RunsWhenDropped {
        fn drop(&mut self) {
            let error = crore::run(|| ()).unwrap_err();
            self.0.send(error.to_string()).unwrap();
        }
    }
    let (send, receive) = mpsc::channel();
    let _ = catch_unwind(AssertUnwindSafe(|| {
        let _guard = RunsWhenDropped(send);
        panic!("a reason to unwind");
    }));
    assert!(receive.recv().unwrap().contains("unwinds from a panic"));
}

#[test]
fn run_borrows_from_its_caller() {
    let text = String::from("a b c");
    let mut words = Vec::new();
    let count = Cell::new(0);
    // Takes by reference, returns what borrows from the caller.
    let last: &str = crore::run(|| {
        for word in text.split(' ') {
            count.set(count.get() + 1);
            words.push(word);
            crore::yield_now();
        }
        words[words.len() - 1]
    })
    .unwrap();
    assert_eq!((last, count.get(), words), ("c", 3, vec!["a", "b", "c"]));
}

#[test]
fn a_runtime_runs_again_on_any_thread() {
    let runtime = Runtime::builder().build().unwrap();
    for round in 0..3 {
        let sum = runtime.run(|| crore::spawn(move || round).join().unwrap());
        assert_eq!(sum.unwrap(), round);
    }
    let panicked = catch_unwind(AssertUnwindSafe(|| runtime.run(|| panic!("once"))));
    assert_eq!(*panicked.unwrap_err().downcast::<&str>().unwrap(), "once");
    thread::scope(|scope| {
        let elsewhere = scope.spawn(|| runtime.run(|| crore::spawn(|| 5).join().unwrap()));
        assert_eq!(elsewhere.join().unwrap().unwrap(), 5);
    });
    assert_eq!(runtime.metrics().spawned, 2 * 3 + 1 + 2);
    assert_eq!(runtime.metrics().ended, runtime.metrics().spawned);
}

#[test]
fn one_thread_at_a_time_runs_a_runtime() {
    let runtime = Runtime::builder().build().unwrap();
    thread::scope(|scope| {
        let (send, receive) = mpsc::channel();
        let first = scope.spawn({
            let runtime = &runtime;
            move || {
                runtime.run(|| {
                    send.send(crore::current()).unwrap();
                    crore::park();
                })
            }
        });
        let main: Coroutine = receive.recv().unwrap();
        let error = runtime.run(|| ()).unwrap_err();
        assert_eq!(error.to_string(), "another thread runs this runtime");
        main.unpark();
        first.join().unwrap().unwrap();
    });
    runtime.run(|| ()).unwrap();
}

#[test]
fn a_panic_of_run_s_closure_comes_out_after_all_others_have_ended() {
    struct SetOnDrop(Arc<AtomicBool>);
    impl Drop for SetOnDrop {
        fn drop(&mut self) {
            self.0.store(true, Relaxed);
        }
    }
    let ended = Arc::new(AtomicBool::new(false));
    let theirs = SetOnDrop(Arc::clone(&ended));
    let result = catch_unwind(|| {
        crore::run(|| {
            crore::spawn(move || {
                let _theirs = theirs;
                crore::park();
            });
            crore::yield_now();
            std::panic::panic_any(17u8);
        })
    });
    assert_eq!(*result.unwrap_err().downcast::<u8>().unwrap(), 17);
    assert!(ended.load(Relaxed));
}

#[test]
fn a_main_that_was_cancelled_is_an_error_of_run() {
    let error = crore::run(|| {
        crore::current().cancel();
        crore::park();
    });
    assert_eq!(error.unwrap_err().to_string(), "coroutine was cancelled");
}

#[test]
fn spawns_from_outside_wait_for_the_run() {
    let runtime = Runtime::builder().build().unwrap();
    let early = runtime.handle().spawn(|| crore::current().id());
    assert!(!early.is_finished());
    let id = early.coroutine().id();
    assert_eq!(runtime.run(|| early.join().unwrap()).unwrap(), id);
}

#[test]
fn two_runtimes_talk_to_each_other() {
    const ROUNDS: u32 = 1000;
    let (send, receive) = mpsc::channel::<Coroutine>();
    let (send_back, receive_back) = mpsc::channel::<(Coroutine, JoinHandle<u32>)>();
    let there = thread::spawn(move || {
        crore::run(|| {
            let peer = receive.recv().unwrap();
            let main = crore::current();
            let echo = crore::spawn(move || {
                for _ in 0..ROUNDS {
                    crore::park();
                    peer.unpark();
                }
                main.unpark();
                ROUNDS
            });
            send_back.send((echo.coroutine(), echo)).unwrap();
            crore::park(); // to return would cancel the echo
        })
    });
    crore::run(|| {
        send.send(crore::current()).unwrap();
        let (echo, handle) = receive_back.recv().unwrap();
        for _ in 0..ROUNDS {
            echo.unpark();
            crore::park();
        }
        assert_eq!(handle.join().unwrap(), ROUNDS);
    })
    .unwrap();
    there.join().unwrap().unwrap();
}
