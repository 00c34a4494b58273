//! The promise: each limit that is reached is an error that names it and says
//! what to do, and when there is room again things go on.

use std::io::ErrorKind;
#[cfg(feature = "hook")]
use std::io::{Read, Write};
#[cfg(feature = "hook")]
use std::net::{TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
#[cfg(feature = "hook")]
use std::sync::LazyLock;
#[cfg(feature = "hook")]
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

#[cfg(feature = "hook")]
use crore::sync::Semaphore;
use crore::{Builder, CoroutineId, Handle, JoinHandle, Runtime};

use crate::common::{in_child, kilobytes, set_limit, stderr, succeeds};

/// So many coroutines that only wait.
fn parked(count: usize) -> Vec<JoinHandle<()>> {
    (0..count).map(|_| crore::spawn(crore::park)).collect()
}

fn release(all: Vec<JoinHandle<()>>) {
    for handle in all {
        handle.coroutine().unpark();
        handle.join().unwrap();
    }
}

#[test]
fn max_coroutines_is_an_error_of_the_spawn() {
    let runtime = Runtime::builder().max_coroutines(10).build().unwrap();
    runtime
        .run(|| {
            let mut all = parked(9);
            for _ in 0..3 {
                let error = Builder::new().spawn(|| ()).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::QuotaExceeded);
                let text = error.to_string();
                assert!(text.starts_with("this worker has 10 coroutines"), "{text}");
                assert!(
                    text.contains("Runtime::builder().max_coroutines(n)"),
                    "{text}"
                );

                let payload = catch_unwind(|| crore::spawn(|| ())).unwrap_err();
                let text = payload.downcast::<String>().unwrap();
                assert!(
                    text.starts_with("failed to spawn: this worker has 10 coroutines"),
                    "{text}"
                );
                assert!(text.contains("max_coroutines"), "{text}");

                release(all.split_off(8));
                all.push(crore::spawn(crore::park));
            }
            release(all);
        })
        .unwrap();
}

#[test]
fn spawns_from_outside_have_places_of_their_own() {
    let runtime = Runtime::builder().max_coroutines(3).build().unwrap();
    let handle = runtime.handle();
    for _ in 0..3 {
        let queued: Vec<_> = (0..3).map(|_| handle.spawn(|| ())).collect();
        let error = Builder::new().spawn_on(&handle, || ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::QuotaExceeded);
        assert!(error.to_string().contains("max_coroutines(n)"), "{error}");
        assert!(catch_unwind(AssertUnwindSafe(|| handle.spawn(|| ()))).is_err());
        runtime
            .run(|| queued.into_iter().for_each(|handle| handle.join().unwrap()))
            .unwrap();
    }
}

#[test]
fn what_finds_no_place_waits_for_one() {
    let runtime = Runtime::builder().max_coroutines(3).build().unwrap();
    runtime
        .run(|| {
            let queued = Handle::current().unwrap().spawn(|| 5);
            let all: Vec<_> = (0..2).map(|_| crore::spawn_local(crore::park)).collect();
            // The worker looks at it each time, and has no slot for it.
            (0..10).for_each(|_| crore::yield_now());
            assert!(!queued.is_finished());
            release(all);
            assert_eq!(queued.join().unwrap(), 5);
        })
        .unwrap();
}

#[test]
fn places_from_outside_are_used_again_by_many_threads() {
    fn spawn_until_there_is_room(handle: &Handle) -> JoinHandle<CoroutineId> {
        loop {
            match Builder::new().spawn_on(handle, || crore::current().id()) {
                Ok(handle) => return handle,
                Err(error) => assert_eq!(error.kind(), ErrorKind::QuotaExceeded),
            }
            thread::yield_now();
        }
    }
    let runtime = Runtime::builder().max_coroutines(4).build().unwrap();
    thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let handle = runtime.handle();
                scope.spawn(move || {
                    for _ in 0..500 {
                        let join = spawn_until_there_is_room(&handle);
                        let id = join.coroutine().id();
                        assert_eq!(join.join().unwrap(), id);
                    }
                })
            })
            .collect();
        runtime
            .run(|| {
                while !threads.iter().all(|thread| thread.is_finished()) {
                    crore::yield_now();
                }
            })
            .unwrap();
    });
    // The last ones are counted by the end of the run.
    assert_eq!(runtime.metrics().ended, 1 + 4 * 500);
}

#[test]
fn max_stacks_is_an_error_of_the_join() {
    let runtime = Runtime::builder().max_stacks(4).build().unwrap();
    runtime
        .run(|| {
            let mut all = parked(4);
            crore::yield_now();
            let drops = std::sync::Arc::new(());
            let theirs = drops.clone();
            let error = crore::spawn(move || drop(theirs)).join().unwrap_err();
            assert_eq!(std::sync::Arc::strong_count(&drops), 1);
            assert!(!error.is_panic() && !error.is_cancelled());
            let text = error.to_string();
            assert!(
                text.starts_with("coroutine could not start: all 4 stacks of 65536"),
                "{text}"
            );
            assert!(
                text.contains("`max_stacks`") && text.contains("shared stacks"),
                "{text}"
            );
            assert!(std::error::Error::source(&error).is_some());

            // Other sizes have their own, and a stack given back is used again.
            let other = Builder::new().stack_size(128 << 10).spawn(|| 1).unwrap();
            assert_eq!(other.join().unwrap(), 1);
            release(all.split_off(3));
            assert_eq!(crore::spawn(|| 2).join().unwrap(), 2);
            release(all);
        })
        .unwrap();
}

#[test]
fn a_stack_that_is_not_there_is_told_to_nobody_s_loss() {
    let output = in_child("a_stack_that_is_not_there_is_told_to_nobody_s_loss", || {
        let runtime = Runtime::builder().max_stacks(1).build().unwrap();
        runtime
            .run(|| {
                let all = parked(1);
                crore::yield_now();
                drop(crore::spawn(|| ())); // whom nobody joins
                crore::yield_now();
                release(all);
            })
            .unwrap();
    });
    let text = stderr(&output);
    assert!(output.status.success(), "{text}");
    assert!(
        text.starts_with("crore: a coroutine spawned at tests/runtime/limits.rs:"),
        "{text}"
    );
    assert!(
        text.contains("could not start") && text.contains("max_stacks"),
        "{text}"
    );
}

#[test]
fn stack_sizes_from_nothing_to_absurd() {
    crore::run(|| {
        for size in [0, 1, 4096, 100_001, 1 << 30] {
            let builder = Builder::new().stack_size(size);
            assert_eq!(builder.spawn(|| 5).unwrap().join().unwrap(), 5, "{size}");
        }
        for size in [(1 << 30) + 1, usize::MAX / 2, usize::MAX] {
            let error = Builder::new().stack_size(size).spawn(|| ()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            let text = error.to_string();
            assert!(
                text.contains(&size.to_string()) && text.contains("1 GiB"),
                "{text}"
            );
        }
    })
    .unwrap();
}

#[test]
fn too_many_sizes_of_stacks_are_an_error_of_the_join() {
    crore::run(|| {
        let refused = (8..1000).find_map(|pages| {
            let builder = Builder::new().stack_size(pages << 12);
            builder.spawn(|| ()).unwrap().join().err()
        });
        let text = refused.expect("there is a limit").to_string();
        assert!(text.contains("different sizes already"), "{text}");
        assert!(text.contains("use one of ["), "{text}");
    })
    .unwrap();
}

/// Fewer places than clients, at the limits of coroutines, stacks and saved
/// bytes: whoever waits for room meets none of them.
#[test]
#[cfg(feature = "hook")]
fn an_accept_loop_that_waits_for_room_meets_no_limit() {
    const PLACES: usize = 20;
    /// As many as the listener keeps waiting.
    const CLIENTS: usize = 100;
    static ROOM: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(PLACES));
    static SERVED: AtomicUsize = AtomicUsize::new(0);
    static MOST: AtomicUsize = AtomicUsize::new(0);

    fn serve(mut stream: TcpStream, place: crore::sync::Permit<'static>) {
        MOST.fetch_max(PLACES - ROOM.available_permits(), Relaxed);
        let mut word = [0; 4];
        stream.read_exact(&mut word).unwrap();
        stream.write_all(&word).unwrap();
        SERVED.fetch_add(1, Relaxed);
        drop(place);
    }

    for shared in [false, true] {
        SERVED.store(0, Relaxed);
        MOST.store(0, Relaxed);
        let runtime = Runtime::builder()
            .max_coroutines(PLACES as u32 + 2)
            .max_stacks(PLACES + 16)
            .max_saved_bytes(PLACES as u64 * 4096)
            .build()
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let clients = thread::spawn(move || {
            // All knock at once; those who wait lose nothing.
            let streams: Vec<_> = (0..CLIENTS)
                .map(|_| TcpStream::connect(address).unwrap())
                .collect();
            for mut stream in streams {
                let mut word = [0; 4];
                stream.write_all(b"word").unwrap();
                stream.read_exact(&mut word).unwrap();
                assert_eq!(&word, b"word");
            }
        });
        runtime
            .run(|| {
                for _ in 0..CLIENTS {
                    let place = ROOM.acquire(1).unwrap();
                    let (stream, _) = listener.accept().unwrap();
                    if shared {
                        // SAFETY: what it owns lies on the heap or is moved.
                        drop(unsafe { crore::spawn_shared(move || serve(stream, place)) });
                    } else {
                        crore::spawn(move || serve(stream, place));
                    }
                }
                // Until all have left.
                drop(ROOM.acquire(PLACES).unwrap());
            })
            .unwrap();
        clients.join().unwrap();
        assert_eq!(SERVED.load(Relaxed), CLIENTS);
        assert_eq!(MOST.load(Relaxed), PLACES, "they did fill it");
    }
}

#[test]
fn no_descriptors_left_is_an_error_of_the_run() {
    succeeds("no_descriptors_left_is_an_error_of_the_run", || {
        let runtime = Runtime::builder().build().unwrap();
        // Three are open. One short, two short, three short of a reactor.
        for most in 3..=5 {
            let before = set_limit(libc::RLIMIT_NOFILE, most);
            let error = runtime.run(|| ()).unwrap_err();
            set_limit(libc::RLIMIT_NOFILE, before);
            let text = error.to_string();
            assert!(text.contains("cannot create a worker's reactor"), "{text}");
            assert!(text.contains("ulimit -n"), "{text}");
            assert_eq!(
                runtime.run(|| crore::spawn(|| 1).join().unwrap()).unwrap(),
                1
            );
        }
    });
}

#[test]
fn no_address_space_left_is_an_error_of_the_run() {
    succeeds("no_address_space_left_is_an_error_of_the_run", || {
        let runtime = Runtime::builder().max_coroutines(u32::MAX).build().unwrap();
        let before = set_limit(libc::RLIMIT_AS, 4 << 30);
        let error = runtime.run(|| ()).unwrap_err();
        set_limit(libc::RLIMIT_AS, before);
        let text = error.to_string();
        assert_eq!(error.kind(), ErrorKind::OutOfMemory, "{text}");
        assert!(text.contains("address space"), "{text}");
        runtime.run(|| ()).unwrap();
    });
}

#[test]
fn a_thousand_runtimes_and_then_an_error_of_the_build() {
    succeeds("a_thousand_runtimes_and_then_an_error_of_the_build", || {
        for _ in 0..2 {
            let mut all = Vec::new();
            let error = loop {
                match Runtime::builder().build() {
                    Ok(runtime) => all.push(runtime),
                    Err(error) => break error,
                }
            };
            assert_eq!(all.len(), 1023);
            assert_eq!(error.kind(), ErrorKind::QuotaExceeded);
            assert!(
                error.to_string().contains("already has 1023 crore workers"),
                "{error}"
            );
            all.pop();
            all.push(Runtime::builder().build().unwrap());
        }
    });
}

/// Coroutines of each kind, and locks that they wait for: std's, where those park.
fn work() {
    #[cfg(not(feature = "futex"))]
    use crore::sync::Mutex;
    #[cfg(feature = "futex")]
    use std::sync::Mutex;
    let lock = std::sync::Arc::new(Mutex::new(0));
    let all: Vec<_> = (0..200)
        .map(|_| {
            let lock = lock.clone();
            crore::spawn(move || {
                let mut count = lock.lock().unwrap();
                crore::yield_now();
                *count += 1;
            })
        })
        .collect();
    // SAFETY: nothing outside points into its frames.
    let shared = (0..200).map(|_| unsafe { crore::spawn_shared(crore::yield_now) });
    let shared: Vec<_> = shared.collect();
    all.into_iter().for_each(|each| each.join().unwrap());
    shared.into_iter().for_each(|each| each.join().unwrap());
    assert_eq!(*lock.lock().unwrap(), 200);
}

#[test]
fn reserves_are_not_filled_where_all_memory_is_locked() {
    succeeds("reserves_are_not_filled_where_all_memory_is_locked", || {
        // SAFETY: no pointers.
        let locked = unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE) };
        if locked != 0 {
            return eprintln!("not allowed here");
        }
        // In case it is wrong.
        set_limit(libc::RLIMIT_AS, 8 << 30);
        let [resident, locked] = ["VmHWM", "VmLck"].map(kilobytes);
        Runtime::builder()
            .workers(2)
            .build()
            .unwrap()
            .run(work)
            .unwrap();
        // Stacks and slots of two workers, in steps of 2 MiB, and a thread of std.
        assert!(kilobytes("VmHWM") < resident + (120 << 10));
        assert!(kilobytes("VmLck") < locked + (240 << 10));
    });
}

#[test]
fn a_limit_of_the_data_is_met_by_what_is_used_only() {
    succeeds("a_limit_of_the_data_is_met_by_what_is_used_only", || {
        set_limit(libc::RLIMIT_DATA, 256 << 20);
        Runtime::builder().build().unwrap().run(work).unwrap();
        let runtime = Runtime::builder().build().unwrap();
        let error = runtime.run(|| {
            // Each opens a step of its own.
            let all: Vec<_> = (0..200)
                .map(|_| {
                    Builder::new()
                        .stack_size(4 << 20)
                        .spawn(crore::park)
                        .unwrap()
                })
                .collect();
            crore::yield_now();
            let ends = all.into_iter().map(|each| {
                each.coroutine().unpark();
                each.join()
            });
            ends.filter_map(Result::err).next()
        });
        let text = error
            .unwrap()
            .expect("there is no memory for all")
            .to_string();
        assert!(text.contains("ulimit -d"), "{text}");
        runtime.run(work).unwrap();
    });
}
