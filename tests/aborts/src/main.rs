//! The promise: in a program that is built with `panic = "abort"` what is
//! cancelled ends, a `timeout` ends what can end, and nothing spins.
//!
//! Test harnesses are built to unwind, so this is a program of its own:
//! `CARGO_PROFILE_DEV_PANIC=abort CARGO_TARGET_DIR=target/abort cargo run -p crore-aborts`.
//! A check that fails aborts it.

use std::cell::Cell;
use std::future::pending;
use std::io::{ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crore::generator::{self, Generator};
use crore::sync::{Mutex, Notify, channel};
use crore::{JoinHandle, timeout};

const SHORT: Duration = Duration::from_millis(5);
const LONG: Duration = Duration::from_secs(3600);
/// How often a wait may come back for nothing. One that spins does a thousand
/// times as often in the time that these checks take.
const FEW: u64 = 200;

fn main() {
    if !cfg!(panic = "abort") {
        panic!("this is to be built with CARGO_PROFILE_DEV_PANIC=abort");
    }
    let checks: [(&str, fn()); 6] = [
        (
            "cancelled waits are abandoned",
            cancelled_waits_are_abandoned,
        ),
        ("a cancelled read is an error", a_cancelled_read_is_an_error),
        ("late waits return", late_waits_return),
        ("late waits for a value go on", late_waits_for_a_value_go_on),
        ("ignored deadlines cancel", ignored_deadlines_cancel),
        ("generators are left alone", generators_are_left_alone),
    ];
    for (name, check) in checks {
        crore::run(check).unwrap();
        println!("{name}: ok");
    }
    println!("{} passed, 0 failed", checks.len());
}

fn resumed() -> u64 {
    crore::Handle::current().unwrap().metrics().resumed
}

/// Runs `wait`, which lasts for a hundred milliseconds at most, until somebody
/// else brings what it waits for, long after the time limit.
fn without_spinning<T>(wait: impl FnOnce() -> T) -> T {
    let before = resumed();
    let value = wait();
    let count = resumed() - before;
    assert!(count < FEW, "{count} resumes for one wait");
    value
}

fn is_abandoned(child: JoinHandle<()>) -> bool {
    let before = crore::Handle::current().unwrap().metrics().abandoned;
    let error = child.join().unwrap_err();
    let after = crore::Handle::current().unwrap().metrics().abandoned;
    error.is_cancelled() && after == before + 1
}

/// What never runs where nothing unwinds.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        unreachable!("an abandoned coroutine's destructors do not run");
    }
}

fn cancelled_waits_are_abandoned() {
    let (_sender, receiver) = channel::unbounded::<u8>();
    let mutex = Rc::new(Mutex::new(()));
    let held = mutex.lock().unwrap();
    let theirs = Rc::clone(&mutex);
    let waits: Vec<Box<dyn FnOnce()>> = vec![
        Box::new(crore::park),
        Box::new(|| crore::park_timeout(LONG)),
        Box::new(|| crore::sleep(LONG)),
        Box::new(|| crore::block_on(pending())),
        Box::new(move || _ = receiver.recv()),
        Box::new(move || drop(theirs.lock())),
        Box::new(|| Notify::new().wait()),
        Box::new(|| drop(crore::spawn(crore::park).join())),
    ];
    for wait in waits {
        let child = crore::spawn_local(move || {
            let _bomb = Bomb;
            wait();
        });
        // It waits as soon as it has run.
        crore::yield_now();
        child.cancel();
        assert!(is_abandoned(child));
        assert_eq!(crore::spawn(|| 5).join().unwrap(), 5, "others go on");
    }
    drop(held);
}

fn a_cancelled_read_is_an_error() {
    let (mut near, _far) = UnixStream::pair().unwrap();
    let dropped = Rc::new(Cell::new(false));
    struct Note(Rc<Cell<bool>>);
    impl Drop for Note {
        fn drop(&mut self) {
            self.0.set(true);
        }
    }
    let note = Note(Rc::clone(&dropped));
    let child = crore::spawn_local(move || {
        let _note = note;
        near.read(&mut [0]).unwrap_err().raw_os_error()
    });
    crore::yield_now();
    child.cancel();
    const ECANCELED: i32 = 125;
    assert_eq!(child.join().unwrap(), Some(ECANCELED));
    assert!(dropped.get(), "who returns on the error ends as usual");
}

fn late_waits_return() {
    let waits: [fn(); 4] = [
        crore::park,
        || crore::park_timeout(LONG),
        || crore::sleep(LONG),
        || {
            let (mut near, _far) = UnixStream::pair().unwrap();
            let error = near.read(&mut [0]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut);
        },
    ];
    for wait in waits {
        let begun = Instant::now();
        assert!(without_spinning(|| timeout(SHORT, wait)).is_err());
        assert!(begun.elapsed() >= SHORT);
    }
    // What unpark left is not lost on a deadline that has passed.
    crore::current().unpark();
    let nested = timeout(Duration::ZERO, || {
        crore::park();
        crore::deadline().is_some()
    });
    assert!(nested.is_err());
    crore::park();
}

/// Calls `f` when a time limit of [`SHORT`] is long over.
fn much_later(f: impl FnOnce() + 'static) {
    crore::spawn_local(|| {
        crore::sleep(10 * SHORT);
        f();
    });
}

fn late_waits_for_a_value_go_on() {
    let (sender, receiver) = channel::unbounded();
    much_later(move || sender.send(7).unwrap());
    let got = without_spinning(|| timeout(SHORT, || receiver.recv()));
    assert_eq!(got, Ok(Ok(7)));

    let mutex = Rc::new(Mutex::new(1));
    let theirs = Rc::clone(&mutex);
    crore::spawn_local(move || {
        let _held = theirs.lock().unwrap();
        crore::sleep(10 * SHORT);
    });
    crore::yield_now();
    let got = without_spinning(|| timeout(SHORT, || *mutex.lock().unwrap()));
    assert_eq!(got, Ok(1));

    let child = crore::spawn(|| {
        crore::sleep(10 * SHORT);
        8
    });
    let got = without_spinning(|| timeout(SHORT, || child.join().unwrap()));
    assert_eq!(got, Ok(8));

    // A wait with a time limit of its own still has that.
    let (_sender, receiver) = channel::unbounded::<u8>();
    let got = without_spinning(|| timeout(SHORT, || receiver.recv_timeout(10 * SHORT)));
    assert!(got.unwrap().is_err());

    // A scope passes a deadline on to its children, whose reads fail by it.
    let (mut near, _far) = UnixStream::pair().unwrap();
    let got = without_spinning(|| {
        timeout(SHORT, || {
            crore::scope(|scope| {
                scope.spawn(move || drop(near.read(&mut [0]).unwrap_err()));
            })
        })
    });
    assert!(got.is_err());
}

fn ignored_deadlines_cancel() {
    let child = crore::spawn(|| {
        let _bomb = Bomb;
        let _ = timeout(SHORT, || {
            loop {
                crore::park();
            }
        });
    });
    assert!(is_abandoned(child));
}

/// One that is dropped before its end keeps its stack; one that borrows may end.
fn generators_are_left_alone() {
    struct Never;
    impl Drop for Never {
        fn drop(&mut self) {
            panic!("nothing unwinds");
        }
    }
    let mut one = Generator::new(|out, ()| {
        let _never = Never;
        out.yield_(1);
    });
    assert_eq!(one.next(), Some(1));
    drop(one);
    let words = ["a", "b"];
    let all = generator::scope(
        |out, ()| words.iter().for_each(|word| out.yield_(*word)),
        |words| words.collect::<String>(),
    );
    assert_eq!(all, "ab");
}
