//! Each public operation with so many, twice and four times as many of whatever it
//! deals with, for `scripts/linear.sh`, which counts the instructions: what they grow
//! by from the second to the third must be no more than twice what they grow by from
//! the first to the second. Prints a line for each: how many there are first, and its
//! name. `linear PART TIMES` runs those with that part in their names, with so many times
//! as many of each.
//!
//! All is done on one thread, so that the counts are the same each time. What waits
//! without a stack is a future, polled by hand.

use std::future::Future;
use std::hint::black_box;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::{Arc, Condvar as StdCondvar, Mutex as StdMutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crore::local::LocalKey;
use crore::sync::{Barrier, Condvar, Mutex, Notify, Once, OnceCell, RwLock, Semaphore, channel};
use crore::{Builder, JoinHandle, Runtime};

type Operation = (&'static str, usize, fn(usize));

/// What is counted, and with how many at first; each in a runtime of its own.
const OPERATIONS: &[Operation] = &[
    ("spawn, joined in order", 500, |n| join_all(spawn(n, || ()))),
    ("spawn, joined backwards", 500, |n| {
        join_all(spawn(n, || ()).into_iter().rev().collect());
    }),
    ("spawn, handles dropped", 500, |n| drop(spawn(n, || ()))),
    ("spawn with names", 1000, named),
    ("spawn_shared", 500, |n| {
        // SAFETY: nothing points into their frames.
        let shared = |_| unsafe { crore::spawn_shared(crore::yield_now) };
        join_all((0..n).map(shared).collect());
    }),
    ("spawn_future", 500, |n| {
        let future = |_| crore::spawn_future(async {});
        join_all((0..n).map(future).collect());
    }),
    ("scope, joined by itself", 1000, |n| {
        crore::scope(|scope| (0..n).for_each(|_| drop(scope.spawn(|| ()))));
    }),
    ("scope, joined by hand", 1000, |n| {
        crore::scope(|scope| {
            let all: Vec<_> = (0..n).map(|_| scope.spawn(|| ())).collect();
            all.into_iter().for_each(|child| child.join().unwrap());
        });
    }),
    ("scope, joined backwards", 1000, |n| {
        crore::scope(|scope| {
            let all: Vec<_> = (0..n).map(|_| scope.spawn(|| ())).collect();
            all.into_iter()
                .rev()
                .for_each(|child| child.join().unwrap());
        });
    }),
    ("scope, cancelled with its children", 200, scope_cancelled),
    ("scope of a child that lives, and short ones", 500, |n| {
        crore::scope(|scope| {
            let old: Vec<_> = (0..n).map(|_| scope.spawn(crore::park)).collect();
            for _ in 0..n {
                scope.spawn(|| ());
                crore::yield_now();
            }
            old.iter().for_each(|child| child.thread().unpark());
        });
    }),
    ("JoinSet, joined as they end", 500, |n| {
        let mut set = crore::JoinSet::new();
        (0..n).for_each(|_| set.spawn(|| ()));
        assert_eq!(set.join_all().len(), n);
    }),
    ("JoinSet, cancelled and dropped", 200, |n| {
        let mut set = crore::JoinSet::new();
        (0..n).for_each(|_| set.spawn(crore::park));
        crore::yield_now();
        drop(set);
        crore::yield_now();
    }),
    ("unpark and join", 500, |n| wake(parked(n))),
    ("unpark at random", 500, |n| {
        let mut all = parked(n);
        shuffle(&mut all);
        wake(all);
    }),
    ("cancel", 200, |n| {
        let all = parked(n);
        all.iter().for_each(JoinHandle::cancel);
        all.into_iter().for_each(|each| drop(each.join()));
    }),
    ("dump", 200, |n| {
        let all = parked(n);
        assert!(crore::Handle::current().unwrap().dump().len() > n);
        wake(all);
    }),
    ("metrics beside parked ones", 500, |n| {
        let all = parked(n);
        for _ in 0..n {
            black_box(crore::Handle::current().unwrap().metrics());
        }
        wake(all);
    }),
    ("coroutine locals, one in each", 500, |n| {
        crore::coroutine_local! { static LOCAL: u32 = const { 5 }; }
        join_all(spawn(n, || assert_eq!(LOCAL.with(|five| *five), 5)));
    }),
    ("coroutine locals, all in one", 250, locals_in_one),
    ("block_on", 500, |n| {
        (0..n).for_each(|_| crore::block_on(async {}));
    }),
    ("sleeps until one time", 250, |n| sleeps(n, false)),
    ("sleeps until different times", 250, |n| sleeps(n, true)),
    ("timers set and taken back", 500, |n| {
        let all = spawn(n, || crore::park_timeout(HOUR));
        crore::yield_now();
        wake(all);
    }),
    ("timers taken back at random", 500, |n| {
        let all = (0..n as u64).map(|i| {
            crore::spawn(move || crore::park_timeout(HOUR + Duration::from_millis(i * 7919)))
        });
        let mut all: Vec<_> = all.collect();
        crore::yield_now();
        shuffle(&mut all);
        wake(all);
    }),
    ("timeouts, one after the other", 500, |n| {
        (0..n).for_each(|_| crore::timeout(HOUR, crore::yield_now).unwrap());
    }),
    ("timeouts around parked ones", 250, |n| {
        let all = spawn(n, || crore::timeout(HOUR, crore::park).unwrap());
        crore::yield_now();
        wake(all);
    }),
    ("timeouts, nested", 50, |n| {
        fn nest(n: usize) {
            if n == 0 {
                return crore::yield_now();
            }
            crore::timeout(HOUR, || nest(n - 1)).unwrap();
        }
        let deep = Builder::new().stack_size(8 << 20);
        deep.spawn(move || nest(n)).unwrap().join().unwrap();
    }),
    ("Mutex, handed over", 500, |n| {
        let mutex = Arc::new(Mutex::new(0));
        let held = mutex.lock().unwrap();
        let all = with(n, &mutex, |mutex| *mutex.lock().unwrap() += 1);
        drop(held);
        join_all(all);
    }),
    ("Mutex, waiters that give up", 500, |n| {
        let mutex = Mutex::new(());
        let _held = mutex.lock().unwrap();
        give_up(n, || mutex.lock_async());
    }),
    ("RwLock, readers after a writer", 500, |n| {
        let lock = Arc::new(RwLock::new(0));
        let held = lock.write().unwrap();
        let all = with(n, &lock, |lock| assert_eq!(*lock.read().unwrap(), 0));
        drop(held);
        join_all(all);
    }),
    ("RwLock, writers after a reader", 500, |n| {
        let lock = Arc::new(RwLock::new(0));
        let held = lock.read().unwrap();
        let all = with(n, &lock, |lock| *lock.write().unwrap() += 1);
        drop(held);
        join_all(all);
    }),
    ("RwLock, readers and writers in turns", 500, |n| {
        let lock = Arc::new(RwLock::new(0));
        let held = lock.write().unwrap();
        let each = |i| {
            let lock = Arc::clone(&lock);
            crore::spawn(move || match i % 2 {
                0 => *lock.write().unwrap() += 1,
                _ => drop(lock.read().unwrap()),
            })
        };
        let all = (0..n).map(each).collect();
        crore::yield_now();
        drop(held);
        join_all(all);
    }),
    ("Semaphore, permits one by one", 500, |n| {
        let semaphore = Arc::new(Semaphore::new(0));
        let all = with(n, &semaphore, |s| s.acquire(1).unwrap().forget());
        (0..n).for_each(|_| semaphore.add_permits(1));
        join_all(all);
    }),
    ("Semaphore, all permits at once", 500, |n| {
        let semaphore = Arc::new(Semaphore::new(0));
        let all = with(n, &semaphore, |s| s.acquire(1).unwrap().forget());
        semaphore.add_permits(n);
        join_all(all);
    }),
    ("Semaphore, waiters behind one that wants more", 500, |n| {
        let semaphore = Semaphore::new(1);
        let mut first = semaphore.acquire_async(n);
        pending(Pin::new(&mut first));
        give_up(n, || semaphore.acquire_async(1));
    }),
    ("Semaphore, closed", 500, |n| {
        let semaphore = Arc::new(Semaphore::new(0));
        let all = with(n, &semaphore, |s| drop(s.acquire(1)));
        semaphore.close();
        join_all(all);
    }),
    ("Notify, one by one", 500, |n| {
        let notify = Arc::new(Notify::new());
        let all = with(n, &notify, |notify| notify.wait());
        (0..n).for_each(|_| notify.notify_one());
        join_all(all);
    }),
    ("Notify, all at once", 500, |n| {
        let notify = Arc::new(Notify::new());
        let all = with(n, &notify, |notify| notify.wait());
        notify.notify_waiters();
        join_all(all);
    }),
    ("Notify, waiters that give up", 500, |n| {
        let notify = Notify::new();
        give_up(n, || notify.notified());
    }),
    ("Condvar, one by one", 500, |n| condvar(n, false)),
    ("Condvar, all at once", 500, |n| condvar(n, true)),
    ("Barrier", 500, |n| {
        let barrier = Arc::new(Barrier::new(n + 1));
        let all = with(n, &barrier, |barrier| assert!(!barrier.wait().is_leader()));
        barrier.wait();
        join_all(all);
    }),
    ("Barrier, waiters that give up", 500, |n| {
        let barrier = Barrier::new(10 * n);
        give_up(n, || barrier.wait_async());
    }),
    ("Once", 500, |n| {
        let once = Arc::new((Once::new(), OnceCell::new()));
        let all = with(n, &once, |once| {
            once.0.call_once(crore::yield_now);
            once.1.get_or_init(crore::yield_now);
        });
        join_all(all);
    }),
    ("channel, values that wait", 500, |n| {
        let (tx, rx) = channel::unbounded();
        (0..n).for_each(|i| tx.send(i).unwrap());
        drop(tx);
        assert_eq!(rx.iter().count(), n);
    }),
    ("channel, values that nobody takes", 500, |n| {
        let (tx, rx) = channel::unbounded();
        (0..n).for_each(|i| tx.send(Box::new(i)).unwrap());
        drop(rx);
    }),
    ("channel, senders that wait", 500, |n| {
        let (tx, rx) = channel::rendezvous();
        let all = with(n, &Arc::new(tx), |tx| tx.send(1).unwrap());
        assert_eq!(rx.iter().take(n).count(), n);
        join_all(all);
    }),
    ("channel, receivers that wait", 500, |n| {
        let (tx, rx) = channel::bounded(1);
        let all = with(n, &Arc::new(rx), |rx| assert!(rx.recv().is_ok()));
        (0..n).for_each(|i| tx.send(i).unwrap());
        join_all(all);
    }),
    ("channel, clones that go while others wait", 500, |n| {
        let (tx, rx) = channel::bounded::<usize>(1);
        let all = with(n, &Arc::new(rx), |rx| assert!(rx.recv().is_err()));
        drop((0..n).map(|_| tx.clone()).collect::<Vec<_>>());
        drop(tx);
        join_all(all);
    }),
    ("channel, receivers that give up", 500, |n| {
        let (_tx, rx) = channel::bounded::<usize>(1);
        give_up(n, || rx.recv_async());
    }),
    ("channel, receivers that give up a value", 1000, |n| {
        let (tx, rx) = channel::bounded::<usize>(1);
        let mut all: Vec<_> = (0..n).map(|_| rx.recv_async()).collect();
        all.iter_mut().for_each(|each| pending(Pin::new(each)));
        tx.send(1).unwrap();
        drop(all);
    }),
    ("channel, senders that give up", 500, |n| {
        let (tx, _rx) = channel::rendezvous::<usize>();
        give_up(n, || tx.send_async(1));
    }),
    ("select over many channels", 500, select_many),
    ("select, many on two channels", 250, selects_on_two),
    ("std Mutex, handed over", 250, |n| {
        let mutex = Arc::new(StdMutex::new(0));
        let held = mutex.lock().unwrap();
        let all = with(n, &mutex, |mutex| *mutex.lock().unwrap() += 1);
        drop(held);
        join_all(all);
    }),
    ("std Mutex, each its own", 250, |n| {
        let locks: Vec<_> = (0..n).map(|_| Arc::new(StdMutex::new(()))).collect();
        let held: Vec<MutexGuard<()>> = locks.iter().map(|lock| lock.lock().unwrap()).collect();
        let waiting = |lock: &Arc<StdMutex<()>>| {
            let lock = Arc::clone(lock);
            crore::spawn(move || drop(lock.lock().unwrap()))
        };
        let all = locks.iter().map(waiting).collect();
        crore::yield_now();
        drop(held);
        join_all(all);
    }),
    ("std Condvar, all at once", 250, |n| std_condvar(n, true)),
    ("std Condvar, one by one", 250, |n| std_condvar(n, false)),
    ("descriptors that are waited for", 250, descriptors),
    ("descriptor that many wait for, closed", 250, |n| {
        let (one, _other) = UnixStream::pair().unwrap();
        let one = Arc::new(one);
        let fd = one.as_raw_fd();
        let all = with(n, &one, |one| drop((&**one).read(&mut [0])));
        // SAFETY: nobody reads from the number again; `one` is leaked below.
        unsafe { libc::close(fd) };
        std::mem::forget(one);
        join_all(all);
    }),
    ("descriptor that many wait for, cancelled", 125, |n| {
        let (one, _other) = UnixStream::pair().unwrap();
        let one = Arc::new(one);
        let all = with(n, &one, |one| drop((&**one).read(&mut [0])));
        all.iter().for_each(JoinHandle::cancel);
        all.into_iter().for_each(|each| drop(each.join()));
    }),
    ("descriptor that many wait for, in turns", 125, in_turns),
    ("poll of many descriptors, ready", 250, |n| {
        poll_many(n, true)
    }),
    ("poll of many descriptors, waited for", 250, |n| {
        poll_many(n, false);
    }),
    ("duplicates", 125, |n| {
        let (one, _other) = UnixStream::pair().unwrap();
        let all: Vec<_> = (0..n).map(|_| one.as_fd().try_clone_to_owned()).collect();
        drop(all);
    }),
];

/// Those that bring their runtime.
const RUNTIMES: &[Operation] = &[
    ("spawn from outside, with ids, run", 500, |n| {
        injected(n, true)
    }),
    ("spawn from outside, with ids, never run", 500, |n| {
        injected(n, false);
    }),
    ("end of a runtime with parked ones", 200, |n| {
        inside(|| drop(parked(n)));
    }),
    ("shutdown with parked ones", 200, |n| {
        inside(|| {
            let all = parked(n);
            let handle = crore::Handle::current().unwrap();
            handle.shutdown(Duration::ZERO).unwrap_err();
            drop(all);
        });
    }),
];

const HOUR: Duration = Duration::from_secs(3600);

fn main() {
    let part = std::env::args().nth(1).unwrap_or_default();
    let times = std::env::args()
        .nth(2)
        .map_or(1, |times| times.parse().unwrap());
    raise_files();
    let own = OPERATIONS.iter().map(|operation| (operation, false));
    let all = own.chain(RUNTIMES.iter().map(|operation| (operation, true)));
    for (&(name, n, operation), brings) in all.filter(|((name, ..), _)| name.contains(&part)) {
        let run = |n| {
            if brings {
                operation(n)
            } else {
                inside(|| operation(n))
            }
        };
        let n = n * times;
        run(n);
        for n in [n, 2 * n, 4 * n] {
            crore_count();
            run(n);
        }
        crore_count();
        println!("{n}\t{name}");
    }
}

/// Callgrind is told to write its counts here.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn crore_count() {
    black_box(());
}

fn raise_files() {
    rlimit::increase_nofile_limit(4096).expect("open files may be many");
}

fn inside(f: impl FnOnce()) {
    // Valgrind has little address space.
    let runtime = Runtime::builder().max_stacks(4_096).build();
    runtime.unwrap().run(f).unwrap();
}

fn spawn(n: usize, f: fn()) -> Vec<JoinHandle<()>> {
    (0..n).map(|_| crore::spawn(f)).collect()
}

fn parked(n: usize) -> Vec<JoinHandle<()>> {
    let all = spawn(n, crore::park);
    crore::yield_now();
    all
}

fn join_all(all: Vec<JoinHandle<()>>) {
    all.into_iter().for_each(|each| each.join().unwrap());
}

fn wake(all: Vec<JoinHandle<()>>) {
    all.iter().for_each(|each| each.coroutine().unpark());
    join_all(all);
}

/// So many that have begun with what they share.
fn with<T: Send + Sync + 'static>(n: usize, it: &Arc<T>, f: fn(&Arc<T>)) -> Vec<JoinHandle<()>> {
    let one = |_| {
        let it = Arc::clone(it);
        crore::spawn(move || f(&it))
    };
    let all = (0..n).map(one).collect();
    crore::yield_now();
    all
}

fn shuffle<T>(all: &mut [T]) {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for i in (1..all.len()).rev() {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        all.swap(i, random as usize % (i + 1));
    }
}

fn pending<F: Future>(future: Pin<&mut F>) {
    let polled = future.poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(polled, Poll::Pending));
}

/// Futures that wait, and are dropped from the front, from the back and at random.
fn give_up<F: Future + Unpin>(n: usize, wait: impl Fn() -> F) {
    let in_order: Vec<_> = (0..n).collect();
    let backwards = in_order.iter().rev().copied().collect();
    let mut at_random = in_order.clone();
    shuffle(&mut at_random);
    for order in [in_order, backwards, at_random] {
        let mut all: Vec<_> = (0..n).map(|_| Some(wait())).collect();
        all.iter_mut()
            .flatten()
            .for_each(|each| pending(Pin::new(each)));
        order.into_iter().for_each(|i| all[i] = None);
    }
}

fn named(n: usize) {
    let one = |i| {
        let builder = Builder::new().name(format!("number {i}"));
        builder.spawn(|| ()).unwrap()
    };
    join_all((0..n).map(one).collect());
}

fn injected(n: usize, run: bool) {
    let runtime = Runtime::builder().max_stacks(4_096).build().unwrap();
    let handle = runtime.handle();
    let all: Vec<_> = (0..n).map(|_| handle.spawn(|| ())).collect();
    for each in &all {
        black_box(each.coroutine().id());
    }
    if run {
        let joined = runtime.run(|| join_all(all));
        joined.unwrap();
    }
}

fn scope_cancelled(n: usize) {
    let parent = crore::spawn(move || {
        crore::scope(|scope| (0..n).for_each(|_| drop(scope.spawn(crore::park))));
    });
    crore::yield_now();
    crore::yield_now();
    parent.cancel();
    parent.join().unwrap_err();
}

/// Keys that are no statics, which are as many as a program has lines.
fn locals_in_one(n: usize) {
    thread_local!(static OUTSIDE: u32 = const { 5 });
    let key = |_| &*Box::leak(Box::new(LocalKey::__new(&OUTSIDE, || 5)));
    let keys: Vec<_> = (0..n).map(key).collect();
    let user = crore::spawn(move || {
        for _ in 0..2 {
            assert!(keys.iter().all(|key| key.with(|five| *five) == 5));
        }
    });
    user.join().unwrap();
}

fn sleeps(n: usize, apart: bool) {
    let end = Instant::now() + Duration::from_millis(50);
    let one = |i: usize| {
        let apart = Duration::from_micros(if apart { 50 * i as u64 } else { 0 });
        crore::spawn(move || crore::sleep_until(end + apart))
    };
    join_all((0..n).map(one).collect());
}

fn condvar(n: usize, at_once: bool) {
    let shared = Arc::new((Mutex::new(()), Condvar::new()));
    let all = with(n, &shared, |shared| {
        drop(shared.1.wait(shared.0.lock().unwrap()).unwrap());
    });
    if at_once {
        shared.1.notify_all();
    } else {
        (0..n).for_each(|_| shared.1.notify_one());
    }
    join_all(all);
}

fn std_condvar(n: usize, at_once: bool) {
    let shared = Arc::new((StdMutex::new(0), StdCondvar::new()));
    let all = with(n, &shared, |shared| {
        let mut left = shared.0.lock().unwrap();
        while *left == 0 {
            left = shared.1.wait(left).unwrap();
        }
        *left -= 1;
    });
    if at_once {
        *shared.0.lock().unwrap() = n;
        shared.1.notify_all();
    } else {
        for _ in 0..n {
            *shared.0.lock().unwrap() += 1;
            shared.1.notify_one();
        }
    }
    join_all(all);
}

fn select_many(n: usize) {
    let all: Vec<_> = (0..n).map(|_| channel::bounded::<usize>(1)).collect();
    let mut cases: Vec<_> = all.iter().map(|(_, rx)| rx.case()).collect();
    let mut list: Vec<_> = cases.iter_mut().map(|case| case as _).collect();
    let mut select = Box::pin(channel::select_async(&mut list));
    pending(select.as_mut());
    all[n - 1].0.send(1).unwrap();
    drop(select);
}

fn selects_on_two(n: usize) {
    let (quiet, silent) = channel::bounded::<usize>(1);
    let (tx, rx) = channel::bounded::<usize>(1);
    let shared = Arc::new((silent, rx));
    let all = with(n, &shared, |shared| {
        let (mut one, mut other) = (shared.0.case(), shared.1.case());
        assert_eq!(channel::select(&mut [&mut one, &mut other]), 1);
    });
    (0..n).for_each(|i| tx.send(i).unwrap());
    join_all(all);
    drop(quiet);
}

fn descriptors(n: usize) {
    let pairs: Vec<_> = (0..n).map(|_| UnixStream::pair().unwrap()).collect();
    let (readers, writers): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
    let read = |mut reader: UnixStream| crore::spawn(move || reader.read_exact(&mut [0]).unwrap());
    let all = readers.into_iter().map(read).collect();
    crore::yield_now();
    writers
        .iter()
        .for_each(|mut writer| writer.write_all(&[1]).unwrap());
    join_all(all);
}

/// Many read from one descriptor, and what comes is for one of them each time.
fn in_turns(n: usize) {
    let (one, mut other) = UnixStream::pair().unwrap();
    let done = Arc::new((one, Semaphore::new(0)));
    let all = with(n, &done, |done| {
        (&done.0).read_exact(&mut [0]).unwrap();
        done.1.add_permits(1);
    });
    for _ in 0..n {
        other.write_all(&[1]).unwrap();
        done.1.acquire(1).unwrap().forget();
    }
    join_all(all);
}

fn poll_many(n: usize, ready: bool) {
    let pairs: Vec<_> = (0..n).map(|_| UnixStream::pair().unwrap()).collect();
    let list = pairs.iter().map(|(reader, _)| libc::pollfd {
        fd: reader.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    });
    let mut list: Vec<_> = list.collect();
    let mut last = &pairs[n - 1].1;
    if ready {
        last.write_all(&[1]).unwrap();
    }
    let poller = crore::spawn(move || {
        // SAFETY: as many as there are.
        unsafe { libc::poll(list.as_mut_ptr(), list.len() as libc::nfds_t, -1) }
    });
    crore::yield_now();
    if !ready {
        last.write_all(&[1]).unwrap();
    }
    assert_eq!(poller.join().unwrap(), 1);
}
