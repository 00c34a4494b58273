//! The promise: crore and tokio wait for each other. tokio's runtime has
//! threads of its own; coroutines wait for its tasks and sockets with
//! `block_on`, and its tasks await coroutines, channels and locks of crore.

use std::future::{Future, poll_fn};
use std::io::ErrorKind;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use crore::sync::{Mutex, Notify, Semaphore, channel};
use crore::{JoinError, JoinHandle, block_on};
use futures::future::{Either, join_all, select};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, oneshot};

/// What many coroutines ended with.
type Joined = Vec<Result<bool, JoinError>>;

fn tokio_runtime(threads: usize) -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder
        .worker_threads(threads)
        .enable_all()
        .build()
        .unwrap()
}

/// A crore runtime that lives on a thread of its own while `f` runs here.
fn with_crore<T>(workers: usize, f: impl FnOnce(crore::Handle) -> T) -> T {
    let runtime = crore::Runtime::builder().workers(workers).build().unwrap();
    let handle = runtime.handle();
    let (stop, stopped) = channel::rendezvous::<()>();
    thread::scope(|scope| {
        let thread = scope.spawn(|| runtime.run(|| stopped.recv().unwrap_err()).unwrap());
        let value = f(handle);
        drop(stop);
        thread.join().unwrap();
        value
    })
}

/// Polls the future within the runtime, which its sockets and timers ask for.
fn within<F: Future>(runtime: &Runtime, future: F) -> impl Future<Output = F::Output> {
    let mut future = Box::pin(future);
    poll_fn(move |cx| {
        let _entered = runtime.enter();
        future.as_mut().poll(cx)
    })
}

async fn echo(listener: TcpListener, connections: usize) {
    for _ in 0..connections {
        let (mut stream, _) = listener.accept().await.unwrap();
        tokio::spawn(async move {
            let (mut reader, mut writer) = stream.split();
            tokio::io::copy(&mut reader, &mut writer).await
        });
    }
}

async fn converse(address: std::net::SocketAddr, word: [u8; 9]) -> std::io::Result<[u8; 9]> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(&word).await?;
    let mut answer = [0; 9];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

#[test]
fn a_client_of_tokio_s_in_each_of_many_coroutines() {
    let runtime = tokio_runtime(1);
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    runtime.spawn(echo(listener, 100));
    crore::run(|| {
        let all: Vec<_> = (0..100u64)
            .map(|i| {
                let theirs = runtime.handle().clone();
                crore::spawn(move || {
                    let word = format!("{i:09}").into_bytes().try_into().unwrap();
                    let task = theirs.spawn(converse(address, word));
                    assert_eq!(block_on(task).unwrap().unwrap(), word);
                })
            })
            .collect();
        all.into_iter().for_each(|one| one.join().unwrap());
    })
    .unwrap();
}

#[test]
fn sockets_and_timers_of_tokio_s_polled_by_coroutines_themselves() {
    let runtime = Arc::new(tokio_runtime(1));
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    runtime.spawn(echo(listener, 100));
    crore::run(|| {
        let all: Vec<_> = (0..100u64)
            .map(|i| {
                let runtime = Arc::clone(&runtime);
                let client = move || {
                    let word = format!("{i:09}").into_bytes().try_into().unwrap();
                    let answer = block_on(within(&runtime, converse(address, word)));
                    assert_eq!(answer.unwrap(), word);

                    let start = Instant::now();
                    let nap = Duration::from_millis(i % 7);
                    block_on(within(&runtime, async { tokio::time::sleep(nap).await }));
                    assert!(start.elapsed() >= nap);
                };
                if i % 2 == 0 {
                    crore::spawn_local(client)
                } else {
                    // SAFETY: `block_on` keeps the future on the heap; nothing
                    // else here is seen by others.
                    unsafe { crore::spawn_shared(client) }
                }
            })
            .collect();
        all.into_iter().for_each(|one| one.join().unwrap());
    })
    .unwrap();
}

#[test]
fn a_refused_connection_is_an_error_in_the_coroutine() {
    let runtime = tokio_runtime(1);
    // Taken, so that nobody else can listen there.
    let taken = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let any: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
    taken.bind(&any.into()).unwrap();
    let address = taken.local_addr().unwrap().as_socket().unwrap();
    crore::run(|| {
        let error = block_on(runtime.spawn(converse(address, *b"012345678")));
        assert_eq!(
            error.unwrap().unwrap_err().kind(),
            ErrorKind::ConnectionRefused
        );
    })
    .unwrap();
}

#[test]
fn a_panicking_task_of_tokio_s_is_an_error_in_the_coroutine() {
    let runtime = tokio_runtime(1);
    crore::run(|| {
        let task = runtime.spawn(async { std::panic::resume_unwind(Box::new("torn")) });
        let error = block_on::<tokio::task::JoinHandle<()>>(task).unwrap_err();
        assert!(error.is_panic());
    })
    .unwrap();
}

#[test]
fn tokio_tasks_await_coroutines() {
    let runtime = tokio_runtime(2);
    for workers in [1, 2] {
        let sum = with_crore(workers, |crore| {
            let tasks: Vec<_> = (0..500u32)
                .map(|i| {
                    let crore = crore.clone();
                    runtime.spawn(async move {
                        let handle = crore.spawn(move || {
                            for _ in 0..i % 5 {
                                crore::yield_now();
                            }
                            crore::sleep(Duration::from_micros(u64::from(i % 3) * 100));
                            i
                        });
                        handle.await.unwrap()
                    })
                })
                .collect();
            runtime.block_on(async {
                let mut sum = 0;
                for task in tasks {
                    sum += task.await.unwrap();
                }
                sum
            })
        });
        assert_eq!(sum, 499 * 250);
    }
}

#[test]
fn panics_and_cancellations_arrive_in_tokio() {
    let runtime = tokio_runtime(1);
    with_crore(1, |crore| {
        runtime.block_on(async {
            let torn: JoinHandle<()> = crore.spawn(|| std::panic::resume_unwind(Box::new("torn")));
            let payload = torn.await.unwrap_err().into_panic();
            assert_eq!(*payload.downcast::<&str>().unwrap(), "torn");
            let parked = crore.spawn(crore::park);
            parked.cancel();
            assert!(parked.await.unwrap_err().is_cancelled());
        });
    });
}

#[test]
fn a_handle_may_wait_in_one_executor_and_end_in_another() {
    let runtime = tokio_runtime(1);
    with_crore(1, |crore| {
        let (go, gone) = channel::bounded::<u32>(1);
        let mut handle = crore.spawn(move || gone.recv().unwrap());
        // Its waker is tokio's at first …
        runtime.block_on(async {
            let soon = tokio::time::sleep(Duration::from_millis(2));
            match select(&mut handle, pin!(soon)).await {
                Either::Left(_) => panic!("nothing was sent"),
                Either::Right(_) => {}
            }
        });
        // … and a coroutine's in the end.
        let waiter = crore.spawn(move || block_on(handle).unwrap());
        go.send(5).unwrap();
        assert_eq!(waiter.join().unwrap(), 5);
    });
}

#[test]
fn channels_of_both_kinds_between_tasks_and_coroutines() {
    const VALUES: u64 = 2_000;
    let runtime = tokio_runtime(2);
    for capacity in [0, 1, 16] {
        crore::run(|| {
            // Ours, there and back.
            let (to, inbox) = channel::bounded::<u64>(capacity);
            let (back, outbox) = channel::bounded::<u64>(capacity);
            let relays: Vec<_> = (0..3)
                .map(|_| {
                    let (inbox, back) = (inbox.clone(), back.clone());
                    runtime.spawn(async move {
                        while let Ok(value) = inbox.recv_async().await {
                            back.send_async(value).await.unwrap();
                        }
                    })
                })
                .collect();
            drop((inbox, back));
            let sender = crore::spawn(move || (0..VALUES).for_each(|i| to.send(i).unwrap()));
            let sum: u64 = outbox.iter().sum();
            assert_eq!(sum, VALUES * (VALUES - 1) / 2);
            sender.join().unwrap();
            relays.into_iter().for_each(|one| block_on(one).unwrap());

            // tokio's, there and back.
            let (to, mut inbox) = mpsc::channel::<u64>(capacity.max(1));
            let relay = runtime.spawn(async move {
                let mut sum = 0;
                while let Some(value) = inbox.recv().await {
                    sum += value;
                }
                sum
            });
            let senders: Vec<_> = (0..4)
                .map(|_| {
                    let to = to.clone();
                    crore::spawn(move || {
                        (0..VALUES / 4).for_each(|i| block_on(to.send(i)).unwrap());
                    })
                })
                .collect();
            drop(to);
            senders.into_iter().for_each(|one| one.join().unwrap());
            let each = VALUES / 4;
            assert_eq!(block_on(relay).unwrap(), 4 * (each * (each - 1) / 2));
        })
        .unwrap();
    }
}

#[test]
fn locks_and_permits_are_shared_between_tasks_and_coroutines() {
    const EACH: usize = 500;
    struct Shared {
        count: Mutex<usize>,
        permits: Semaphore,
        inside: AtomicUsize,
        started: Notify,
    }
    let shared = Arc::new(Shared {
        count: Mutex::new(0),
        permits: Semaphore::new(2),
        inside: AtomicUsize::new(0),
        started: Notify::new(),
    });
    let runtime = tokio_runtime(2);
    crore::run(|| {
        let tasks: Vec<_> = (0..4)
            .map(|_| {
                let shared = Arc::clone(&shared);
                runtime.spawn(async move {
                    shared.started.notified().await;
                    for _ in 0..EACH {
                        let _permit = shared.permits.acquire_async(1).await.unwrap();
                        assert!(shared.inside.fetch_add(1, Relaxed) < 2);
                        tokio::task::yield_now().await;
                        shared.inside.fetch_sub(1, Relaxed);
                        let before = *shared.count.lock_async().await.unwrap();
                        let _ = before;
                        *shared.count.lock_async().await.unwrap() += 1;
                    }
                })
            })
            .collect();
        let coroutines: Vec<_> = (0..4)
            .map(|_| {
                let shared = Arc::clone(&shared);
                crore::spawn(move || {
                    shared.started.notify_one();
                    for _ in 0..EACH {
                        let _permit = shared.permits.acquire(1).unwrap();
                        assert!(shared.inside.fetch_add(1, Relaxed) < 2);
                        crore::yield_now();
                        shared.inside.fetch_sub(1, Relaxed);
                        let mut count = shared.count.lock().unwrap();
                        let before = *count;
                        crore::yield_now(); // locked
                        *count = before + 1;
                    }
                })
            })
            .collect();
        coroutines.into_iter().for_each(|one| one.join().unwrap());
        // A notification is one task's, and four were sent but may have met.
        while !tasks.iter().all(|task| task.is_finished()) {
            shared.started.notify_waiters();
            crore::yield_now();
        }
        tasks.into_iter().for_each(|one| block_on(one).unwrap());
        assert_eq!(*shared.count.lock().unwrap(), 8 * EACH);
    })
    .unwrap();
}

#[test]
fn a_cancelled_wait_drops_the_future() {
    let runtime = tokio_runtime(1);
    crore::run(|| {
        let (mut sender, receiver) = oneshot::channel::<u32>();
        let waiting = crore::spawn(move || block_on(receiver).unwrap());
        crore::yield_now();
        assert!(!sender.is_closed());
        waiting.cancel();
        assert!(waiting.join().unwrap_err().is_cancelled());
        // A task of tokio's hears of it.
        let told = runtime.spawn(async move { sender.closed().await });
        block_on(told).unwrap();
    })
    .unwrap();
}

#[test]
fn a_timeout_of_tokio_s_ends_a_wait_for_a_coroutine() {
    let runtime = tokio_runtime(1);
    crore::run(|| {
        let parked = crore::spawn(crore::park);
        let id = parked.coroutine().id();
        let late = block_on(within(&runtime, async {
            tokio::time::timeout(Duration::from_millis(3), parked).await
        }));
        assert!(late.is_err(), "it was dropped half-way, so detached");
        id.unpark();
    })
    .unwrap();
}

#[test]
fn futures_on_workers_use_tokio_too() {
    let runtime = Arc::new(tokio_runtime(1));
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    runtime.spawn(echo(listener, 50));
    let crore = crore::Runtime::builder().workers(2).build().unwrap();
    crore
        .run(|| {
            let all: Vec<JoinHandle<_>> = (0..50u64)
                .map(|i| {
                    let runtime = Arc::clone(&runtime);
                    crore::spawn_future(async move {
                        let word = format!("{i:09}").into_bytes().try_into().unwrap();
                        let answer = within(&runtime, converse(address, word)).await;
                        answer.unwrap() == word
                    })
                })
                .collect();
            let all: Pin<Box<dyn Future<Output = Joined>>> = Box::pin(join_all(all));
            assert!(block_on(all).into_iter().all(|one| one.unwrap()));
        })
        .unwrap();
}

#[test]
fn wakes_from_many_threads_meet_one_waiting_coroutine() {
    // A future that all of tokio's threads wake at once, again and again.
    let runtime = tokio_runtime(2);
    crore::run(|| {
        for round in 0..200 {
            let left = Arc::new(AtomicUsize::new(4));
            let mut started = false;
            let polls = block_on(poll_fn(|cx| {
                if !std::mem::replace(&mut started, true) {
                    for _ in 0..4 {
                        let (left, waker) = (Arc::clone(&left), cx.waker().clone());
                        runtime.spawn(async move {
                            left.fetch_sub(1, Relaxed);
                            waker.wake_by_ref();
                            waker.wake();
                        });
                    }
                }
                match left.load(Relaxed) {
                    0 => Poll::Ready(round),
                    _ => Poll::Pending,
                }
            }));
            assert_eq!(polls, round);
        }
    })
    .unwrap();
}
