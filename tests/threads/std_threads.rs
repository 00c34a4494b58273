//! std's threads, and what std makes of them.

use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Barrier, Condvar, Mutex, RwLock, mpsc};
use std::thread;
use std::time::Duration;

use crate::{same, with_coroutines};

thread_local!(static SEEN: Cell<u32> = const { Cell::new(0) });

#[test]
fn threads_are_joined_scoped_named_and_parked() {
    same(|| {
        let named = thread::Builder::new().name("named".into()).spawn(|| {
            thread::park();
            (thread::current().name().map(str::to_owned), SEEN.replace(3))
        });
        let named = named.unwrap();
        named.thread().unpark();
        let mut numbers = vec![1, 2, 3];
        let sum = thread::scope(|scope| {
            let sum = scope.spawn(|| numbers.iter().sum::<i32>());
            sum.join().unwrap()
        });
        numbers.push(sum);
        let panicked = thread::spawn(|| panic!("as expected")).join().is_err();
        (named.join().unwrap(), numbers, panicked, SEEN.get())
    });
}

#[test]
fn locks_and_channels_work_between_them() {
    same(|| {
        let (tx, rx) = mpsc::sync_channel(1);
        let total = thread::scope(|scope| {
            for i in 0..20 {
                let tx = tx.clone();
                scope.spawn(move || (0..10).for_each(|n| tx.send(i * 10 + n).unwrap()));
            }
            drop(tx);
            rx.iter().sum::<u32>()
        });
        let (barrier, counter) = (Barrier::new(10), Mutex::new(0));
        let (turn, changed) = (Mutex::new(0), Condvar::new());
        let kept = RwLock::new(0);
        let (barrier, counter, turn, changed, kept) = (&barrier, &counter, &turn, &changed, &kept);
        let leaders: usize = thread::scope(|scope| {
            let threads: Vec<_> = (0..10)
                .map(|i| {
                    scope.spawn(move || {
                        let leads = usize::from(barrier.wait().is_leader());
                        *counter.lock().unwrap() += 1;
                        let mut now = turn.lock().unwrap();
                        while *now != i {
                            now = changed.wait(now).unwrap();
                        }
                        *now += 1;
                        changed.notify_all();
                        *kept.write().unwrap() += leads;
                        leads
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .sum()
        });
        let counted = *counter.lock().unwrap();
        (total, leaders, counted, *kept.read().unwrap())
    });
}

#[test]
fn a_thread_per_connection_serves() {
    same(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let peers: Vec<_> = (0..50)
                .map(|_| {
                    let (mut peer, _) = listener.accept().unwrap();
                    thread::spawn(move || {
                        let mut word = [0; 4];
                        while peer.read_exact(&mut word).is_ok() {
                            peer.write_all(&word).unwrap();
                        }
                    })
                })
                .collect();
            peers.into_iter().for_each(|peer| peer.join().unwrap());
        });
        let clients: Vec<_> = (0..50_u32)
            .map(|i| {
                thread::spawn(move || {
                    let mut stream = TcpStream::connect(address).unwrap();
                    let mut word = [0; 4];
                    for turn in 0..20 {
                        stream.write_all(&(i + turn).to_ne_bytes()).unwrap();
                        stream.read_exact(&mut word).unwrap();
                        assert_eq!(u32::from_ne_bytes(word), i + turn);
                    }
                })
            })
            .collect();
        clients
            .into_iter()
            .for_each(|client| client.join().unwrap());
        server.join().unwrap();
    });
}

#[test]
fn many_threads_sleep_on_few() {
    fn threads_now() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("Threads:"));
        line.unwrap()[8..].trim().parse().unwrap()
    }
    with_coroutines(1, || {
        let before = threads_now();
        let threads: Vec<_> = (0..2_000)
            .map(|_| thread::spawn(|| thread::sleep(Duration::from_millis(300))))
            .collect();
        // (Other tests of this process have threads of their own.)
        assert!(threads_now() < before + 200);
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
    });
}
