//! What does not work, kept here so that the page says so as long as it holds.

use std::convert::Infallible;
use std::env;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use crore::sync::{Barrier, Semaphore};
use crore_clients::{SlowHttp, crowd, each, on_one_thread};

/// Makes connections that are nothing.
struct Nothing;

impl r2d2::ManageConnection for Nothing {
    type Connection = ();
    type Error = Infallible;

    fn connect(&self) -> Result<(), Infallible> {
        Ok(())
    }

    fn is_valid(&self, (): &mut ()) -> Result<(), Infallible> {
        Ok(())
    }

    fn has_broken(&self, (): &mut ()) -> bool {
        false
    }
}

fn pool(connections: u32) -> r2d2::Pool<Nothing> {
    r2d2::Pool::builder()
        .max_size(connections)
        .connection_timeout(Duration::from_secs(600))
        .build(Nothing)
        .unwrap()
}

#[test]
fn r2d2_with_a_connection_for_each_coroutine_works() {
    on_one_thread(|| {
        let (pool, barrier) = (pool(50), Arc::new(Barrier::new(50)));
        let (answers, _) = crowd(50, move |_| {
            let connection = pool.get();
            // All hold one before the first gives it back.
            barrier.wait();
            connection.is_ok()
        });
        each(&answers, |_| true);
    });
}

/// It waits for a connection in `parking_lot`'s condition variable, which
/// stops the thread: who holds the connection can't run to give it back.
#[test]
fn r2d2_with_fewer_connections_times_out() {
    on_one_thread(|| {
        let pool = pool(1);
        let held = pool.get().unwrap();
        let another = pool.clone();
        let waiter = crore::spawn_local(move || {
            let patience = Duration::from_millis(200);
            another.get_timeout(patience).is_err()
        });
        // The waiter runs, and the thread stops with it.
        crore::sleep(Duration::from_millis(1));
        drop(held);
        assert!(waiter.join().unwrap(), "it works: say so on the page");
        assert!(pool.get().is_ok());
    });
}

#[test]
fn r2d2_behind_a_semaphore_works() {
    on_one_thread(|| {
        let (pool, free) = (pool(5), Semaphore::new(5));
        let (answers, _) = crowd(200, move |i| {
            let _permit = free.acquire(1).unwrap();
            let connection = pool.get();
            crore::sleep(Duration::from_millis(1));
            connection.map(|_| i).ok()
        });
        each(&answers, Some);
    });
}

/// What a client of `reqwest::blocking` gets that waits so long at most.
fn get(url: &str, patience: Duration) -> Result<String, String> {
    let client = reqwest::blocking::Client::builder()
        .timeout(patience)
        .build()
        .unwrap();
    let answer = client.get(url).send().and_then(|it| it.text());
    answer.map_err(|error| format!("{error:?}"))
}

/// It hands requests to a thread of its own, and stops the caller's meanwhile.
#[test]
fn reqwest_blocking_works_one_after_the_other() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    // Elsewhere: on a plain thread.
    let server = std::thread::spawn(move || {
        for i in 0..10 {
            let (stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(&stream);
            let mut line = String::new();
            while line != "\r\n" {
                line.clear();
                reader.read_line(&mut line).unwrap();
            }
            let answer =
                format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\n{i}");
            (&stream).write_all(answer.as_bytes()).unwrap();
        }
    });
    on_one_thread(|| {
        let patience = Duration::from_secs(600);
        let (mut answers, _) = crowd(10, move |_| get(&url, patience).unwrap());
        answers.sort_unstable();
        each(&answers, |i| i.to_string());
    });
    server.join().unwrap();
}

/// What it waits for never comes from a coroutine of the thread that it stops.
#[test]
fn reqwest_blocking_stops_the_thread() {
    on_one_thread(|| {
        let server = SlowHttp::start(0);
        let url = server.url("delay/1/word");
        let error = get(&url, Duration::from_secs(2)).expect_err("it works: say so on the page");
        assert!(error.contains("TimedOut"), "{error}");
    });
}

/// A lock of `parking_lot` queues threads by a thread-local that all coroutines
/// of a thread have in common: whoever waits for one stops the thread, and a
/// report says so before anything else can happen.
#[test]
fn parking_lot_stops_the_thread_and_says_so() {
    const CHILD: &str = "CRORE_CLIENTS_CHILD";
    const NAME: &str = "parking_lot_stops_the_thread_and_says_so";
    if env::var_os(CHILD).is_some() {
        return on_one_thread(|| {
            let mutex = Arc::new(parking_lot::Mutex::new(0));
            let all: Vec<_> = (0..3)
                .map(|_| {
                    let mutex = mutex.clone();
                    crore::spawn_local(move || {
                        let mut held = mutex.lock();
                        crore::sleep(Duration::from_millis(1));
                        *held += 1;
                    })
                })
                .collect();
            all.into_iter().for_each(|one| one.join().unwrap());
        });
    }
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", NAME, "--nocapture"])
        .env(CHILD, "1")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let report = lines.find_map(|line| line.ok().filter(|line| line.starts_with("crore: ")));
    child.kill().unwrap();
    child.wait().unwrap();
    let report = report.expect("it works: say so on the page");
    assert!(report.contains("those of parking_lot do"), "{report}");
    assert!(report.contains("tests/limits.rs:"), "{report}");
}

/// One after the other no coroutine waits.
#[test]
fn parking_lot_works_where_nobody_holds_it_across_a_wait() {
    on_one_thread(|| {
        let mutex = Arc::new(parking_lot::Mutex::new(0));
        let theirs = mutex.clone();
        crowd(100, move |_| {
            for _ in 0..10 {
                *theirs.lock() += 1;
                crore::yield_now();
            }
        });
        assert_eq!(*mutex.lock(), 1_000);
    });
}
