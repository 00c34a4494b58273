//! Promise: what can't work with thread-locals that all coroutines of a thread
//! have in common stops the thread, says so, and breaks nothing. docs/LOCKS.md
//! has a row for each of these.
//!
//! Where the thread stops for good a child process does it, and is ended when
//! it has said so.

use std::cell::Cell;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::{Duration, Instant};
use std::{env, ptr, thread};

use crate::common::{in_child, stderr, succeeds, whole_name};

/// Runs `body` in a child process, up to the first line that crore says; that
/// line. The child need not end by itself.
fn said(name: &str, body: impl FnOnce()) -> String {
    if env::var("CRORE_TEST_CHILD").as_deref() == Ok(name) {
        in_child(name, body);
    }
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", &whole_name(name), "--nocapture"])
        .env("CRORE_TEST_CHILD", name)
        // Whose reports these tests are not about.
        .env("CRORE_WATCHDOG", "0")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let line = lines
        .map(Result::unwrap)
        .find(|line| line.starts_with("crore: "));
    child.kill().unwrap();
    child.wait().unwrap();
    line.expect("a report before the end")
}

fn on_one_worker<T>(f: impl FnOnce() -> T) -> T {
    crore::run(f).unwrap()
}

/// A coroutine that counts its turns until told to end.
fn counter() -> (Arc<AtomicUsize>, Arc<AtomicBool>, crore::JoinHandle<()>) {
    let (turns, done) = (
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let (t, d) = (turns.clone(), done.clone());
    let handle = crore::spawn(move || {
        while !d.load(Ordering::SeqCst) {
            t.fetch_add(1, Ordering::SeqCst);
            crore::yield_now();
        }
    });
    crore::yield_now();
    (turns, done, handle)
}

#[test]
fn a_parked_thread_stops_and_goes_on() {
    on_one_worker(|| {
        let (turns, done, handle) = counter();
        let before = turns.load(Ordering::SeqCst);
        let this = thread::current();
        // Before or after the park: the token is kept.
        let waker = thread::spawn(move || this.unpark());
        thread::park();
        thread::park_timeout(Duration::from_millis(5));
        assert_eq!(
            turns.load(Ordering::SeqCst),
            before,
            "the thread stood still"
        );
        done.store(true, Ordering::SeqCst);
        handle.join().unwrap();
        waker.join().unwrap();
    });
}

#[test]
fn a_park_that_nobody_ends_is_reported() {
    let line = said("a_park_that_nobody_ends_is_reported", || {
        on_one_worker(|| {
            let other = crore::Builder::new().name("other".into());
            let other = other.spawn(thread::park).unwrap();
            crore::spawn(thread::park);
            let _ = other.join();
        });
    });
    assert!(line.contains("coroutine 'other' (id "), "{line}");
    assert!(line.contains("spawned at tests/locks/limits.rs:"), "{line}");
    assert!(
        line.contains("`std::thread::park`") && line.contains("deadlock"),
        "{line}"
    );
}

#[test]
fn channels_of_std_within_one_thread_are_reported() {
    let line = said("channels_of_std_within_one_thread_are_reported", || {
        on_one_worker(|| {
            let (tx, rx) = mpsc::channel::<u8>();
            let receiver = crore::spawn(move || rx.recv());
            crore::yield_now();
            tx.send(1).unwrap();
            let _ = receiver.join();
        });
    });
    assert!(line.contains("std's channels"), "{line}");
}

#[test]
fn channels_of_std_between_threads_work() {
    on_one_worker(|| {
        let (tx, rx) = mpsc::sync_channel(0);
        let sender = thread::spawn(move || (0..50).for_each(|i| tx.send(i).unwrap()));
        assert_eq!(rx.iter().sum::<i32>(), 1225);
        sender.join().unwrap();
        // What is there is taken without waiting.
        let (tx, rx) = mpsc::channel();
        crore::spawn(move || tx.send(7).unwrap()).join().unwrap();
        assert_eq!(rx.recv(), Ok(7));
    });
}

thread_local! {
    static WORD: AtomicU32 = const { AtomicU32::new(0) };
}

/// As parking_lot does, whose queue node is a thread-local.
fn wait_at_a_thread_local(limit: Option<Duration>) -> i64 {
    let time = limit.map(|limit| libc::timespec {
        tv_sec: limit.as_secs() as i64,
        tv_nsec: limit.subsec_nanos().into(),
    });
    let time = time.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: a live word, a valid time or none.
    WORD.with(|word| unsafe {
        let op = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
        libc::syscall(libc::SYS_futex, word.as_ptr(), op, 0, time)
    })
}

#[test]
fn a_wait_at_a_thread_local_stops_the_thread() {
    on_one_worker(|| {
        let (turns, done, handle) = counter();
        let before = turns.load(Ordering::SeqCst);
        assert_eq!(wait_at_a_thread_local(Some(Duration::from_millis(5))), -1);
        assert_eq!(
            turns.load(Ordering::SeqCst),
            before,
            "the thread stood still"
        );
        done.store(true, Ordering::SeqCst);
        handle.join().unwrap();
    });
}

#[test]
fn a_wait_at_a_thread_local_is_reported() {
    let line = said("a_wait_at_a_thread_local_is_reported", || {
        on_one_worker(|| {
            crore::spawn(|| wait_at_a_thread_local(None));
            wait_at_a_thread_local(None);
        });
    });
    assert!(
        line.contains("thread-locals") && line.contains("deadlock"),
        "{line}"
    );
}

/// Locks a mutex when it is dropped.
struct LocksAtTheEnd(Arc<Mutex<u32>>);

impl Drop for LocksAtTheEnd {
    fn drop(&mut self) {
        *self.0.lock().unwrap() += 1;
    }
}

#[test]
fn a_lock_while_unwinding_stops_the_thread() {
    on_one_worker(|| {
        let mutex = Arc::new(Mutex::new(0));
        let (theirs, (tx, rx)) = (mutex.clone(), mpsc::channel());
        let (unwinding, go_on) = (Arc::new(AtomicBool::new(false)), AtomicU32::new(0));
        let seen = unwinding.clone();
        let holder = thread::spawn(move || {
            let held = theirs.lock().unwrap();
            tx.send(()).unwrap();
            while !seen.load(Ordering::SeqCst) {
                thread::yield_now();
            }
            drop(held);
        });
        rx.recv().unwrap();
        let theirs = mutex.clone();
        let panics = crore::spawn(move || {
            struct Says(Arc<AtomicBool>);
            impl Drop for Says {
                fn drop(&mut self) {
                    self.0.store(true, Ordering::SeqCst);
                }
            }
            let _locks = LocksAtTheEnd(theirs);
            // Dropped first.
            let _says = Says(unwinding);
            panic!("expected: a destructor locks");
        });
        assert!(panics.join().is_err());
        holder.join().unwrap();
        assert_eq!(*mutex.lock().unwrap(), 1 + go_on.into_inner());
    });
}

#[test]
fn a_deadlock_while_unwinding_is_reported() {
    let line = said("a_deadlock_while_unwinding_is_reported", || {
        on_one_worker(|| {
            let mutex = Arc::new(Mutex::new(0));
            let _held = mutex.lock().unwrap();
            let theirs = mutex.clone();
            let panics = crore::spawn(move || {
                let _locks = LocksAtTheEnd(theirs);
                std::panic::resume_unwind(Box::new("expected"));
            });
            let _ = panics.join();
        });
    });
    assert!(line.contains("while it unwinds"), "{line}");
}

/// It waits on, and does not spin.
#[test]
fn a_cancelled_coroutine_waits_for_its_lock() {
    let runtime = crore::Runtime::builder().build().unwrap();
    let resumed = runtime
        .run(|| {
            let mutex = Arc::new(Mutex::new(0));
            let held = mutex.lock().unwrap();
            let theirs = mutex.clone();
            let waiter = crore::spawn(move || {
                *theirs.lock().unwrap() += 1;
                // The next wait fails.
                crore::sleep(Duration::from_secs(60));
            });
            crore::yield_now();
            waiter.cancel();
            let before = runtime.handle().metrics().resumed;
            crore::sleep(Duration::from_millis(30));
            let resumed = runtime.handle().metrics().resumed - before;
            assert!(!waiter.is_finished());
            drop(held);
            assert!(waiter.join().unwrap_err().is_cancelled());
            assert_eq!(*mutex.lock().unwrap(), 1);
            resumed
        })
        .unwrap();
    assert!(resumed < 20, "it spins: {resumed}");
}

#[test]
fn a_cancelled_wait_without_end_is_reported() {
    let line = said("a_cancelled_wait_without_end_is_reported", || {
        on_one_worker(|| {
            let never = Arc::new((Mutex::new(()), Condvar::new()));
            let waiter = crore::Builder::new().name("waiter".into());
            let waiter = waiter.spawn(move || drop(never.1.wait(never.0.lock().unwrap())));
            crore::yield_now();
            waiter.unwrap().cancel();
        });
    });
    assert!(line.contains("coroutine 'waiter' (id "), "{line}");
    assert!(line.contains("is cancelled and waits for a lock"), "{line}");
}

/// The lock's own time holds; the limit around it is felt by the next wait.
#[test]
fn a_timeout_does_not_end_a_wait_for_a_lock() {
    on_one_worker(|| {
        let never = (Mutex::new(()), Condvar::new());
        let begin = Instant::now();
        let limited = crore::timeout(Duration::from_millis(1), || {
            let time = Duration::from_millis(20);
            let waited = never
                .1
                .wait_timeout_while(never.0.lock().unwrap(), time, |()| true);
            assert!(waited.unwrap().1.timed_out());
            crore::sleep(Duration::from_secs(60));
        });
        assert!(limited.is_err());
        let took = begin.elapsed();
        assert!((Duration::from_millis(20)..Duration::from_secs(30)).contains(&took));
    });
}

/// A future is polled on the worker's own stack: nobody can suspend there.
#[test]
fn a_future_that_blocks_its_worker_is_reported() {
    let line = said("a_future_that_blocks_its_worker_is_reported", || {
        on_one_worker(|| {
            let mutex = Arc::new(Mutex::new(0));
            let _held = mutex.lock().unwrap();
            let theirs = mutex.clone();
            let future = crore::spawn_future(async move { *theirs.lock().unwrap() });
            let _ = future.join();
        });
    });
    assert!(line.contains("a worker waits for a lock"), "{line}");
}

#[test]
fn unhooked_code_blocks_its_thread() {
    on_one_worker(|| {
        let mutex = Arc::new(Mutex::new(0));
        let held = mutex.clone();
        let (tx, rx) = mpsc::channel();
        let holder = thread::spawn(move || {
            let _held = held.lock().unwrap();
            tx.send(()).unwrap();
            thread::sleep(Duration::from_millis(20));
        });
        rx.recv().unwrap();
        let (turns, done, handle) = counter();
        let before = turns.load(Ordering::SeqCst);
        crore::unhooked(|| drop(mutex.lock().unwrap()));
        assert_eq!(
            turns.load(Ordering::SeqCst),
            before,
            "the thread stood still"
        );
        done.store(true, Ordering::SeqCst);
        handle.join().unwrap();
        holder.join().unwrap();
    });
}

/// A forked child has no table and no other coroutines; locks that were free
/// work as ever, and it may start a runtime of its own.
#[test]
fn a_forked_child_locks_as_a_plain_process() {
    // In a process of its own: std takes a lock where a thread begins, which another test's
    // may have when it is forked.
    let name = "a_forked_child_locks_as_a_plain_process";
    succeeds(name, || {
        on_one_worker(|| {
            let mutex = Arc::new(Mutex::new(0));
            let busy = Arc::new(Mutex::new(0));
            let held = busy.lock().unwrap();
            let theirs = busy.clone();
            // Somebody is in the table.
            let waiter = crore::spawn(move || *theirs.lock().unwrap());
            crore::yield_now();
            // SAFETY: the child locks, starts threads and leaves by `_exit`.
            let pid = unsafe { libc::fork() };
            if pid == 0 {
                *mutex.lock().unwrap() += 1;
                let ours = mutex.clone();
                thread::spawn(move || *ours.lock().unwrap() += 1)
                    .join()
                    .unwrap();
                let ours = mutex.clone();
                let own = thread::spawn(move || {
                    crore::run(|| {
                        let all: Vec<_> = (0..4)
                            .map(|_| {
                                let ours = ours.clone();
                                crore::spawn(move || {
                                    let mut n = ours.lock().unwrap();
                                    crore::yield_now();
                                    *n += 1;
                                })
                            })
                            .collect();
                        all.into_iter().for_each(|one| one.join().unwrap());
                    })
                });
                own.join().unwrap().unwrap();
                let right = *mutex.lock().unwrap() == 6;
                // SAFETY: ends the child.
                unsafe { libc::_exit(if right { 7 } else { 1 }) };
            }
            let mut status = 0;
            // SAFETY: our own child, a place for its status.
            assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
            assert!(
                libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 7,
                "{status:#x}"
            );
            drop(held);
            assert_eq!(waiter.join().unwrap(), 0);
        });
    });
}

/// What was said to standard error by a child that ends well: nothing.
#[test]
fn what_works_says_nothing() {
    let output = in_child("what_works_says_nothing", || {
        on_one_worker(|| {
            let alone = Cell::new(0);
            thread::park_timeout(Duration::from_millis(1));
            thread::scope(|scope| drop(scope.spawn(|| 1).join()));
            let mutex = Mutex::new(0);
            *mutex.lock().unwrap() += alone.get();
        });
    });
    assert!(output.status.success());
    assert_eq!(stderr(&output), "");
}
