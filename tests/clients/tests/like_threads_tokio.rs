//! A runtime of tokio in each of many coroutines of one thread: to tokio each
//! is a thread that waits in `block_on`. What waits there is a future; the
//! coroutines that do plain blocking things run meanwhile.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use crore_clients::{MOMENT, each, like_threads, listen, overlapped, spread_crowd};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;

const CROWD: usize = 50;

fn single() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap()
}

fn multiple() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().unwrap()
}

/// Echoes eight bytes at a time, in plain blocking code. Nobody hears the
/// first before `CROWD` have said theirs.
fn echo_server() -> SocketAddr {
    let listener = listen();
    let address = listener.local_addr().unwrap();
    let barrier = std::sync::Arc::new(std::sync::Barrier::new(CROWD));
    crore::spawn(move || {
        for _ in 0..CROWD {
            let (mut stream, _) = listener.accept().unwrap();
            let barrier = std::sync::Arc::clone(&barrier);
            crore::spawn(move || {
                let mut word = [0; 8];
                stream.read_exact(&mut word).unwrap();
                barrier.wait();
                stream.write_all(&word).unwrap();
                while stream.read_exact(&mut word).is_ok() {
                    stream.write_all(&word).unwrap();
                }
            });
        }
    });
    address
}

/// What each does in its own runtime: says words, and hears them again, in two
/// tasks; and sleeps.
async fn talk(server: SocketAddr, i: usize) -> u64 {
    let stream = tokio::net::TcpStream::connect(server).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let (say, mut heard) = tokio::sync::mpsc::channel(1);
    let listener = tokio::spawn(async move {
        while let Ok(word) = read.read_u64().await {
            say.send(word).await.unwrap();
        }
    });
    let mut sum = 0;
    for round in 0..20 {
        write.write_u64(i as u64 * round).await.unwrap();
        sum += heard.recv().await.unwrap();
    }
    drop(write);
    listener.await.unwrap();
    tokio::time::sleep(MOMENT).await;
    sum
}

fn a_runtime_in_each(workers: usize, make: fn() -> Runtime) {
    like_threads(workers, || {
        let server = echo_server();
        let (sums, took) = spread_crowd(CROWD, move |i| {
            let runtime = make();
            let sum = runtime.block_on(talk(server, i));
            // A second `block_on`, after plain blocking.
            thread::sleep(Duration::from_millis(1));
            let more = runtime.block_on(async { tokio::task::spawn_blocking(|| 1).await });
            assert_eq!(more.unwrap(), 1);
            sum
        });
        each(&sums, |i| i as u64 * (0..20).sum::<u64>());
        // Only that all were there at one time counts, and the server saw to it.
        println!("tokio: {CROWD} runtimes on {workers} workers took {took:?}");
    });
}

#[test]
fn a_current_thread_runtime_in_each_on_one_thread() {
    a_runtime_in_each(1, single);
}

#[test]
fn a_current_thread_runtime_in_each_on_several() {
    a_runtime_in_each(3, single);
}

#[test]
fn a_multi_thread_runtime_in_each_on_one_thread() {
    a_runtime_in_each(1, multiple);
}

#[test]
fn a_multi_thread_runtime_in_each_on_several() {
    a_runtime_in_each(3, multiple);
}

/// One runtime for all: each coroutine is a thread that calls `block_on`.
#[test]
fn one_runtime_for_all() {
    like_threads(1, || {
        let server = echo_server();
        let runtime = std::sync::Arc::new(multiple());
        let (sums, _) = spread_crowd(CROWD, move |i| {
            let task = runtime.spawn(talk(server, i));
            let direct = runtime.block_on(async move {
                tokio::time::sleep(Duration::from_millis(1)).await;
                task.await.unwrap()
            });
            runtime.handle().block_on(async move { direct })
        });
        each(&sums, |i| i as u64 * (0..20).sum::<u64>());
    });
}

/// Timers only, no sockets: the wait of a runtime is its timer's.
#[test]
fn sleeps_end_together() {
    like_threads(1, || {
        let (slept, took) = spread_crowd(300, |i| {
            single().block_on(async move {
                tokio::time::sleep(MOMENT).await;
                i
            })
        });
        each(&slept, |i| i);
        overlapped("tokio sleep, a runtime in each", 300, took);
    });
}

/// A panic within tokio's own tasks stays there.
#[test]
fn a_runtime_within_a_runtime_is_refused_to_that_coroutine_only() {
    like_threads(1, || {
        let (refused, _) = spread_crowd(20, |_| {
            let runtime = single();
            runtime.block_on(async {
                tokio::time::sleep(Duration::from_millis(1)).await;
                let inner = tokio::spawn(async { single().block_on(async {}) });
                inner.await.unwrap_err().is_panic()
            })
        });
        each(&refused, |_| true);
    });
}
