//! A fixed number of each key operation, for `scripts/callgrind.sh`, which
//! counts the instructions of each. Prints a line for each: its name and how
//! many there are. Nothing here depends on time but `timer`, whose deadline is
//! far enough away for all sleepers to be asleep by then.
//!
//! Each runs three times: a tenth as often, to be warm; a tenth as often again;
//! and as often as it says. What the last two differ by is the cost of nine
//! tenths, without that of the runtime around them. Each ends with a call of
//! [`crore_count`], where callgrind writes what it has counted since the last.

use std::ffi::{CStr, c_int, c_void};
use std::hint::black_box;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crore::sync::channel::bounded;
use crore::{Builder, JoinHandle, Runtime};

/// What is counted, and how often it is done.
const OPERATIONS: [(&str, u64, fn(u64)); 22] = [
    ("yield, 2 runnable", 40_000, |n| yields(2, n, on_its_own)),
    ("yield, 1000 runnable", 40_000, |n| {
        yields(1_000, n, on_its_own)
    }),
    ("spawn and join, one by one", 10_000, spawn_join),
    ("spawn and join, batches of 100", 10_000, spawn_batches),
    ("unpark and park, there and back", 10_000, |n| {
        wakes(n, crore::park)
    }),
    ("the same, each with a timer", 10_000, |n| {
        wakes(n, || crore::park_timeout(Duration::from_secs(3600)));
    }),
    ("message there and back", 10_000, messages),
    ("lock and unlock", 40_000, locks),
    ("mutex of C, lock and unlock by libc alone", 10_000, |n| {
        c_mutex(
            n,
            next(c"pthread_mutex_lock"),
            next(c"pthread_mutex_unlock"),
        );
    }),
    ("the same on a plain thread", 10_000, |n| {
        c_mutex(n, libc::pthread_mutex_lock, libc::pthread_mutex_unlock);
    }),
    ("the same in a coroutine", 10_000, |n| {
        inside(|| c_mutex(n, libc::pthread_mutex_lock, libc::pthread_mutex_unlock));
    }),
    ("byte of a FILE, by libc alone", 20_000, |n| {
        // SAFETY: a valid name; the function that is asked for has this type.
        bytes(n, unsafe {
            std::mem::transmute::<*mut c_void, Get>(libc::dlsym(libc::RTLD_NEXT, c"fgetc".as_ptr()))
        });
    }),
    ("byte of a FILE on a plain thread", 20_000, |n| {
        bytes(n, libc::fgetc)
    }),
    ("byte of a FILE in a coroutine", 20_000, |n| {
        inside(move || bytes(n, libc::fgetc));
    }),
    ("std Mutex handed over, two yields", 10_000, hand_overs),
    ("timer, set and fired", 1_000, timers),
    ("resume on a shared stack, displaced", 40_000, |n| {
        yields(2, n, on_a_shared);
    }),
    ("hooked write and read, ready", 10_000, |n| {
        inside(move || ready(n));
    }),
    (
        "hooked write and read, parked, there and back",
        5_000,
        parked,
    ),
    ("hooked write and read on a plain thread", 10_000, ready),
    ("duplicate and close on a plain thread", 10_000, duplicates),
    ("socket pair that is waited for and closed", 2_000, lives),
];

fn main() {
    for (name, count, operation) in OPERATIONS {
        for n in [count / 10, count / 10, count] {
            operation(n);
            crore_count();
        }
        println!("{}\t{name}", count - count / 10);
    }
}

/// Callgrind is told to write its counts here.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn crore_count() {
    black_box(());
}

fn inside<T>(f: impl FnOnce() -> T) -> T {
    let runtime = Runtime::builder()
        // Valgrind has little address space.
        .max_stacks(2_048)
        // One, so that two coroutines displace each other.
        .shared_stacks(1, 1 << 20)
        .build()
        .expect("a worker can be had");
    runtime.run(f).expect("this thread can run coroutines")
}

/// Yields so often, on a stack of its own.
fn on_its_own(times: u64) -> JoinHandle<()> {
    let task = move || (0..times).for_each(|_| crore::yield_now());
    Builder::new().spawn(task).expect("there is room")
}

/// The same on a shared stack.
fn on_a_shared(times: u64) -> JoinHandle<()> {
    let task = move || (0..times).for_each(|_| crore::yield_now());
    // SAFETY: it has a number, and hands out no reference to what lies in its frame.
    unsafe { Builder::new().spawn_shared(task) }.expect("there is room")
}

/// `n` yields of so many together.
fn yields(tasks: u64, n: u64, spawn: fn(u64) -> JoinHandle<()>) {
    inside(|| {
        let each = n / tasks;
        let all: Vec<_> = (0..tasks).map(|_| spawn(each)).collect();
        all.into_iter().for_each(|task| task.join().unwrap());
    });
}

fn spawn_join(n: u64) {
    inside(|| {
        let sum: u64 = (0..n)
            .map(|i| crore::spawn(move || i).join().unwrap())
            .sum();
        assert_eq!(sum, n * (n - 1) / 2);
    });
}

fn spawn_batches(n: u64) {
    inside(|| {
        for _ in 0..n / 100 {
            let all: Vec<_> = (0..100).map(|i| crore::spawn(move || i)).collect();
            let sum: u64 = all.into_iter().map(|task| task.join().unwrap()).sum();
            assert_eq!(sum, 4_950);
        }
    });
}

fn wakes(n: u64, wait: fn()) {
    inside(|| {
        let (send, receive) = bounded::<crore::CoroutineId>(1);
        let pong = crore::spawn(move || {
            let peer = receive.recv().unwrap();
            for _ in 0..n {
                wait();
                peer.unpark();
            }
        });
        let peer = pong.coroutine().id();
        let ping = crore::spawn(move || {
            for _ in 0..n {
                peer.unpark();
                wait();
            }
        });
        send.send(ping.coroutine().id()).unwrap();
        ping.join().unwrap();
        pong.join().unwrap();
    });
}

fn messages(n: u64) {
    inside(|| {
        let (to, inbox) = bounded(1);
        let (back, outbox) = bounded(1);
        let pong = crore::spawn(move || {
            (0..n).for_each(|_| back.send(inbox.recv().unwrap() + 1).unwrap());
        });
        for i in 0..n {
            to.send(i).unwrap();
            assert_eq!(outbox.recv().unwrap(), i + 1);
        }
        pong.join().unwrap();
    });
}

fn locks(n: u64) {
    inside(|| {
        let mutex = crore::sync::Mutex::new(0);
        (0..n).for_each(|_| *mutex.lock().unwrap() += 1);
        assert_eq!(mutex.into_inner().unwrap(), n);
    });
}

type MutexCall = unsafe extern "C" fn(*mut libc::pthread_mutex_t) -> c_int;

/// libc's function behind the hook.
fn next(name: &CStr) -> MutexCall {
    // SAFETY: a valid name; the functions that are asked for have this type.
    unsafe { std::mem::transmute(libc::dlsym(libc::RTLD_NEXT, name.as_ptr())) }
}

fn c_mutex(n: u64, lock: MutexCall, unlock: MutexCall) {
    let mut mutex = libc::PTHREAD_MUTEX_INITIALIZER;
    let mutex = &raw mut mutex;
    for _ in 0..n {
        // SAFETY: a mutex that stays where it is; each locking is undone.
        let answers = unsafe { (lock(mutex), unlock(mutex)) };
        assert_eq!(answers, (0, 0));
    }
}

type Get = unsafe extern "C" fn(*mut libc::FILE) -> c_int;

fn bytes(n: u64, get: Get) {
    // SAFETY: C strings; a file of ours, which is used here for the last time.
    unsafe {
        let file = libc::fopen(c"/dev/zero".as_ptr(), c"r".as_ptr());
        for _ in 0..n {
            assert_eq!(get(file), 0);
        }
        libc::fclose(file);
    }
}

/// Each of two takes the lock while the other holds it, as in benches/locks.rs:
/// one yield lets the other come and wait, one lets it get it.
fn hand_overs(n: u64) {
    inside(|| {
        let mutex = Arc::new(Mutex::new(0));
        let both = [0, 1].map(|_| {
            let mutex = Arc::clone(&mutex);
            crore::spawn(move || {
                for _ in 0..n / 2 {
                    let mut held = mutex.lock().unwrap();
                    *held += 1;
                    crore::yield_now();
                    drop(held);
                    crore::yield_now();
                }
            })
        });
        both.into_iter().for_each(|one| one.join().unwrap());
        assert_eq!(*mutex.lock().unwrap(), n);
    });
}

fn timers(n: u64) {
    inside(|| {
        let at = Instant::now() + Duration::from_millis(500);
        let sleeper = |_| {
            crore::spawn(move || {
                crore::sleep_until(at);
                assert!(Instant::now() >= at);
            })
        };
        let all: Vec<_> = (0..n).map(sleeper).collect();
        all.into_iter().for_each(|task| task.join().unwrap());
    });
}

/// What was written is there to be read.
fn ready(n: u64) {
    let (mut one, mut other) = UnixStream::pair().unwrap();
    let mut bytes = [0; 8];
    for i in 0..n {
        one.write_all(&i.to_ne_bytes()).unwrap();
        other.read_exact(&mut bytes).unwrap();
        assert_eq!(u64::from_ne_bytes(bytes), i);
    }
}

/// Each read waits for the other's write.
fn parked(n: u64) {
    inside(|| {
        let (mut one, mut other) = UnixStream::pair().unwrap();
        let pong = crore::spawn(move || {
            let mut bytes = [0; 8];
            for _ in 0..n {
                other.read_exact(&mut bytes).unwrap();
                other.write_all(&bytes).unwrap();
            }
        });
        let mut bytes = [0; 8];
        for i in 0..n {
            one.write_all(&i.to_ne_bytes()).unwrap();
            one.read_exact(&mut bytes).unwrap();
            assert_eq!(u64::from_ne_bytes(bytes), i);
        }
        pong.join().unwrap();
    });
}

fn duplicates(n: u64) {
    let (one, _other) = UnixStream::pair().unwrap();
    (0..n).for_each(|_| drop(one.try_clone().unwrap()));
}

/// The whole life of two numbers of which one is waited for.
fn lives(n: u64) {
    inside(|| {
        for _ in 0..n {
            let (mut one, mut other) = UnixStream::pair().unwrap();
            let wait = crore::spawn(move || other.read(&mut [0; 8]).unwrap());
            crore::yield_now();
            one.write_all(&[0]).unwrap();
            assert_eq!(wait.join().unwrap(), 1);
        }
    });
}
