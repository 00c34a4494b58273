//! The promise: what is written for `std::thread` and `std::sync` compiles with
//! `use crore as thread` and `use crore::sync`, and does the same. Each body here is
//! compiled twice, and run on threads and in coroutines.

macro_rules! twice {
    ($($(#[$attribute:meta])* fn $name:ident() $body:block)*) => {
        mod on_std {
            use std::{sync, thread};
            use super::*;
            $($(#[$attribute])* #[test] fn $name() $body)*
        }
        mod on_crore {
            use crore as thread;
            use crore::sync;
            use super::*;
            $($(#[$attribute])* #[test] fn $name() {
                for workers in [1, 3] {
                    let runtime = crore::Runtime::builder().workers(workers).build().unwrap();
                    runtime.run(|| $body).unwrap();
                }
            })*
        }
    };
}

use std::cell::{Cell, RefCell};
use std::fmt::Debug;
use std::hash::Hash;
use std::io;
use std::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

const SHORT: Duration = Duration::from_millis(1);

fn unwinds_safely<T: ?Sized + UnwindSafe + RefUnwindSafe>() {}
fn is_as<T: Clone + Copy + Debug + Eq + Hash + Send + Sync>(_: &T) {}

twice! {
    fn builders_name_and_size() {
        let named: thread::JoinHandle<Option<String>> = thread::Builder::new()
            .name("worker".into())
            .stack_size(256 << 10)
            .spawn(|| thread::current().name().map(Into::into))
            .unwrap();
        let lent: &thread::Thread = named.thread();
        assert_eq!(lent.name(), Some("worker"));
        assert_eq!(named.join().unwrap().as_deref(), Some("worker"));
        let built: io::Result<thread::JoinHandle<()>> =
            thread::Builder::new().name(format!("{}", 1)).spawn(|| ());
        built.unwrap().join().unwrap();
        let text = String::from("lent");
        // SAFETY: joined before `text` ends.
        let length = unsafe { thread::Builder::new().spawn_unchecked(|| text.len()) };
        assert_eq!(length.unwrap().join().unwrap(), 4);
    }

    fn panics_are_looked_at() {
        let lost: thread::Result<u8> = thread::spawn(|| panic!("lost")).join();
        let error = lost.unwrap_err();
        assert!(error.is::<&str>() && !error.is::<String>());
        assert_eq!(error.downcast_ref::<&str>(), Some(&"lost"));
        assert_eq!(*error.downcast::<&str>().unwrap(), "lost");
        let mut other = thread::spawn(|| panic!("{}", 7)).join().unwrap_err();
        *other.downcast_mut::<String>().unwrap() += "!";
        let error = other.downcast::<u8>().unwrap_err();
        assert_eq!(*error.downcast::<String>().unwrap(), "7!");
        let words = match thread::spawn(|| std::panic::panic_any(5)).join() {
            Ok(()) => unreachable!(),
            Err(e) if e.is::<&str>() => unreachable!(),
            Err(e) => e.downcast_ref::<i32>().map_or("?".into(), |n| n.to_string()),
        };
        assert_eq!(words, "5");
    }

    fn threads_know_themselves() {
        let me: thread::Thread = thread::current();
        let mine: thread::ThreadId = me.id();
        is_as(&mine);
        let (tx, rx) = sync::mpsc::channel::<thread::Thread>();
        let child = thread::spawn(move || {
            tx.send(thread::current()).unwrap();
            thread::park();
            assert!(!thread::panicking());
            thread::current().id()
        });
        let theirs = rx.recv().unwrap();
        assert!(!child.is_finished() && theirs.id() == child.thread().id());
        theirs.unpark();
        let id = child.join().unwrap();
        assert!(id == theirs.id() && id != mine);
        let processors = thread::available_parallelism().unwrap();
        assert_eq!(processors, std::thread::available_parallelism().unwrap());
    }

    fn time_passes() {
        let start = Instant::now();
        thread::sleep(SHORT);
        assert!(start.elapsed() >= SHORT);
        let start = Instant::now();
        while start.elapsed() < SHORT {
            thread::park_timeout(SHORT);
            thread::yield_now();
        }
    }

    fn scopes_lend() {
        fn half<'scope, 'env>(
            scope: &'scope thread::Scope<'scope, 'env>,
            part: &'scope [u32],
        ) -> thread::ScopedJoinHandle<'scope, u32> {
            let named = thread::Builder::new().name("half".into());
            named.spawn_scoped(scope, || part.iter().sum()).unwrap()
        }
        let all = [1, 2, 3, 4];
        let mut seen = Vec::new();
        let sum = thread::scope(|scope| {
            let (left, right) = all.split_at(2);
            let (left, right) = (half(scope, left), half(scope, right));
            scope.spawn(|| seen.push(7));
            assert_eq!(left.thread().name(), Some("half"));
            assert!(left.thread().id() != right.thread().id());
            let waits = scope.spawn(thread::park);
            waits.thread().unpark();
            let sum: thread::Result<u32> = left.join();
            sum.unwrap() + right.join().unwrap()
        });
        assert_eq!((sum, seen), (10, vec![7]));
        let lost = thread::scope(|s| s.spawn(|| panic!("lost")).join());
        assert!(lost.unwrap_err().is::<&str>());
    }

    fn channels_without_bound() {
        let (tx, rx): (sync::mpsc::Sender<u32>, sync::mpsc::Receiver<u32>) = sync::mpsc::channel();
        let producers: Vec<_> = (0..3)
            .map(|i| {
                let tx = tx.clone();
                thread::spawn(move || (0..10).for_each(|j| tx.send(i * 10 + j).unwrap()))
            })
            .collect();
        assert_eq!(rx.iter().take(30).sum::<u32>(), 435);
        producers.into_iter().for_each(|one| one.join().unwrap());
        assert_eq!(rx.try_recv(), Err(sync::mpsc::TryRecvError::Empty));
        assert_eq!(rx.recv_timeout(SHORT), Err(sync::mpsc::RecvTimeoutError::Timeout));
        (0..3).for_each(|i| tx.send(i).unwrap());
        let some: sync::mpsc::TryIter<'_, u32> = rx.try_iter();
        assert_eq!(some.collect::<Vec<_>>(), [0, 1, 2]);
        drop(tx);
        assert_eq!(rx.try_recv(), Err(sync::mpsc::TryRecvError::Disconnected));
        assert_eq!(rx.recv(), Err(sync::mpsc::RecvError));
        let (tx, rx) = sync::mpsc::channel();
        drop(rx);
        assert_eq!(tx.send(5), Err(sync::mpsc::SendError(5)));
    }

    fn channels_with_a_bound() {
        let (tx, rx): (sync::mpsc::SyncSender<u32>, _) = sync::mpsc::sync_channel(1);
        tx.send(1).unwrap();
        assert_eq!(tx.try_send(2), Err(sync::mpsc::TrySendError::Full(2)));
        let sender = thread::spawn(move || (2..5).for_each(|i| tx.send(i).unwrap()));
        let mut got = Vec::new();
        for value in &rx {
            got.push(value);
        }
        assert_eq!(got, [1, 2, 3, 4]);
        sender.join().unwrap();
        // A meeting.
        let (tx, rx) = sync::mpsc::sync_channel(0);
        let sender = thread::spawn(move || tx.send("met"));
        assert_eq!(rx.into_iter().next(), Some("met"));
        assert_eq!(sender.join().unwrap(), Ok(()));
    }

    fn values_are_set_once() {
        static ONCE: sync::OnceLock<String> = sync::OnceLock::new();
        static LAZY: sync::LazyLock<Vec<u8>> = sync::LazyLock::new(|| vec![1, 2]);
        let racers: Vec<_> = (0..4).map(|_| thread::spawn(|| ONCE.get_or_init(|| "x".into()))).collect();
        racers.into_iter().for_each(|one| assert_eq!(one.join().unwrap(), "x"));
        assert_eq!(ONCE.set("y".into()), Err("y".to_owned()));
        assert_eq!(LAZY.len() + sync::LazyLock::force(&LAZY).len(), 4);
        let mut own = sync::OnceLock::from(1);
        assert_eq!(own.clone(), own);
        *own.get_mut().unwrap() += 1;
        assert_eq!((own.take(), own.get()), (Some(2), None));
        own.set(3).unwrap();
        assert_eq!(own.into_inner(), Some(3));
        let empty: sync::OnceLock<u8> = Default::default();
        assert_eq!(empty, sync::OnceLock::new());
        let default: sync::LazyLock<u8> = Default::default();
        assert_eq!(*default, 0);
        // A failure leaves it empty.
        let failed: sync::OnceLock<u8> = sync::OnceLock::new();
        let fails = || _ = failed.get_or_init(|| panic!("lost"));
        assert!(catch_unwind(AssertUnwindSafe(fails)).is_err() && failed.get().is_none());
        assert_eq!(*failed.get_or_init(|| 4), 4);
    }

    fn done_once_also_after_a_panic() {
        let once = sync::Once::new();
        assert!(!once.is_completed());
        assert!(catch_unwind(|| once.call_once(|| panic!("lost"))).is_err());
        once.call_once_force(|state: &sync::OnceState| assert!(state.is_poisoned()));
        assert!(once.is_completed());
        once.call_once(|| unreachable!());
        once.call_once_force(|_| unreachable!());
        sync::Once::new().call_once_force(|state| assert!(!state.is_poisoned()));
    }

    fn locks_poison() {
        let mutex = sync::Arc::new(sync::Mutex::new(1));
        let theirs = sync::Arc::clone(&mutex);
        let broken = thread::spawn(move || {
            let _guard: sync::MutexGuard<'_, i32> = theirs.lock().unwrap();
            panic!("lost");
        });
        assert!(broken.join().is_err() && mutex.is_poisoned());
        let error: sync::PoisonError<_> = mutex.lock().unwrap_err();
        *error.into_inner() += 1;
        assert!(matches!(mutex.try_lock(), Err(sync::TryLockError::Poisoned(_))));
        mutex.clear_poison();
        {
            let guard = mutex.lock().unwrap();
            assert!(matches!(mutex.try_lock(), Err(sync::TryLockError::WouldBlock)));
            assert_eq!(*guard, 2);
        }
        let inner: sync::LockResult<i32> = sync::Arc::into_inner(mutex).unwrap().into_inner();
        assert_eq!(inner.unwrap(), 2);
        let mut lock = sync::RwLock::new(5);
        {
            let reads: (sync::RwLockReadGuard<'_, i32>, _) = (lock.read().unwrap(), lock.read());
            assert!(lock.try_write().is_err());
            assert_eq!(*reads.0 + *reads.1.unwrap(), 10);
        }
        *lock.write().unwrap() += 1;
        let write: sync::TryLockResult<sync::RwLockWriteGuard<'_, i32>> = lock.try_write();
        drop(write.unwrap());
        *lock.get_mut().unwrap() += 1;
        assert_eq!(lock.into_inner().unwrap(), 7);
    }

    fn conditions_and_barriers() {
        let pair = sync::Arc::new((sync::Mutex::new(0), sync::Condvar::new()));
        let all: Vec<_> = (0..3)
            .map(|_| {
                let pair = pair.clone();
                thread::spawn(move || {
                    *pair.0.lock().unwrap() += 1;
                    pair.1.notify_all();
                })
            })
            .collect();
        let mut guard = pair.1.wait_while(pair.0.lock().unwrap(), |count| *count < 2).unwrap();
        while *guard < 3 {
            guard = pair.1.wait(guard).unwrap();
        }
        let (guard, _): (_, sync::WaitTimeoutResult) =
            pair.1.wait_timeout(guard, SHORT).unwrap();
        assert_eq!(*guard, 3);
        let (guard, late) =
            pair.1.wait_timeout_while(guard, SHORT, |count| *count == 3).unwrap();
        assert!(late.timed_out());
        drop(guard);
        pair.1.notify_one();
        all.into_iter().for_each(|one| one.join().unwrap());
        let barrier = sync::Arc::new(sync::Barrier::new(3));
        let all: Vec<_> = (0..3)
            .map(|_| {
                let barrier = barrier.clone();
                thread::spawn(move || {
                    let result: sync::BarrierWaitResult = barrier.wait();
                    result.is_leader()
                })
            })
            .collect();
        let leaders = all.into_iter().map(|one| one.join().unwrap());
        assert_eq!(leaders.filter(|leads| *leads).count(), 1);
        let flag = sync::atomic::AtomicBool::new(true);
        assert!(flag.load(sync::atomic::Ordering::Relaxed));
        let weak: sync::Weak<sync::Barrier> = sync::Arc::downgrade(&barrier);
        assert!(weak.upgrade().is_some());
    }

    fn panics_do_no_harm_to_what_they_pass() {
        unwinds_safely::<sync::Mutex<Cell<u8>>>();
        unwinds_safely::<sync::RwLock<Cell<u8>>>();
        unwinds_safely::<(sync::Condvar, sync::Barrier, sync::Once)>();
        unwinds_safely::<sync::OnceLock<u8>>();
        unwinds_safely::<sync::LazyLock<u8>>();
        unwinds_safely::<(sync::mpsc::Sender<u8>, sync::mpsc::Receiver<u8>)>();
        unwinds_safely::<(thread::Thread, thread::ThreadId)>();
    }
}

crore::coroutine_local! { static OURS: Cell<u32> = const { Cell::new(1) }; }
crore::coroutine_local! { static LIST: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) }; }
thread_local! {
    static THEIRS: Cell<u32> = const { Cell::new(1) };
    static THEIR_LIST: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
}

/// A key by its type's name, which both have.
macro_rules! keys {
    ($thread:path, $cell:ident, $list:ident) => {{
        use $thread as thread;
        let cell: &'static thread::LocalKey<Cell<u32>> = &$cell;
        let list: &'static thread::LocalKey<RefCell<Vec<u32>>> = &$list;
        let read: Result<u32, thread::AccessError> = cell.try_with(Cell::get);
        cell.set(read.unwrap() + 1);
        list.with_borrow_mut(|list| list.push(cell.replace(5)));
        (
            cell.take(),
            cell.get(),
            list.with_borrow(Vec::len),
            list.take(),
            list.replace(vec![3]),
        )
    }};
}

#[test]
fn keys_of_locals() {
    let ours = crore::run(|| keys!(crore, OURS, LIST)).unwrap();
    assert_eq!(ours, (5, 0, 1, vec![2], vec![]));
    assert_eq!(ours, keys!(std::thread, THEIRS, THEIR_LIST));
}
