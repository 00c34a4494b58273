//! Several workers: work spreads, wakes cross, nothing is lost.

use std::cell::Cell;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

#[cfg(feature = "hook")]
use crore::sync::channel;
use crore::{JoinHandle, Runtime};

use crate::common::{set_limit, succeeds};

fn runtime(workers: usize) -> Runtime {
    Runtime::builder().workers(workers).build().unwrap()
}

fn here() -> ThreadId {
    thread::current().id()
}

/// Spawns on another worker than this one: it computes, without a wait, until
/// `f` has started somewhere.
fn elsewhere<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    let started = Arc::new(AtomicBool::new(false));
    let (theirs, home) = (Arc::clone(&started), here());
    let handle = crore::spawn(move || {
        theirs.store(true, Relaxed);
        assert_ne!(here(), home);
        f()
    });
    while !started.load(Relaxed) {
        std::hint::spin_loop();
    }
    handle
}

#[test]
fn a_hundred_thousand_spawns_from_inside() {
    for workers in [1, 2, 4] {
        let done = Arc::new(AtomicUsize::new(0));
        runtime(workers)
            .run(|| {
                let handles: Vec<_> = (0..100_000usize)
                    .map(|i| {
                        let done = Arc::clone(&done);
                        crore::spawn(move || {
                            if i % 7 == 0 {
                                crore::yield_now();
                            }
                            done.fetch_add(1, Relaxed);
                            i
                        })
                    })
                    .collect();
                for (i, handle) in handles.into_iter().enumerate() {
                    assert_eq!(handle.join().unwrap(), i);
                }
            })
            .unwrap();
        assert_eq!(done.load(Relaxed), 100_000);
    }
}

/// So many that a lost one or an uneven spread shows; fewer in debug builds.
const MANY: usize = if cfg!(debug_assertions) {
    200_000
} else {
    1_000_000
};

#[test]
fn a_million_spawns_from_outside_while_it_runs() {
    let runtime = runtime(2);
    let handle = runtime.handle();
    let outside = thread::spawn(move || {
        let all: Vec<_> = (0..MANY).map(|i| handle.spawn(move || i)).collect();
        let sum: usize = all.into_iter().map(|one| one.join().unwrap()).sum();
        sum
    });
    runtime
        .run(|| {
            while !outside.is_finished() {
                crore::sleep(Duration::from_millis(1));
            }
        })
        .unwrap();
    assert_eq!(outside.join().unwrap(), (MANY - 1) * MANY / 2);
    let metrics = runtime.metrics();
    assert_eq!(
        (metrics.spawned, metrics.ended),
        (MANY as u64 + 1, MANY as u64 + 1)
    );
}

#[test]
fn a_million_spawns_from_outside_are_spread_evenly() {
    let runtime = runtime(2);
    let handle = runtime.handle();
    let done = Arc::new(AtomicUsize::new(0));
    // The first on each worker keeps it busy to the end, so that it has no
    // time to steal: what it runs is what was placed there.
    let all: Vec<_> = (0..MANY)
        .map(|i| {
            let done = Arc::clone(&done);
            handle.spawn(move || {
                done.fetch_add(1, Relaxed);
                while i < 2 && done.load(Relaxed) < MANY {
                    crore::yield_now();
                }
                i
            })
        })
        .collect();
    runtime
        .run(|| {
            while done.load(Relaxed) < MANY {
                crore::yield_now();
            }
            for (i, one) in all.into_iter().enumerate() {
                assert_eq!(one.join().unwrap(), i);
            }
        })
        .unwrap();
    let half = MANY as u64 / 2;
    for one in handle.worker_metrics() {
        // `main` is one more.
        assert!(one.spawned.abs_diff(half) <= half / 5, "{one:?}");
        assert_eq!(one.spawned, one.ended);
    }
}

#[test]
fn what_is_placed_goes_to_those_with_less_to_do() {
    let runtime = runtime(2);
    let handle = runtime.handle();
    runtime
        .run(|| {
            // Nobody is placed with the worker that has thousands: neither is
            // idle, so neither steals.
            let stop = Arc::new(AtomicBool::new(false));
            let busy = |stop: &Arc<AtomicBool>| {
                let stop = Arc::clone(stop);
                move || {
                    while !stop.load(Relaxed) {
                        crore::yield_now();
                    }
                }
            };
            let theirs = elsewhere(busy(&stop));
            let home = here();
            let parked: Vec<_> = (0..4_000)
                .map(|_| crore::spawn_local(crore::park))
                .collect();
            let placed: Vec<_> = (0..500).map(|_| handle.spawn(here)).collect();
            while !placed.iter().all(JoinHandle::is_finished) {
                crore::yield_now();
            }
            stop.store(true, Relaxed);
            theirs.join().unwrap();
            assert!(placed.into_iter().all(|one| one.join().unwrap() != home));
            parked.iter().for_each(|one| one.coroutine().unpark());
            parked.into_iter().for_each(|one| one.join().unwrap());
        })
        .unwrap();
}

#[test]
fn a_worker_that_computes_is_relieved_of_what_has_not_started() {
    runtime(2)
        .run(|| {
            let home = here();
            let done = Arc::new(AtomicUsize::new(0));
            let all: Vec<_> = (0..1_000)
                .map(|_| {
                    let done = Arc::clone(&done);
                    crore::spawn(move || {
                        done.fetch_add(1, Relaxed);
                        here()
                    })
                })
                .collect();
            while done.load(Relaxed) < all.len() {
                std::hint::spin_loop();
            }
            assert!(all.into_iter().all(|one| one.join().unwrap() != home));
        })
        .unwrap();
}

/// What waits to run here may compute: a task that has not started does not wait behind
/// it, while another worker has time.
#[test]
fn what_has_not_started_waits_behind_nobody() {
    for _ in 0..100 {
        runtime(2)
            .run(|| {
                let started = Arc::new(AtomicBool::new(false));
                let theirs = Arc::clone(&started);
                let computes = crore::spawn_local(move || until(&theirs));
                let task = crore::spawn(move || started.store(true, Relaxed));
                computes.join().unwrap();
                task.join().unwrap();
            })
            .unwrap();
    }
}

/// A worker that was woken for a task leaves it to others, if it has more to do.
#[test]
fn a_worker_that_is_woken_for_two_things_leaves_one_to_others() {
    let runtime = runtime(2);
    let handle = runtime.handle();
    runtime
        .run(move || {
            for _ in 0..100 {
                let started = Arc::new(AtomicBool::new(false));
                let (theirs, ours) = (Arc::clone(&started), handle.clone());
                let computes = crore::spawn_on(1, move || {
                    crore::park();
                    until(&theirs);
                });
                let other = computes.coroutine();
                let outside = thread::spawn(move || {
                    // Both sleep.
                    thread::sleep(Duration::from_millis(2));
                    let task = ours.spawn(move || started.store(true, Relaxed));
                    other.unpark();
                    task
                });
                computes.join().unwrap();
                outside.join().unwrap().join().unwrap();
            }
        })
        .unwrap();
}

/// Computes until it is set, for as long as no machine is busy.
fn until(set: &AtomicBool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !set.load(Relaxed) {
        assert!(Instant::now() < end, "it waits behind this");
        std::hint::spin_loop();
    }
}

/// Each spawn leaves the spawner with nothing to do, so that it is the first to have
/// time for the task: it must not keep them all.
#[test]
fn what_comes_one_by_one_spreads() {
    const ALL: usize = 400;
    let shares = runtime(2).run(|| {
        let (done, wait) = crore::sync::channel::rendezvous::<()>();
        let spawn = |_| {
            let wait = wait.clone();
            let handle = crore::spawn(move || {
                assert!(wait.recv().is_err(), "nobody sends");
                here()
            });
            crore::sleep(Duration::from_micros(200));
            handle
        };
        let handles: Vec<_> = (0..ALL).map(spawn).collect();
        drop(done);
        let mine = |handle: JoinHandle<_>| handle.join().unwrap() == here();
        handles.into_iter().map(mine).filter(|mine| *mine).count()
    });
    let mine = shares.unwrap();
    assert!((ALL * 45 / 100..=ALL * 55 / 100).contains(&mine), "{mine}");
}

#[test]
fn what_is_for_one_worker_runs_there() {
    let runtime = runtime(3);
    let handle = runtime.handle();
    // It waits for the run, as others do.
    let early = crore::Builder::new().worker(2).spawn_on(&handle, here);
    runtime
        .run(|| {
            let first = crore::spawn_on(0, here).join().unwrap();
            assert_eq!(first, here());
            let last = early.unwrap().join().unwrap();
            let others: Vec<_> = (0..300)
                .map(|i| crore::spawn_on(1 + i % 2, move || (i, here())))
                .collect();
            let mut second = None;
            for (i, thread) in others.into_iter().map(|other| other.join().unwrap()) {
                if i % 2 == 1 {
                    assert_eq!(thread, last);
                } else {
                    assert_eq!(*second.get_or_insert(thread), thread);
                }
            }
            assert!(![first, last].contains(&second.unwrap()));
            let nobody = crore::Builder::new().worker(3).spawn(|| ());
            assert_eq!(nobody.unwrap_err().kind(), ErrorKind::InvalidInput);
            let local = crore::Builder::new().worker(1).spawn_local(|| ());
            assert_eq!(local.unwrap_err().kind(), ErrorKind::InvalidInput);
            let outside = crore::Builder::new().worker(3).spawn_on(&handle, || ());
            assert_eq!(outside.unwrap_err().kind(), ErrorKind::InvalidInput);
        })
        .unwrap();
}

/// Those that come while their worker ends, or after: they are cancelled, and who
/// waits for them goes on.
#[test]
fn what_is_for_a_worker_that_ends_is_cancelled() {
    fn spawns_for_all(started: &AtomicBool) {
        started.store(true, Relaxed);
        // Its worker does not hear of the end, and the others are gone.
        crore::unhooked(|| thread::sleep(Duration::from_millis(5)));
        crore::scope(|scope| {
            for worker in [0, 1, 2] {
                let late = crore::Builder::new().worker(worker);
                late.spawn_scoped(scope, crore::park).unwrap();
            }
        });
    }
    for worker in [0, 1, 2].repeat(5) {
        runtime(3)
            .run(|| {
                let started = Arc::new(AtomicBool::new(false));
                let theirs = Arc::clone(&started);
                crore::spawn_on(worker, move || spawns_for_all(&theirs));
                while !started.load(Relaxed) {
                    crore::yield_now();
                }
            })
            .unwrap();
    }
}

#[test]
fn a_worker_that_is_full_takes_no_more_and_says_so() {
    let builder = Runtime::builder().workers(3).max_coroutines(4);
    let runtime = builder.build().unwrap();
    let handle = runtime.handle();
    runtime
        .run(|| {
            let pinned = || crore::Builder::new().worker(1);
            let placed = Arc::new(AtomicUsize::new(0));
            let park = |placed: Arc<AtomicUsize>| {
                move || {
                    placed.fetch_add(1, Relaxed);
                    crore::park();
                }
            };
            // One that is on its way to a worker is nowhere.
            let are_placed = |count: usize| {
                while placed.load(Relaxed) < count {
                    crore::sleep(Duration::from_millis(1));
                }
            };
            let parked: Vec<_> = (0..4)
                .map(|_| pinned().spawn(park(Arc::clone(&placed))).unwrap())
                .collect();
            are_placed(4);
            let refused = [
                pinned().spawn(|| ()).unwrap_err(),
                pinned().spawn_on(&handle, || ()).unwrap_err(),
            ];
            for error in refused {
                assert_eq!(error.kind(), ErrorKind::QuotaExceeded);
                let text = error.to_string();
                assert!(text.starts_with("worker 1 has 4 coroutines"), "{text}");
            }
            // Others are not placed there, and the two others have room for seven.
            let others: Vec<_> = (0..7)
                .map(|_| crore::spawn(park(Arc::clone(&placed))))
                .collect();
            are_placed(11);
            let all = crore::Builder::new().spawn(|| ()).unwrap_err();
            assert!(all.to_string().starts_with("each worker has 4"), "{all}");
            for one in parked.into_iter().chain(others) {
                one.coroutine().unpark();
                one.join().unwrap();
            }
            pinned().spawn(|| ()).unwrap().join().unwrap();
        })
        .unwrap();
}

/// One more than there is room for waits until there is.
#[test]
fn what_finds_no_room_waits_for_it() {
    for workers in [1, 2] {
        let runtime = Runtime::builder()
            .workers(workers)
            .max_coroutines(8)
            .build()
            .unwrap();
        let handle = runtime.handle();
        let early: Vec<_> = (0..8 * workers)
            .map(|i| handle.spawn(move || crore::sleep(Duration::from_millis(i as u64 % 4))))
            .collect();
        runtime
            .run(|| early.into_iter().for_each(|one| one.join().unwrap()))
            .unwrap();
    }
}

#[test]
fn pinned_workers_have_a_processor_each() {
    let usable = || thread::available_parallelism().unwrap().get();
    let all = usable();
    let runtime = Runtime::builder().workers(2).pin_workers(true);
    let runtime = runtime.build().unwrap();
    for _ in 0..2 {
        let each = runtime.run(|| [0, 1].map(|i| crore::spawn_on(i, usable).join().unwrap()));
        assert_eq!(each.unwrap(), [1, 1]);
        assert_eq!(usable(), all);
    }
}

#[test]
fn what_is_local_and_what_has_started_stays() {
    runtime(3)
        .run(|| {
            let all: Vec<_> = (0..6)
                .map(|_| {
                    crore::spawn(|| {
                        let home = here();
                        let count = std::rc::Rc::new(Cell::new(0));
                        let locals: Vec<_> = (0..100)
                            .map(|_| {
                                let count = std::rc::Rc::clone(&count);
                                crore::spawn_local(move || {
                                    for _ in 0..10 {
                                        assert_eq!(here(), home);
                                        count.set(count.get() + 1);
                                        crore::yield_now();
                                    }
                                })
                            })
                            .collect();
                        crore::sleep(Duration::from_micros(300));
                        assert_eq!(here(), home);
                        locals.into_iter().for_each(|one| one.join().unwrap());
                        assert_eq!((count.get(), here()), (1_000, home));
                    })
                })
                .collect();
            all.into_iter().for_each(|one| one.join().unwrap());
        })
        .unwrap();
}

#[test]
fn ids_that_were_asked_before_placing_stay_good() {
    runtime(2)
        .run(|| {
            for round in 0..500 {
                let handle = crore::spawn(|| {
                    crore::park();
                    crore::current().id()
                });
                // Nobody has started it, or somebody just does.
                let (id, coroutine) = (handle.coroutine().id(), handle.coroutine());
                let shown = format!("{id:?}");
                assert!(
                    format!("{handle:?}").contains(&id.to_string()),
                    "{handle:?}"
                );
                match round % 4 {
                    0 => id.unpark(),
                    1 => coroutine.unpark(),
                    2 => {
                        while !handle.is_finished() {
                            id.unpark();
                            crore::yield_now();
                        }
                    }
                    _ => {
                        id.cancel();
                        assert!(handle.join().unwrap_err().is_cancelled());
                        id.unpark(); // stale
                        continue;
                    }
                }
                let inside = handle.join().unwrap();
                assert_eq!(inside, id, "it is known by one name");
                assert_eq!(format!("{inside:?}"), shown);
                id.cancel(); // stale
            }
        })
        .unwrap();
}

#[test]
fn ids_of_coroutines_from_outside_are_good_before_the_run() {
    let runtime = runtime(2);
    let handle = runtime.handle();
    let parked: Vec<_> = (0..100).map(|_| handle.spawn(crore::park)).collect();
    for (i, one) in parked.iter().enumerate() {
        match i % 2 {
            0 => one.coroutine().unpark(),
            _ => one.cancel(),
        }
    }
    runtime
        .run(|| {
            for (i, one) in parked.into_iter().enumerate() {
                assert_eq!(one.join().is_ok(), i % 2 == 0);
            }
        })
        .unwrap();
}

#[test]
fn wakes_after_the_end_are_harmless() {
    let collect = |runtime: &Runtime| {
        runtime
            .run(|| {
                (0..300)
                    .map(|_| {
                        let one = crore::spawn(|| {
                            crore::block_on(std::future::poll_fn(|cx| {
                                std::task::Poll::Ready(cx.waker().clone())
                            }))
                        });
                        let id = one.coroutine().id();
                        (one.join().unwrap(), id)
                    })
                    .collect::<Vec<_>>()
            })
            .unwrap()
    };
    let first = runtime(3);
    let left = collect(&first);
    let wake_all = || {
        for (waker, id) in &left {
            waker.wake_by_ref();
            id.unpark();
            id.cancel();
        }
    };
    wake_all(); // it could run again
    drop(first);
    wake_all(); // it is gone
    // Another has its place: nobody there is cancelled or gets a token.
    runtime(3)
        .run(|| {
            let all: Vec<_> = (0..300)
                .map(|_| {
                    crore::spawn(|| {
                        crore::park_timeout(Duration::from_secs(1_000));
                    })
                })
                .collect();
            thread::scope(|scope| {
                scope.spawn(wake_all);
            });
            wake_all();
            for _ in 0..10 {
                crore::yield_now();
            }
            assert!(!all.iter().any(JoinHandle::is_finished));
            all.iter().for_each(|one| one.coroutine().unpark());
            all.into_iter().for_each(|one| one.join().unwrap());
        })
        .unwrap();
}

#[test]
fn a_runtime_of_several_workers_runs_again() {
    let runtime = runtime(3);
    for round in 1..=20u64 {
        let between = runtime.handle().spawn(move || round);
        let sum: u64 = runtime
            .run(|| {
                let far = elsewhere(|| 1);
                let near: Vec<_> = (0..100).map(|i| crore::spawn(move || i)).collect();
                crore::spawn(crore::park); // left behind
                // What nobody has started when `main` ends is cancelled.
                assert_eq!(between.join().unwrap(), round);
                far.join().unwrap() + near.into_iter().map(|one| one.join().unwrap()).sum::<u64>()
            })
            .unwrap();
        assert_eq!(sum, 4_951);
        let metrics = runtime.metrics();
        assert_eq!(metrics.spawned, metrics.ended);
    }
}

#[test]
fn a_panic_on_any_worker_stays_in_its_coroutine() {
    runtime(2)
        .run(|| {
            for round in 0..50u32 {
                let torn = elsewhere(move || -> () { std::panic::resume_unwind(Box::new(round)) });
                let payload = torn.join().unwrap_err().into_panic();
                assert_eq!(*payload.downcast::<u32>().unwrap(), round);
            }
        })
        .unwrap();
    // Of `main`: the other workers end first.
    let alive = Arc::new(());
    let theirs = Arc::clone(&alive);
    let torn = catch_unwind(AssertUnwindSafe(|| {
        runtime(2).run(|| {
            let parked = elsewhere(move || {
                crore::park();
                drop(theirs);
            });
            drop(parked);
            std::panic::resume_unwind(Box::new("main"));
        })
    }));
    assert!(torn.is_err());
    assert_eq!(Arc::strong_count(&alive), 1);
}

#[cfg(feature = "hook")]
mod descriptors {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (one, listener.accept().unwrap().0)
    }

    #[test]
    fn accepted_on_one_worker_and_read_on_another() {
        runtime(2)
            .run(|| {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let address = listener.local_addr().unwrap();
                let (to, streams) = channel::bounded::<TcpStream>(1);
                let (seen, first_seen) = channel::bounded::<()>(0);
                let acceptor = here();
                let echo = elsewhere(move || {
                    let mut total = 0;
                    for mut stream in streams.iter() {
                        let mut bytes = [0; 128];
                        loop {
                            let count = stream.read(&mut bytes).unwrap(); // parks here
                            if count == 0 {
                                break;
                            }
                            stream.write_all(&bytes[..count]).unwrap();
                            total += count;
                        }
                    }
                    (total, here())
                });
                let client = crore::spawn(move || {
                    for i in 0..50u8 {
                        let mut stream = TcpStream::connect(address).unwrap();
                        first_seen.recv().unwrap();
                        for _ in 0..5 {
                            stream.write_all(&[i; 100]).unwrap();
                            let mut answer = [0; 100];
                            stream.read_exact(&mut answer).unwrap();
                            assert_eq!(answer, [i; 100]);
                        }
                    }
                });
                for _ in 0..50 {
                    let (mut stream, _) = listener.accept().unwrap();
                    // It is registered here too: wait on it for a moment.
                    let nap = Some(Duration::from_micros(100));
                    stream.set_read_timeout(nap).unwrap();
                    let error = stream.read(&mut [0]).unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    stream.set_read_timeout(None).unwrap();
                    seen.send(()).unwrap();
                    to.send(stream).unwrap();
                }
                drop(to);
                client.join().unwrap();
                let (total, reader) = echo.join().unwrap();
                assert_eq!(total, 50 * 5 * 100);
                assert_ne!(reader, acceptor);
            })
            .unwrap();
    }

    #[test]
    fn one_stream_is_read_and_written_by_different_workers() {
        const BYTES: usize = 1 << 20;
        runtime(2)
            .run(|| {
                let (one, other) = pair();
                let (one, other) = (Arc::new(one), Arc::new(other));
                let readers: Vec<_> = [&one, &other]
                    .map(|stream| {
                        let stream = Arc::clone(stream);
                        elsewhere(move || {
                            let mut bytes = vec![0; BYTES];
                            (&*stream).read_exact(&mut bytes).unwrap();
                            bytes.iter().map(|&byte| usize::from(byte)).sum::<usize>()
                        })
                    })
                    .into();
                let writers = [one, other].map(|stream| {
                    crore::spawn_local(move || (&*stream).write_all(&[3; BYTES]).unwrap())
                });
                writers.into_iter().for_each(|one| one.join().unwrap());
                for reader in readers {
                    assert_eq!(reader.join().unwrap(), 3 * BYTES);
                }
            })
            .unwrap();
    }

    #[test]
    fn closing_on_one_worker_wakes_those_who_wait_on_another() {
        use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
        // In a process of its own: the reader may be about to wait only, and
        // then nobody else may have taken the number.
        let name = "descriptors::closing_on_one_worker_wakes_those_who_wait_on_another";
        succeeds(name, || {
            let close_under_readers = || {
                for _ in 0..20 {
                    let (one, peer) = pair();
                    let fd = one.as_raw_fd();
                    std::mem::forget(one);
                    let reader = elsewhere(move || {
                        // SAFETY: the number is open until somebody closes it,
                        // which is the point; only this view is forgotten.
                        let mut stream =
                            std::mem::ManuallyDrop::new(unsafe { TcpStream::from_raw_fd(fd) });
                        stream.read(&mut [0]).map_err(|error| error.raw_os_error())
                    });
                    // SAFETY: the owner was forgotten above.
                    drop(unsafe { OwnedFd::from_raw_fd(fd) });
                    assert_eq!(reader.join().unwrap(), Err(Some(libc::EBADF)));
                    drop(peer);
                }
            };
            runtime(2).run(close_under_readers).unwrap();
        });
    }
}

/// How many entries a folder of this process in `/proc` has.
fn count(folder: &str) -> usize {
    std::fs::read_dir(format!("/proc/self/{folder}"))
        .unwrap()
        .count()
}

/// Runs four workers under a limit that is raised from `limits` to the next
/// until it suffices; says how often it did not.
fn failures_until_it_runs(
    resource: libc::__rlimit_resource_t,
    limits: impl Iterator<Item = u64>,
    words: &[&str],
) -> usize {
    // What a process has once is there.
    crore::run(|| ()).unwrap();
    let runtime = runtime(4);
    let waiting = runtime.handle().spawn(|| 7);
    let (descriptors, threads) = (count("fd"), count("task"));
    let (mut failures, mut begun) = (0, false);
    for most in limits {
        let before = set_limit(resource, most);
        let result = runtime.run(|| ());
        set_limit(resource, before);
        let Err(error) = result else {
            // What waited for the first run has not been touched by those that
            // failed: the one that did not has run it, or cancelled it.
            assert!(waiting.is_finished());
            return failures;
        };
        let text = error.to_string();
        assert!(words.iter().any(|word| text.contains(word)), "{text}");
        assert_eq!(count("fd"), descriptors, "{text}");
        // The kernel lists a thread for a moment after it was joined.
        while count("task") > threads {
            thread::yield_now();
        }
        // All workers were there, only `main` got no stack: that is no failed
        // start, and the others have run.
        begun |= text.contains("coroutine could not start");
        assert!(begun || !waiting.is_finished(), "{text}: work has begun");
        failures += 1;
    }
    panic!("no limit sufficed")
}

#[test]
fn a_worker_without_descriptors_is_an_error_of_the_run() {
    succeeds(
        "a_worker_without_descriptors_is_an_error_of_the_run",
        || {
            // Four are open, and each worker needs some.
            let failures = failures_until_it_runs(libc::RLIMIT_NOFILE, 3..100, &["ulimit -n"]);
            assert!(failures >= 8, "{failures}");
        },
    );
}

#[test]
fn a_worker_without_memory_is_an_error_of_the_run() {
    succeeds("a_worker_without_memory_is_an_error_of_the_run", || {
        let limits = (1..).map(|step| step * (48 << 20));
        let words = [
            "address space",
            "cannot start the thread of worker",
            "memory",
        ];
        let failures = failures_until_it_runs(libc::RLIMIT_AS, limits, &words);
        assert!(failures >= 4, "{failures}");
    });
}

#[test]
fn unparks_cross_workers() {
    runtime(3)
        .run(|| {
            let ring: Vec<_> = (0..30)
                .map(|_| {
                    crore::spawn(|| {
                        for _ in 0..100 {
                            crore::park();
                        }
                    })
                })
                .collect();
            let ids: Vec<_> = ring.iter().map(|h| h.coroutine().id()).collect();
            while !ring.iter().all(|h| h.is_finished()) {
                for id in &ids {
                    id.unpark();
                }
                crore::yield_now();
            }
            for h in ring {
                h.join().unwrap();
            }
        })
        .unwrap();
}

/// The alarm that wakes a sleeping worker is nothing that its waker's
/// cancellation could end.
#[test]
fn one_that_is_cancelled_still_wakes_those_of_other_workers() {
    static ROUNDS: AtomicUsize = AtomicUsize::new(0);
    const ALL: usize = 300;
    runtime(2)
        .run(|| {
            let sleeper = elsewhere(|| {
                for _ in 0..ALL {
                    crore::park();
                    ROUNDS.fetch_add(1, Relaxed);
                }
            });
            let cancelled = crore::spawn_local(|| {
                crore::current().cancel();
                for round in 0..ALL {
                    // It sleeps by then, or is about to, more often than not.
                    for _ in 0..100_000 {
                        std::hint::spin_loop();
                    }
                    sleeper.coroutine().unpark();
                    while ROUNDS.load(Relaxed) <= round {
                        std::hint::spin_loop();
                    }
                }
                sleeper
            });
            cancelled.join().unwrap().join().unwrap();
        })
        .unwrap();
}

#[test]
fn a_worker_s_limit_counts_what_has_not_started() {
    let builder = Runtime::builder().workers(2).max_coroutines(4);
    let runtime = builder.build().unwrap();
    runtime
        .run(|| {
            let done = Arc::new(AtomicBool::new(false));
            let theirs = Arc::clone(&done);
            // The other worker takes nothing.
            let busy = elsewhere(move || {
                while !theirs.load(Relaxed) {
                    std::hint::spin_loop();
                }
            });
            let unstarted: Vec<_> = std::iter::from_fn(|| {
                let spawned = crore::Builder::new().spawn(|| ());
                spawned.ok()
            })
            .collect();
            // And main, and the other's, which are alive.
            assert_eq!(unstarted.len(), 6);
            done.store(true, Relaxed);
            unstarted.into_iter().for_each(|one| one.join().unwrap());
            busy.join().unwrap();
        })
        .unwrap();
}

#[test]
fn leftovers_of_all_workers_are_cancelled() {
    for _ in 0..20 {
        let handles = runtime(4)
            .run(|| {
                (0..1000)
                    .map(|i| {
                        crore::spawn(move || {
                            if i % 2 == 0 {
                                crore::park()
                            } else {
                                crore::sleep(Duration::from_secs(1000))
                            }
                        })
                    })
                    .collect::<Vec<_>>()
            })
            .unwrap();
        for handle in handles {
            assert!(handle.join().unwrap_err().is_cancelled());
        }
    }
}
