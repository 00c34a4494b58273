//! The promise: a runtime ends in good order, and says who does not.
// Much of it waits in std::net and std::thread::sleep.
#![cfg(feature = "hook")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::panic::catch_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use crore::{Awaited, Builder, CoroutineInfo, CoroutineState, Handle, Runtime};

use crate::common::{kinds, succeeds};

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
                    .name("deaf".into())
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
                let parked = Builder::new()
                    .name("parked".into())
                    .spawn(crore::park)
                    .unwrap();
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

#[inline(never)]
fn waits_for_a_byte(stream: &mut UnixStream) -> u8 {
    let mut byte = [0];
    stream.read_exact(&mut byte).unwrap();
    byte[0]
}

/// Whatever stack it has: a parked coroutine says what it waits for, since
/// when and where, as often as it is asked, and is none the worse for it.
#[test]
fn who_is_parked_says_where_and_how_long() {
    for check in [false, true] {
        for workers in [1, 3] {
            let runtime = Runtime::builder()
                .workers(workers)
                .check_shared(check)
                .build();
            let runtime = runtime.unwrap();
            let handle = runtime.handle();
            runtime.run(|| parked_ones_tell(&handle)).unwrap();
        }
    }
}

fn parked_ones_tell(handle: &Handle) {
    let (mut far, readers): (Vec<_>, Vec<_>) = (0..30_u8)
        .map(|i| {
            let (mut near, far) = UnixStream::pair().unwrap();
            let fd = near.as_raw_fd();
            let body = move || {
                let local = [i; 100];
                let byte = waits_for_a_byte(&mut near);
                (byte, std::hint::black_box(local))
            };
            let kinds: Vec<_> = kinds().collect();
            let reader = kinds[usize::from(i) % kinds.len()].spawn(body);
            (far, (fd, reader))
        })
        .unzip();
    let long = Duration::from_millis(200);
    let sleeper = crore::spawn(|| crore::sleep(LONG));
    let future = crore::spawn_future(std::future::pending::<()>());
    let mut rounds = 0;
    loop {
        rounds += 1;
        let theirs = handle.clone();
        // From a coroutine, and from a thread.
        let all = match rounds % 2 {
            0 => handle.dump(),
            _ => crore::spawn_blocking(move || theirs.dump()).join().unwrap(),
        };
        let find = |id| all.iter().find(|info| info.id() == id);
        let tells = readers.iter().all(|(fd, reader)| {
            // A worker has to take it first, and run it.
            let info = find(reader.coroutine().id());
            let Some(info) = info.filter(|info| info.state() == CoroutineState::Parked) else {
                return false;
            };
            let awaits: Vec<_> = info.awaits().collect();
            assert_eq!(awaits, [Awaited::Readable(*fd)]);
            let trace = info.backtrace().expect("its stack has room").to_string();
            assert!(trace.contains("waits_for_a_byte"), "{trace}");
            // Nor what the worker itself does.
            let workers = trace.contains("crore::sched::run::");
            assert!(!cfg!(feature = "symbols") || !workers, "{trace}");
            let time = info.parked_for().unwrap();
            assert!(!info.is_shared() || time < LONG);
            let text = info.to_string();
            assert!(text.contains(" s, to read fd "), "{text}");
            time >= long
        });
        if tells {
            let sleeper = find(sleeper.coroutine().id()).unwrap().to_string();
            assert!(sleeper.contains(" s, for a time 3"), "{sleeper}");
            let future = find(future.coroutine().id()).unwrap();
            assert!(future.backtrace().is_none() && future.parked_for() >= Some(long));
            break;
        }
        crore::sleep(Duration::from_millis(20));
    }
    for (i, far) in far.iter_mut().enumerate() {
        far.write_all(&[i as u8 + 1]).unwrap();
    }
    for (i, (_, reader)) in (0..).zip(readers) {
        assert_eq!(reader.join().unwrap(), (i + 1, [i; 100]));
    }
    sleeper.cancel();
    future.cancel();
}

/// A scope waits for its children, cancelled or not.
#[test]
fn the_error_of_a_shutdown_says_where_who_hangs() {
    #[inline(never)]
    fn waits_for_its_child(child: impl FnOnce() + Send) {
        crore::scope(|scope| _ = scope.spawn(child));
        // Not a tail call, which would leave no frame.
        std::hint::black_box(());
    }
    for runtime in runtimes() {
        let release = Arc::new(AtomicBool::new(false));
        let theirs = Arc::clone(&release);
        let deaf = move || {
            while !theirs.load(Relaxed) {
                let _ = catch_unwind(|| crore::sleep(LONG));
                // Slower than the patience with those who ignore.
                crore::unhooked(|| thread::sleep(Duration::from_millis(1)));
            }
        };
        runtime
            .run(|| {
                let hung = crore::spawn(move || waits_for_its_child(deaf));
                let error = Handle::current().unwrap().shutdown(SHORT).unwrap_err();
                assert_eq!(error.coroutines().len(), 2, "{error}");
                let is_hung = |info: &&CoroutineInfo| info.id() == hung.coroutine().id();
                let info = error.coroutines().iter().find(is_hung).unwrap();
                let line = info.to_string();
                assert!(line.contains(", parked for ") && line.contains(", cancelled"));
                assert!(error.to_string().contains(&line), "{error}");
                let trace = info.backtrace().unwrap().to_string();
                assert!(trace.contains("waits_for_its_child"), "{trace}");
                assert!(
                    !error.to_string().contains("waits_for_its_child"),
                    "{error}"
                );
                assert!(format!("{error:#}").contains(&trace), "{error:#}");
                release.store(true, Relaxed);
                // With a result, or cancelled: when it looks again it has a choice.
                let _ = hung.join();
            })
            .unwrap();
    }
}

/// At any depth: where the room is too small, nobody looks.
#[test]
fn a_backtrace_never_overflows_the_stack_it_is_of() {
    /// Parks when so many bytes lie between `top` and here.
    #[inline(never)]
    fn deep(bytes: usize, top: usize) -> usize {
        let local = std::hint::black_box([bytes as u8; 64]);
        if top - local.as_ptr().addr() >= bytes {
            crore::park();
        } else {
            deep(bytes, top);
        }
        usize::from(local[7])
    }
    succeeds("a_backtrace_never_overflows_the_stack_it_is_of", || {
        crore::run(|| {
            let depths = (0..22 << 10).step_by(512);
            let parked: Vec<_> = depths
                .map(|bytes| {
                    let builder = Builder::new().stack_size(32 << 10);
                    let body = move || deep(bytes, (&raw const bytes).addr());
                    (bytes, builder.spawn(body).unwrap())
                })
                .collect();
            crore::yield_now();
            let all = Handle::current().unwrap().dump();
            let traced = |id| {
                let info = all.iter().find(|info| info.id() == id).unwrap();
                info.backtrace().is_some()
            };
            let ids = parked.iter().map(|(_, one)| one.coroutine().id());
            let traced: Vec<_> = ids.map(traced).collect();
            assert!(traced[0] && !traced[parked.len() - 1], "{traced:?}");
            assert!(traced.is_sorted_by(|a, b| a >= b), "{traced:?}");
            for (bytes, one) in parked {
                one.coroutine().unpark();
                assert_eq!(one.join().unwrap(), usize::from(bytes as u8));
            }
        })
        .unwrap();
    });
}
