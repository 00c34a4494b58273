//! The promise: a cancellation ends every kind of wait, and leaves nothing.
// Much of it waits in std::net and std::thread::sleep.
#![cfg(feature = "hook")]

use std::cell::Cell;
use std::fs;
use std::future::pending;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::panic::catch_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::thread::panicking;
use std::time::{Duration, Instant};

use crore::sync::channel::{bounded, rendezvous, select};
use crore::sync::{Barrier, Condvar, Mutex, Notify, OnceCell, RwLock, Semaphore};
use crore::{JoinHandle, Runtime};

use crate::common::{in_child, stderr, succeeds};

const LONG: Duration = Duration::from_secs(3600);

struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Spawns a coroutine and lets it run until it waits.
fn waiting<T: Send + 'static>(wait: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    let handle = crore::spawn(wait);
    crore::yield_now();
    assert!(!handle.is_finished(), "it does not wait");
    handle
}

/// Cancels one of our own waits: it unwinds.
fn unwinds(wait: impl FnOnce() + Send + 'static) {
    let handle = waiting(wait);
    handle.cancel();
    assert!(handle.join().unwrap_err().is_cancelled());
}

/// Cancels a hooked wait: it fails, and so does the next call.
fn fails<T>(wait: impl Fn() -> io::Result<T> + Send + 'static) {
    let handle = waiting(move || {
        let codes = [wait(), wait()].map(|result| result.err().and_then(|e| e.raw_os_error()));
        assert_eq!(codes, [Some(libc::ECANCELED); 2]);
    });
    handle.cancel();
    handle.join().unwrap();
}

/// Runs `test`, in which all coroutines end and no descriptor stays open.
fn balanced(name: &str, test: impl FnOnce()) {
    succeeds(name, || {
        let runtime = Runtime::builder().build().unwrap();
        runtime.run(|| ()).unwrap();
        let open = || fs::read_dir("/proc/self/fd").unwrap().count();
        let before = open();
        runtime.run(test).unwrap();
        assert_eq!(open(), before);
        let metrics = runtime.metrics();
        assert_eq!((metrics.spawned, metrics.abandoned), (metrics.ended, 0));
    });
}

#[test]
fn our_own_waits_leave_nothing() {
    balanced("our_own_waits_leave_nothing", || {
        unwinds(crore::park);
        unwinds(|| crore::park_timeout(LONG));
        unwinds(|| crore::sleep(LONG));
        unwinds(|| crore::block_on(pending()));
        unwinds(|| crore::timeout(LONG, crore::park).unwrap_or_default());

        let child = waiting(crore::park);
        let itself = child.coroutine();
        unwinds(move || _ = child.join());
        itself.unpark(); // it was not cancelled with its joiner, so it ends

        let mutex = Arc::new(Mutex::new(1));
        let held = mutex.lock().unwrap();
        let theirs = Arc::clone(&mutex);
        unwinds(move || drop(theirs.lock()));
        drop(held);
        assert_eq!(*mutex.try_lock().unwrap(), 1);

        let lock = Arc::new(RwLock::new(1));
        let (reader, writer) = (Arc::clone(&lock), Arc::clone(&lock));
        let held = lock.read().unwrap();
        unwinds(move || drop(writer.write()));
        assert!(lock.try_read().is_ok());
        drop(held);
        let held = lock.write().unwrap();
        unwinds(move || drop(reader.read()));
        drop(held);
        assert!(lock.try_write().is_ok());

        let condvar = Arc::new(Condvar::new());
        let (changed, theirs) = (Arc::clone(&condvar), Arc::clone(&mutex));
        unwinds(move || drop(changed.wait(theirs.lock().unwrap())));
        assert!(mutex.try_lock().is_ok());

        let semaphore = Arc::new(Semaphore::new(2));
        let permit = semaphore.acquire(1).unwrap();
        let theirs = Arc::clone(&semaphore);
        unwinds(move || drop(theirs.acquire(2)));
        assert!(semaphore.try_acquire(1).is_ok(), "the queue is empty");
        drop(permit);
        assert_eq!(semaphore.available_permits(), 2);

        let notify = Arc::new(Notify::new());
        let theirs = Arc::clone(&notify);
        unwinds(move || theirs.wait());
        notify.notify_one();
        assert!(notify.try_wait());

        let barrier = Arc::new(Barrier::new(2));
        let theirs = Arc::clone(&barrier);
        unwinds(move || _ = theirs.wait());
        let theirs = Arc::clone(&barrier);
        let first = waiting(move || _ = theirs.wait());
        barrier.wait();
        first.join().unwrap();

        let cell = Arc::new(OnceCell::new());
        let theirs = Arc::clone(&cell);
        unwinds(move || _ = theirs.get_or_init(|| crore::sleep(LONG)));
        cell.get_or_init(|| ());

        let (sender, receiver) = bounded(1);
        sender.send(1).unwrap();
        let theirs = sender.clone();
        unwinds(move || _ = theirs.send(2));
        assert_eq!(receiver.recv(), Ok(1));
        let theirs = receiver.clone();
        unwinds(move || _ = theirs.recv());
        sender.send(3).unwrap();
        assert_eq!(receiver.recv(), Ok(3), "neither 2 nor lost");

        let (zero, taker) = rendezvous();
        let theirs = zero.clone();
        unwinds(move || _ = theirs.send(1));
        assert!(taker.try_recv().is_err());
        let (one, two, out) = (receiver.clone(), taker.clone(), zero.clone());
        unwinds(move || {
            let (mut one, mut two, mut out) = (one.case(), two.case(), out.case(9));
            select(&mut [&mut one, &mut two, &mut out]);
        });
        assert!(zero.try_send(4).is_err(), "nobody is left to take it");
        assert!(taker.try_recv().is_err(), "nobody is left to give it");
    });
}

/// A connected pair whose first end takes no more bytes.
fn full_pair() -> (UnixStream, UnixStream) {
    let (mut here, there) = UnixStream::pair().unwrap();
    here.set_nonblocking(true).unwrap();
    while here.write(&[0; 4096]).is_ok() {}
    here.set_nonblocking(false).unwrap();
    (here, there)
}

fn poll(fds: &[RawFd], limit: i32) -> io::Result<i32> {
    let mut entries: Vec<_> = fds
        .iter()
        .map(|&fd| libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        })
        .collect();
    // SAFETY: as many entries as are said.
    let polled = unsafe { libc::poll(entries.as_mut_ptr(), entries.len() as u64, limit) };
    if polled < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(polled)
    }
}

#[test]
fn hooked_waits_leave_nothing() {
    balanced("hooked_waits_leave_nothing", || {
        let (here, mut there) = UnixStream::pair().unwrap();
        let mut ours = here.try_clone().unwrap();
        let theirs = here.try_clone().unwrap();
        fails(move || (&theirs).read(&mut [0]));
        there.write_all(b"x").unwrap();
        let mut byte = [0];
        assert_eq!(ours.read(&mut byte).unwrap(), 1);
        assert_eq!(byte, *b"x", "nobody took it");

        let (full, mut drain) = full_pair();
        let theirs = full.try_clone().unwrap();
        fails(move || (&theirs).write(b"more"));
        drop(full);
        let mut all = Vec::new();
        drain.read_to_end(&mut all).unwrap();
        assert!(
            all.iter().all(|&byte| byte == 0),
            "what was refused was not sent"
        );

        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let theirs = listener.try_clone().unwrap();
        fails(move || theirs.accept());
        let stream = std::net::TcpStream::connect(address).unwrap();
        assert_eq!(listener.accept().unwrap().1, stream.local_addr().unwrap());

        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        fails(move || socket.recv_from(&mut [0]));

        // A Unix listener whose backlog is full makes connect wait.
        let path = std::env::temp_dir().join(format!("crore-cancel-{}", std::process::id()));
        let backlog = UnixListener::bind(&path).unwrap();
        // SAFETY: no pointers.
        unsafe { libc::listen(backlog.as_raw_fd(), 0) };
        let first = UnixStream::connect(&path).unwrap();
        let theirs = path.clone();
        fails(move || UnixStream::connect(&theirs));
        drop((first, backlog));
        fs::remove_file(path).unwrap();

        let sleeper = waiting(|| std::thread::sleep(LONG));
        sleeper.cancel();
        sleeper.join().unwrap(); // sleeps can't fail: they end
    });
}

#[test]
fn one_that_has_not_started_never_will() {
    crore::run(|| {
        let dropped = Arc::new(AtomicBool::new(false));
        let theirs = Arc::clone(&dropped);
        let note = OnDrop(move || theirs.store(true, Relaxed));
        let unstarted = crore::spawn(move || {
            let _note = note;
            unreachable!("it was cancelled before it began");
        });
        unstarted.cancel();
        assert!(unstarted.join().unwrap_err().is_cancelled());
        assert!(dropped.load(Relaxed), "what it owned is gone");
    })
    .unwrap();
}

#[test]
fn a_cancellation_comes_from_other_workers_and_threads_too() {
    let runtime = Runtime::builder().workers(2).build().unwrap();
    runtime
        .run(|| {
            for _ in 0..100 {
                let handles: Vec<_> = (0..8).map(|_| crore::spawn(crore::park)).collect();
                handles
                    .iter()
                    .skip(1)
                    .step_by(2)
                    .for_each(JoinHandle::cancel);
                let itself = handles[0].coroutine();
                std::thread::spawn(move || itself.cancel()).join().unwrap();
                for (i, handle) in handles.into_iter().enumerate() {
                    if i % 2 == 0 && i > 0 {
                        handle.coroutine().unpark();
                        handle.join().unwrap();
                    } else {
                        assert!(handle.join().unwrap_err().is_cancelled());
                    }
                }
            }
        })
        .unwrap();
}

#[test]
fn long_computations_can_ask() {
    /// One that runs on the other worker, since this one does not park.
    fn busy() -> JoinHandle<&'static str> {
        let rounds = Arc::new(AtomicU32::new(0));
        let theirs = Arc::clone(&rounds);
        let busy = crore::spawn(move || {
            while !crore::is_cancelled() {
                theirs.fetch_add(1, Relaxed);
            }
            "asked"
        });
        while rounds.load(Relaxed) == 0 {
            std::hint::spin_loop();
        }
        busy
    }
    let runtime = Runtime::builder().workers(2).build().unwrap();
    runtime
        .run(|| {
            let busy = busy();
            busy.cancel();
            assert_eq!(busy.join().unwrap(), "asked");
            assert!(!crore::is_cancelled());
        })
        .unwrap();
    // The end of the runtime is one too.
    runtime.run(|| drop(busy())).unwrap();
}

#[test]
fn who_catches_the_unwind_meets_it_again() {
    crore::run(|| {
        let handle = waiting(|| {
            assert!(catch_unwind(crore::park).is_err());
            assert!(!panicking());
            let mut pair = UnixStream::pair().unwrap();
            assert_eq!(
                pair.0.read(&mut [0]).unwrap_err().raw_os_error(),
                Some(libc::ECANCELED)
            );
            assert!(catch_unwind(|| crore::sleep(LONG)).is_err());
            crore::park();
        });
        handle.cancel();
        assert!(handle.join().unwrap_err().is_cancelled());
    })
    .unwrap();
}

/// Runs `at_end` in a destructor, once while a cancellation unwinds and once
/// while a panic does.
fn while_unwinding(at_end: fn()) {
    crore::run(|| {
        let cancelled = waiting(move || {
            let _at_end = OnDrop(at_end);
            crore::park();
        });
        cancelled.cancel();
        assert!(cancelled.join().unwrap_err().is_cancelled());
        let panicked = crore::spawn(move || {
            let _at_end = OnDrop(at_end);
            std::panic::resume_unwind(Box::new("unwinds"));
        });
        let payload = panicked.join().unwrap_err().into_panic();
        assert_eq!(*payload.downcast::<&str>().unwrap(), "unwinds");
    })
    .unwrap();
}

#[test]
fn destructors_do_what_can_be_done_at_once() {
    while_unwinding(|| {
        assert!(panicking());
        let (mut here, mut there) = UnixStream::pair().unwrap();
        here.write_all(b"goodbye").unwrap();
        let mut word = [0; 7];
        there.read_exact(&mut word).unwrap();
        assert_eq!(&word, b"goodbye");
        assert_eq!(poll(&[here.as_raw_fd(), there.as_raw_fd()], 0).unwrap(), 0);
        for _ in 0..1000 {
            // More than the budget of a coroutine that does not park.
            here.write_all(b"x").unwrap();
            there.read_exact(&mut word[..1]).unwrap();
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        listener.accept().unwrap();
        drop(stream);
        let mutex = Mutex::new(Notify::new());
        mutex.lock().unwrap().notify_one();
        mutex.lock().unwrap().wait();
        crore::spawn(|| ());
        crore::current().unpark();
        crore::park();
        std::thread::sleep(Duration::from_millis(1));
        crore::yield_now();
        assert_eq!(crore::timeout(LONG, || 1), Ok(1));
    });
}

#[test]
fn destructors_never_block_the_worker() {
    while_unwinding(|| {
        let start = Instant::now();
        let cancelled = |result: io::Result<usize>| {
            assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::ECANCELED));
        };
        let (mut here, _there) = UnixStream::pair().unwrap();
        cancelled(here.read(&mut [0]));
        // `poll` has no error for it, so it says that the connection is ready.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert_eq!(poll(&[client.as_raw_fd()], -1).unwrap(), 1);
        let both = [here.as_raw_fd(), client.as_raw_fd()];
        assert_eq!(poll(&both, 3_600_000).unwrap(), 1);
        cancelled(client.read(&mut [0]));
        drop((listener, client));
        cancelled(full_pair().0.write(&[1]));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        cancelled(listener.accept().map(|_| 0));
        assert!(start.elapsed() < LONG);
        // A partial write says how far it came.
        let sent = here.write(&vec![0; 10 << 20]).unwrap();
        assert!(sent > 0 && sent < 10 << 20);
    });
}

#[test]
fn a_destructor_can_leave_its_waiting_to_a_coroutine() {
    crore::run(|| {
        let pool = Arc::new(Mutex::new(Vec::new()));
        let held = pool.lock().unwrap();
        let theirs = Arc::clone(&pool);
        let owner = waiting(move || {
            let _gives_back = OnDrop(move || {
                let pool = Arc::clone(&theirs);
                if let Ok(mut pool) = theirs.try_lock() {
                    return pool.push("at once");
                }
                crore::spawn(move || pool.lock().unwrap().push("later"));
            });
            crore::park();
        });
        owner.cancel();
        assert!(owner.join().unwrap_err().is_cancelled());
        drop(held);
        crore::yield_now();
        assert_eq!(*pool.lock().unwrap(), ["later"]);
    })
    .unwrap();
}

#[test]
fn a_contended_lock_while_unwinding_aborts_and_says_why() {
    let output = in_child(
        "a_contended_lock_while_unwinding_aborts_and_says_why",
        || {
            crore::run(|| {
                let mutex = Arc::new(Mutex::new(()));
                let _held = mutex.lock();
                let theirs = Arc::clone(&mutex);
                let owner = waiting(move || {
                    let _locks = OnDrop(|| drop(theirs.lock()));
                    crore::park();
                });
                owner.cancel();
                let _ = owner.join();
            })
            .unwrap();
        },
    );
    let text = stderr(&output);
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{text}");
    assert!(
        text.contains("a coroutine must not park while it unwinds"),
        "{text}"
    );
}

#[test]
fn destructors_after_an_error_are_refused_but_others_go_on() {
    crore::run(|| {
        let (here, mut there) = UnixStream::pair().unwrap();
        let handle = waiting(move || {
            let mut here = OnDropFlush(here);
            here.0.read_exact(&mut [0])
        });
        struct OnDropFlush(UnixStream);
        impl Drop for OnDropFlush {
            fn drop(&mut self) {
                assert!(!panicking());
                // No unwind: a cancelled coroutine's calls fail, all of them.
                let error = self.0.write(b"bye").unwrap_err();
                assert_eq!(error.raw_os_error(), Some(libc::ECANCELED));
            }
        }
        let seen = std::rc::Rc::new(Cell::new(0));
        let theirs = std::rc::Rc::clone(&seen);
        let bystander = crore::spawn_local(move || {
            let mut pair = UnixStream::pair().unwrap();
            for _ in 0..10 {
                pair.0.write_all(b"x").unwrap();
                pair.1.read_exact(&mut [0]).unwrap();
                assert!(!panicking());
                theirs.set(theirs.get() + 1);
                crore::yield_now();
            }
        });
        handle.cancel();
        let error = handle.join().unwrap().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ECANCELED));
        assert_ne!(error.kind(), ErrorKind::Interrupted);
        bystander.join().unwrap();
        assert_eq!(seen.get(), 10);
        assert_eq!(
            there.read(&mut [0]).unwrap(),
            0,
            "closed, and nothing was written"
        );
    })
    .unwrap();
}
