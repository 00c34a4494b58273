//! The promise: handles, channels and locks of crore can be awaited in any
//! executor (here smol's and those of `futures`), and futures of any library
//! can be waited for in a coroutine.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crore::sync::{Barrier, OnceCell, RwLock, channel};
use crore::{Handle, JoinHandle, block_on};
use futures::FutureExt;
use futures::executor::LocalPool;
use futures::future::{Either, join_all, select, select_all};
use futures::stream::{FuturesUnordered, StreamExt};
use futures::task::SpawnExt;
use smol::io::{AsyncReadExt, AsyncWriteExt};

/// Runs `f` on this thread, in whatever executor it likes, beside a crore
/// runtime of so many workers.
fn beside(workers: usize, f: impl FnOnce(Handle)) {
    let runtime = crore::Runtime::builder().workers(workers).build().unwrap();
    let handle = runtime.handle();
    let (stop, stopped) = channel::rendezvous::<()>();
    std::thread::scope(|scope| {
        scope.spawn(|| runtime.run(|| stopped.recv().unwrap_err()).unwrap());
        f(handle);
        drop(stop);
    });
}

fn several(crore: &Handle, count: u64) -> Vec<JoinHandle<u64>> {
    (0..count)
        .map(|i| {
            crore.spawn(move || {
                crore::sleep(Duration::from_micros(i % 5 * 50));
                i
            })
        })
        .collect()
}

#[test]
fn handles_awaited_by_each_executor() {
    for workers in [1, 2] {
        beside(workers, |crore| {
            let sum =
                |all: Vec<Result<u64, _>>| -> u64 { all.into_iter().map(Result::unwrap).sum() };
            let expected = 99 * 50;
            assert_eq!(
                sum(smol::block_on(join_all(several(&crore, 100)))),
                expected
            );
            assert_eq!(
                sum(futures::executor::block_on(join_all(several(&crore, 100)))),
                expected
            );
            assert_eq!(sum(block_on(join_all(several(&crore, 100)))), expected);

            // In tasks of smol's, on its thread.
            let tasks: Vec<_> = several(&crore, 100).into_iter().map(smol::spawn).collect();
            assert_eq!(sum(smol::block_on(join_all(tasks))), expected);

            // In tasks of a pool that polls only what was woken.
            let mut pool = LocalPool::new();
            let tasks: Vec<_> = several(&crore, 100)
                .into_iter()
                .map(|one| pool.spawner().spawn_with_handle(one).unwrap())
                .collect();
            assert_eq!(sum(pool.run_until(join_all(tasks))), expected);
        });
    }
}

#[test]
fn combinators_over_handles() {
    crore::run(|| {
        // The first of two; the other goes on, and can still be awaited.
        let slow = crore::spawn(|| {
            crore::park();
            "slow"
        });
        let quick = crore::spawn(|| "quick");
        let id = slow.coroutine().id();
        let slow = match block_on(select(quick, slow)) {
            Either::Left((word, slow)) => {
                assert_eq!(word.unwrap(), "quick");
                slow
            }
            Either::Right(_) => panic!("it is parked"),
        };
        id.unpark();
        assert_eq!(slow.join().unwrap(), "slow");

        // `select!` and `join!`.
        let never = crore::spawn(crore::park);
        let peer = never.coroutine();
        let mut never = never.fuse();
        let mut soon = crore::spawn(|| 3).fuse();
        let first = block_on(async {
            futures::select! {
                _ = never => 0,
                value = soon => value.unwrap(),
            }
        });
        assert_eq!(first, 3);
        peer.cancel();
        let both = block_on(async { futures::join!(never, crore::spawn(|| 4)) });
        assert!(both.0.unwrap_err().is_cancelled());
        assert_eq!(both.1.unwrap(), 4);

        // All of many, as they come; first of many, again and again.
        let mut all: FuturesUnordered<_> = (0..100u64)
            .map(|i| {
                crore::spawn(move || {
                    (0..i % 7).for_each(|_| crore::yield_now());
                    i
                })
            })
            .collect();
        let mut sum = 0;
        while let Some(one) = block_on(all.next()) {
            sum += one.unwrap();
        }
        assert_eq!(sum, 4_950);
        let mut left: Vec<_> = (0..30u64).map(|i| crore::spawn(move || i)).collect();
        let mut seen = Vec::new();
        while !left.is_empty() {
            let (one, _, others) = block_on(select_all(left));
            seen.push(one.unwrap());
            left = others;
        }
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..30));
    })
    .unwrap();
}

#[test]
fn a_handle_that_is_dropped_half_way_detaches() {
    crore::run(|| {
        let done = Arc::new(AtomicBool::new(false));
        let theirs = Arc::clone(&done);
        let handle = crore::spawn(move || {
            crore::park();
            theirs.store(true, Relaxed);
        });
        let id = handle.coroutine().id();
        crore::yield_now();
        {
            let mut handle = handle;
            assert!(block_on(async { futures::poll!(&mut handle) }).is_pending());
        }
        id.unpark();
        while !done.load(Relaxed) {
            crore::yield_now();
        }
    })
    .unwrap();
}

#[test]
fn smol_s_sockets_and_timers_in_coroutines() {
    crore::run(|| {
        let listener = block_on(smol::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let server = crore::spawn(move || {
            for _ in 0..20 {
                let (stream, _) = block_on(listener.accept()).unwrap();
                crore::spawn_future(async move { smol::io::copy(stream.clone(), stream).await });
            }
        });
        let clients: Vec<_> = (0..20u8)
            .map(|i| {
                crore::spawn(move || {
                    block_on(async move {
                        let mut stream = smol::net::TcpStream::connect(address).await?;
                        stream.write_all(&[i; 100]).await?;
                        let mut answer = [0; 100];
                        stream.read_exact(&mut answer).await?;
                        assert_eq!(answer, [i; 100]);
                        std::io::Result::Ok(())
                    })
                })
            })
            .collect();
        for one in clients {
            one.join().unwrap().unwrap();
        }
        server.join().unwrap();

        let start = Instant::now();
        block_on(smol::Timer::after(Duration::from_millis(5)));
        assert!(start.elapsed() >= Duration::from_millis(5));
        // A race that the timer wins drops the handle half-way.
        let parked = crore::spawn(crore::park);
        let peer = parked.coroutine();
        let timer = smol::Timer::after(Duration::from_millis(2));
        assert!(matches!(block_on(select(parked, timer)), Either::Right(_)));
        peer.unpark();
    })
    .unwrap();
}

#[test]
fn everything_of_sync_in_smol_and_in_coroutines_at_once() {
    const ROUNDS: u32 = 200;
    beside(2, |crore| {
        let lock = Arc::new(RwLock::new(0u32));
        let barrier = Arc::new(Barrier::new(4));
        let cell = Arc::new(OnceCell::new());
        let coroutines: Vec<_> = (0..2)
            .map(|i| {
                let (lock, barrier, cell) = (lock.clone(), barrier.clone(), cell.clone());
                crore.spawn(move || {
                    let mut leads = 0;
                    for _ in 0..ROUNDS {
                        *lock.write().unwrap() += 1;
                        leads += u32::from(barrier.wait().is_leader());
                        assert_eq!(*lock.read().unwrap() % 4, 0);
                        leads += u32::from(barrier.wait().is_leader());
                    }
                    (*cell.get_or_init(|| i), leads)
                })
            })
            .collect();
        let tasks: Vec<_> = (2..4)
            .map(|i| {
                let (lock, barrier, cell) = (lock.clone(), barrier.clone(), cell.clone());
                smol::spawn(async move {
                    let mut leads = 0;
                    for _ in 0..ROUNDS {
                        *lock.write_async().await.unwrap() += 1;
                        leads += u32::from(barrier.wait_async().await.is_leader());
                        assert_eq!(*lock.read_async().await.unwrap() % 4, 0);
                        leads += u32::from(barrier.wait_async().await.is_leader());
                    }
                    (*cell.get_or_init_async(async || i).await, leads)
                })
            })
            .collect();
        let mut seen: Vec<(u32, u32)> = smol::block_on(join_all(tasks));
        seen.extend(coroutines.into_iter().map(|one| one.join().unwrap()));
        assert_eq!(*lock.read().unwrap(), 4 * ROUNDS);
        assert_eq!(seen.iter().map(|one| one.1).sum::<u32>(), 2 * ROUNDS);
        assert!(seen.iter().all(|one| one.0 == seen[0].0), "{seen:?}");
    });
}

#[test]
fn one_result_for_many_who_wait() {
    crore::run(|| {
        let shared = crore::spawn(|| {
            crore::yield_now();
            41
        })
        .map(|result| result.unwrap() + 1)
        .shared();
        let coroutines: Vec<_> = (0..5)
            .map(|_| {
                let shared = shared.clone();
                crore::spawn(move || block_on(shared))
            })
            .collect();
        let tasks: Vec<_> = (0..5).map(|_| smol::spawn(shared.clone())).collect();
        let futures: Vec<_> = (0..5)
            .map(|_| crore::spawn_future(shared.clone()))
            .collect();
        for value in coroutines.into_iter().chain(futures) {
            assert_eq!(value.join().unwrap(), 42);
        }
        assert!(block_on(join_all(tasks)).into_iter().all(|it| it == 42));
    })
    .unwrap();
}
