//! The promise: what is bound to a cancelled token reads no more, and may write its
//! goodbye; nothing else changes, and what is not bound never hears of it.
#![cfg(feature = "hook")]

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crore::io::{Io, is_cancelled};
use crore::sync::Mutex;
use crore::{Builder, CancelToken, Runtime};

use crate::common::has_own_locals;

const LONG: Duration = Duration::from_secs(3600);

/// The kinds of coroutine: on an own stack, on a shared one, with own thread-locals.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Own,
    Shared,
    Locals,
}

fn spawn<T: Send + 'static>(
    kind: Kind,
    f: impl FnOnce() -> T + Send + 'static,
) -> crore::JoinHandle<T> {
    let builder = Builder::new();
    match kind {
        Kind::Own => builder.spawn(f),
        // SAFETY: the closures here share nothing that lies in their frames.
        Kind::Shared => unsafe { builder.spawn_shared(f) },
        Kind::Locals => builder.own_thread_locals(true).spawn(f),
    }
    .unwrap()
}

fn kinds() -> impl Iterator<Item = Kind> {
    let all = [Kind::Own, Kind::Shared, Kind::Locals];
    let locals = has_own_locals();
    all.into_iter()
        .filter(move |kind| locals || !matches!(kind, Kind::Locals))
}

/// Begins `read` in a coroutine of each kind that is bound, and cancels its token: once
/// while it waits, and once before. Both fail, and so does the next.
fn ends<T>(read: impl Fn() -> io::Result<T> + Send + Sync + 'static) {
    let read = Arc::new(read);
    crore::run(|| {
        for kind in kinds() {
            let token = CancelToken::new();
            let (theirs, read) = (token.clone(), Arc::clone(&read));
            let bound = spawn(kind, move || {
                theirs.bind(|| {
                    let errors = [read(), read()].map(|result| result.err());
                    errors.map(|error| error.is_some_and(|error| is_cancelled(&error)))
                })
            });
            crore::yield_now();
            assert!(!bound.is_finished(), "{kind:?} does not wait");
            token.cancel();
            assert_eq!(bound.join().unwrap(), [true; 2], "{kind:?}");
        }
    })
    .unwrap();
}

#[test]
fn what_reads_ends() {
    let pair = || {
        let (here, there) = UnixStream::pair().unwrap();
        std::mem::forget(there);
        here
    };
    let stream = pair();
    ends(move || (&stream).read(&mut [0]));
    let stream = pair();
    ends(move || (&stream).read_vectored(&mut [io::IoSliceMut::new(&mut [0])]));
    let stream = Io::new(pair()).unwrap();
    ends(move || (&stream).read(&mut [0]));
    let stream = pair();
    ends(move || crore::io::readable(&stream));
    let (mut reader, writer) = io::pipe().unwrap();
    let reader2 = reader.try_clone().unwrap();
    ends(move || (&reader2).read(&mut [0]));
    drop(writer);
    assert_eq!(reader.read(&mut [0]).unwrap(), 0);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    ends(move || listener.accept());
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    ends(move || socket.recv_from(&mut [0]));
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    ends(move || socket.peek(&mut [0]));
}

/// The goodbye that `cancel` does not leave time for.
#[test]
fn what_writes_goes_on() {
    crore::run(|| {
        for kind in kinds() {
            let token = CancelToken::new();
            let (mut stream, mut client) = UnixStream::pair().unwrap();
            let lock = Arc::new(Mutex::new(0));
            let (theirs, locked) = (token.clone(), Arc::clone(&lock));
            let held = lock.lock().unwrap();
            let connection = spawn(kind, move || {
                theirs.bind(|| {
                    let error = stream.read(&mut [0]).unwrap_err();
                    assert!(is_cancelled(&error));
                    // Waits for a lock, sleeps, connects, and writes more than fits.
                    *locked.lock().unwrap() += 1;
                    crore::sleep(Duration::from_millis(1));
                    std::thread::sleep(Duration::from_millis(1));
                    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                    let other = TcpStream::connect(listener.local_addr().unwrap());
                    other.unwrap().write_all(b"log").unwrap();
                    stream.write_all(&[7; 1 << 20]).unwrap();
                    stream.shutdown(Shutdown::Both).unwrap();
                });
            });
            crore::yield_now();
            token.cancel();
            crore::yield_now();
            drop(held);
            let mut said = Vec::new();
            client.read_to_end(&mut said).unwrap();
            connection.join().unwrap();
            assert!(said == [7; 1 << 20], "{kind:?}");
            assert_eq!(*lock.lock().unwrap(), 1);
        }
    })
    .unwrap();
}

/// Also where what there is to read is there already: a peer that talks on and on does
/// not keep a connection alive.
#[test]
fn a_read_that_need_not_wait_ends_too() {
    crore::run(|| {
        let (mut stream, mut client) = UnixStream::pair().unwrap();
        client.write_all(b"more and more").unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap(), 1);
        let token = CancelToken::new();
        token.cancel();
        let error = token.bind(|| stream.read(&mut [0])).unwrap_err();
        assert!(is_cancelled(&error));
        let stream = Io::new(stream).unwrap();
        let error = token.bind(|| (&stream).read(&mut [0])).unwrap_err();
        assert!(is_cancelled(&error));
        // And it is over when the token's closure is.
        assert_eq!((&stream).read(&mut [0; 99]).unwrap(), 12);
    })
    .unwrap();
}

#[test]
fn what_is_not_bound_never_hears_of_it() {
    crore::run(|| {
        let token = CancelToken::new();
        let (mut stream, mut client) = UnixStream::pair().unwrap();
        let reader = token.bind(|| {
            crore::spawn(move || {
                let mut byte = [0];
                stream.read_exact(&mut byte).map(|()| byte[0])
            })
        });
        crore::yield_now();
        token.cancel();
        crore::yield_now();
        client.write_all(&[9]).unwrap();
        assert_eq!(reader.join().unwrap().unwrap(), 9);
    })
    .unwrap();
}

/// The event loop of a library is not told, nor is what its user made non-blocking.
#[test]
fn what_never_waits_is_left_alone() {
    crore::run(|| {
        let (mut stream, mut client) = UnixStream::pair().unwrap();
        stream.set_nonblocking(true).unwrap();
        let token = CancelToken::new();
        token.cancel();
        token.bind(|| {
            let nothing = stream.read(&mut [0]).unwrap_err();
            assert_eq!(nothing.kind(), ErrorKind::WouldBlock);
            client.write_all(b"!").unwrap();
            assert_eq!(stream.read(&mut [0]).unwrap(), 1);
        });
    })
    .unwrap();
}

#[test]
fn tokens_nest_with_each_other_and_with_time_limits() {
    crore::run(|| {
        let (mut stream, _client) = UnixStream::pair().unwrap();
        let [outer, inner] = [(); 2].map(|()| CancelToken::new());
        let (theirs, within) = (outer.clone(), inner.clone());
        let bound = crore::spawn(move || {
            theirs.bind(|| {
                let first = within.bind(|| stream.read(&mut [0]).unwrap_err());
                assert!(is_cancelled(&first));
                // The outer one is not cancelled.
                let late = crore::timeout(Duration::from_millis(5), || stream.read(&mut [0]));
                assert!(late.is_err());
                // It is while the inner one of a limit is.
                let inside = within
                    .bind(|| crore::timeout(LONG, || stream.read(&mut [0]).unwrap_err()).unwrap());
                assert!(is_cancelled(&inside));
                theirs.cancel();
                let after = crore::timeout(LONG, || stream.read(&mut [0]).unwrap_err());
                assert!(is_cancelled(&after.expect("the limit was not felt")));
                is_cancelled(&stream.read(&mut [0]).unwrap_err())
            })
        });
        crore::yield_now();
        inner.cancel();
        assert!(bound.join().unwrap());
    })
    .unwrap();
}

#[test]
fn one_that_ignores_it_is_cancelled() {
    crore::run(|| {
        let (mut stream, _client) = UnixStream::pair().unwrap();
        let token = CancelToken::new();
        token.cancel();
        let deaf = crore::spawn(move || {
            token.bind(|| while stream.read(&mut [0]).is_err() && !crore::is_cancelled() {});
            crore::park();
        });
        assert!(deaf.join().unwrap_err().is_cancelled());
    })
    .unwrap();
}

/// From other threads, while the coroutines end, begin and wait.
#[test]
fn workers_are_told() {
    let runtime = Runtime::builder().workers(3).build().unwrap();
    runtime
        .run(|| {
            let server = CancelToken::new();
            let mut clients = Vec::new();
            let connections: Vec<_> = (0..60)
                .map(|_| {
                    let (mut stream, client) = UnixStream::pair().unwrap();
                    clients.push(client);
                    let token = server.child();
                    crore::spawn(move || {
                        token.bind(|| {
                            let ended = is_cancelled(&stream.read(&mut [0]).unwrap_err());
                            stream.write_all(b"bye").map(|()| ended)
                        })
                    })
                })
                .collect();
            let canceller = server.clone();
            std::thread::spawn(move || canceller.cancel())
                .join()
                .unwrap();
            for connection in connections {
                assert!(connection.join().unwrap().unwrap());
            }
            for mut client in clients {
                let mut said = String::new();
                client.read_to_string(&mut said).unwrap();
                assert_eq!(said, "bye");
            }
        })
        .unwrap();
}

/// A tree of a hundred thousand is deeper than a stack, and as quick to end as it is
/// to make.
#[test]
fn a_tree_may_be_deep_and_wide() {
    crore::run(|| {
        crore::spawn(|| {
            let root = CancelToken::new();
            let mut leaf = root.clone();
            for _ in 0..100_000 {
                leaf = leaf.child();
            }
            root.cancel();
            assert!(leaf.is_cancelled());
            let root = CancelToken::new();
            let mut leaf = root.clone();
            for _ in 0..100_000 {
                leaf = leaf.child();
            }
            drop(leaf);
            let wide: Vec<_> = (0..100_000).map(|_| root.child()).collect();
            root.cancel();
            assert!(wide.iter().all(CancelToken::is_cancelled));
        })
        .join()
        .unwrap();
    })
    .unwrap();
}

#[test]
#[should_panic(expected = "outside a coroutine")]
fn binding_a_thread_is_refused() {
    CancelToken::new().bind(|| ());
}

/// A drain waits for connections, and for nobody else.
#[test]
fn a_drain_ends_with_the_last_connection() {
    for workers in [1, 3] {
        let begun = Instant::now();
        let token = CancelToken::new();
        let runtime = Runtime::builder().workers(workers).drain(LONG).build();
        let mut clients = runtime
            .unwrap()
            .run(|| {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let acceptor = move || listener.accept().map(drop);
                Builder::new().daemon(true).spawn(acceptor).unwrap();
                let clients: Vec<_> = (0..9)
                    .map(|_| {
                        let (mut stream, client) = UnixStream::pair().unwrap();
                        let token = token.child();
                        crore::spawn(move || {
                            token.bind(|| {
                                let _ = stream.read(&mut [0]);
                                crore::sleep(Duration::from_millis(5));
                                stream.write_all(b"goodbye").unwrap();
                            });
                        });
                        client
                    })
                    .collect();
                token.cancel();
                clients
            })
            .unwrap();
        assert!(begun.elapsed() < LONG);
        for client in &mut clients {
            let mut said = String::new();
            client.read_to_string(&mut said).unwrap();
            assert_eq!(said, "goodbye");
        }
    }
}

/// Nor does a shutdown give daemons their time; who is left is told.
#[test]
fn a_shutdown_cancels_daemons_when_the_others_have_ended() {
    for (workers, from_daemon) in [(1, false), (2, false), (1, true), (2, true)] {
        let runtime = Runtime::builder().workers(workers).build().unwrap();
        let ended = runtime.run(move || {
            let daemon = Builder::new().daemon(true).spawn(crore::park).unwrap();
            let other = crore::spawn(|| crore::sleep(Duration::from_millis(5)));
            let shutdown = || crore::Handle::current().unwrap().shutdown(LONG);
            let ends = Builder::new().daemon(from_daemon).spawn(shutdown).unwrap();
            // Main is waited for, too.
            drop(ends);
            other.join().unwrap();
            daemon
        });
        let cancelled = ended.unwrap().join().unwrap_err().is_cancelled();
        assert!(cancelled, "{workers} {from_daemon}");
    }
}

/// Many come and go while somebody waits for the others.
#[test]
fn daemons_are_counted_right() {
    let runtime = Runtime::builder().workers(2).drain(LONG).build().unwrap();
    for _ in 0..50 {
        runtime
            .run(|| {
                for i in 0..20 {
                    let body = move || (0..i % 5).for_each(|_| crore::yield_now());
                    Builder::new().daemon(true).spawn(body).unwrap();
                    Builder::new().daemon(true).spawn(crore::park).unwrap();
                    crore::spawn(body);
                }
            })
            .unwrap();
    }
}

/// The unwind of a wait is no panic: it comes where an error would be returned.
#[test]
fn a_guard_that_a_cancellation_or_a_deadline_drops_does_not_poison() {
    crore::run(|| {
        let (mutex, rwlock) = (
            Arc::new(Mutex::new(0)),
            Arc::new(crore::sync::RwLock::new(0)),
        );
        let late = crore::timeout(Duration::from_millis(1), || {
            let _held = (mutex.lock(), rwlock.write());
            crore::park();
        });
        assert!(late.is_err() && mutex.lock().is_ok() && rwlock.write().is_ok());
        let (theirs, written) = (Arc::clone(&mutex), Arc::clone(&rwlock));
        let cancelled = crore::spawn(move || {
            let _held = (theirs.lock(), written.write());
            crore::park();
        });
        crore::yield_now();
        cancelled.cancel();
        assert!(cancelled.join().unwrap_err().is_cancelled());
        assert!(mutex.lock().is_ok() && rwlock.write().is_ok());
        // A panic does, also of one that was late before.
        let theirs = Arc::clone(&mutex);
        let panics = crore::spawn(move || {
            crore::timeout(Duration::from_millis(1), crore::park).unwrap_err();
            let _held = theirs.lock();
            panic!("with the lock");
        });
        assert!(panics.join().unwrap_err().is_panic());
        assert!(mutex.lock().is_err());
    })
    .unwrap();
}
