//! The promise: a runtime ends in good order, and says who does not.
// Much of it waits in std::net and std::thread::sleep.
#![cfg(feature = "hook")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::panic::catch_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use crore::{Builder, CoroutineState, Handle, Runtime};

const SHORT: Duration = Duration::from_millis(10);
const LONG: Duration = Duration::from_secs(3600);

fn runtimes() -> impl Iterator<Item = Runtime> {
    [1, 3]
        .into_iter()
        .map(|workers| Runtime::builder().workers(workers).build().unwrap())
}

#[test]
fn drain_lets_the_others_end() {
    for workers in [1, 2] {
        let runtime = Runtime::builder()
            .workers(workers)
            .drain(LONG)
            .build()
            .unwrap();
        let ended = Arc::new(AtomicU32::new(0));
        let start = Instant::now();
        let value = runtime
            .run(|| {
                for i in 0..100 {
                    let ended = Arc::clone(&ended);
                    crore::spawn(move || {
                        crore::sleep(Duration::from_millis(i % 10));
                        // One that is spawned while all wait counts, too.
                        crore::spawn(move || ended.fetch_add(1, Relaxed));
                    });
                }
                "main's"
            })
            .unwrap();
        assert_eq!(value, "main's");
        assert_eq!(ended.load(Relaxed), 100);
        assert!(start.elapsed() < LONG, "it ends when they have, not later");
    }
}

#[test]
fn drain_has_an_end_and_a_panic_does_not_wait() {
    let runtime = Runtime::builder().drain(SHORT).build().unwrap();
    let start = Instant::now();
    let handle = runtime.run(|| crore::spawn(crore::park)).unwrap();
    assert!(start.elapsed() >= SHORT);
    assert!(handle.join().unwrap_err().is_cancelled());
    let runtime = Runtime::builder().drain(LONG).build().unwrap();
    let unwound = catch_unwind(std::panic::AssertUnwindSafe(|| {
        runtime.run(|| {
            crore::spawn(crore::park);
            std::panic::resume_unwind(Box::new("main's"))
        })
    }));
    assert_eq!(*unwound.unwrap_err().downcast::<&str>().unwrap(), "main's");
}

#[test]
fn a_server_is_shut_down_from_outside() {
    for runtime in runtimes() {
        let handle = runtime.handle();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = thread::spawn(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(b"x").unwrap();
            stream.read_exact(&mut [0]).unwrap();
            // A busy machine may need more than one moment for it.
            while handle.shutdown(SHORT).is_err() {}
            // The connection's coroutine was cancelled, its stream closed.
            assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        });
        let served = runtime.run(move || -> std::io::Result<()> {
            loop {
                let (mut stream, _) = listener.accept()?;
                crore::spawn(move || -> std::io::Result<()> {
                    let mut byte = [0];
                    loop {
                        stream.read_exact(&mut byte)?;
                        stream.write_all(&byte)?;
                    }
                });
            }
        });
        let error: std::io::Error = served.unwrap().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ECANCELED));
        client.join().unwrap();
    }
}

#[test]
fn those_that_end_on_their_own_are_not_cancelled() {
    for runtime in runtimes() {
        runtime
            .run(|| {
                let polite: Vec<_> = (0..10)
                    .map(|_| crore::spawn(|| crore::sleep(SHORT)))
                    .collect();
                let start = Instant::now();
                Handle::current().unwrap().shutdown(LONG).unwrap();
                assert!(start.elapsed() < LONG);
                polite.into_iter().for_each(|handle| handle.join().unwrap());
                assert!(!crore::is_cancelled(), "who shuts down is spared");
                crore::sleep(Duration::ZERO);
            })
            .unwrap();
    }
}

#[test]
fn who_hangs_is_named() {
    for runtime in runtimes() {
        let release = Arc::new(AtomicBool::new(false));
        let theirs = Arc::clone(&release);
        runtime
            .run(|| {
                let deaf = Builder::new()
                    .name("deaf")
                    .spawn(move || {
                        while !theirs.load(Relaxed) {
                            let _ = catch_unwind(|| crore::sleep(LONG));
                            // Slower than the patience with those who ignore.
                            thread::sleep(Duration::from_millis(1));
                            crore::unhooked(|| thread::sleep(Duration::from_millis(1)));
                        }
                    })
                    .unwrap();
                // A worker that has no time to answer leaves a list short.
                let error = loop {
                    let error = Handle::current().unwrap().shutdown(SHORT).unwrap_err();
                    assert_eq!(error.alive(), 1);
                    if !error.coroutines().is_empty() {
                        break error;
                    }
                };
                let [info] = error.coroutines() else {
                    panic!("{error}")
                };
                assert_eq!(
                    (info.name(), info.id()),
                    (Some("deaf"), deaf.coroutine().id())
                );
                assert!(info.is_cancelled() && info.spawned_at().file() == file!());
                assert!(
                    error.to_string().contains("coroutine 'deaf' (id "),
                    "{error}"
                );
                release.store(true, Relaxed);
                deaf.join().unwrap();
            })
            .unwrap();
    }
}

#[test]
fn a_dump_shows_everybody() {
    for runtime in runtimes() {
        let handle = runtime.handle();
        assert!(handle.dump().is_empty(), "nobody runs it");
        assert!(handle.shutdown(LONG).is_ok());
        runtime
            .run(|| {
                let parked = Builder::new().name("parked").spawn(crore::park).unwrap();
                crore::sleep(SHORT);
                crore::spawn_local(crore::yield_now);
                // SAFETY: the closure hands out no reference to its frames.
                unsafe { crore::spawn_shared(crore::park) };
                let mine = crore::current().id();
                let waiting = parked.coroutine().id();
                // One whose worker has no time to answer is left out.
                let both = move |handle: &Handle| {
                    loop {
                        let all = handle.dump();
                        let has = |id| all.iter().any(|info| info.id() == id);
                        if has(mine) && has(waiting) {
                            return all;
                        }
                    }
                };
                let from_inside = both(&handle);
                let theirs = handle.clone();
                let outside = thread::spawn(move || both(&theirs));
                while !outside.is_finished() {
                    crore::sleep(Duration::from_millis(1));
                }
                for all in [from_inside, outside.join().unwrap()] {
                    let find = |id| all.iter().find(|info| info.id() == id).unwrap();
                    assert_eq!(
                        find(parked.coroutine().id()).state(),
                        CoroutineState::Parked
                    );
                    assert_eq!(find(mine).name(), Some("main"));
                    assert_eq!(all.iter().filter(|info| info.is_shared()).count(), 1);
                    assert!(all.iter().all(|info| !info.is_cancelled()));
                }
                // An id from a dump is as good as any.
                let all = both(&handle);
                all.iter()
                    .find(|info| info.name() == Some("parked"))
                    .unwrap()
                    .id()
                    .unpark();
                parked.join().unwrap();
            })
            .unwrap();
        assert!(handle.dump().is_empty());
    }
    assert!(Handle::current().is_none());
}

#[test]
fn a_shutdown_that_comes_late_harms_no_later_run() {
    for runtime in runtimes() {
        let handle = runtime.handle();
        for _ in 0..50 {
            let theirs = handle.clone();
            let racer = thread::spawn(move || theirs.shutdown(Duration::ZERO));
            let _ = runtime.run(|| (0..10).for_each(|_| crore::yield_now()));
            let _ = racer.join().unwrap();
            assert_eq!(
                runtime.run(|| crore::spawn(|| 3).join().unwrap()).unwrap(),
                3
            );
        }
    }
}
