//! The promise: a dump names who holds a lock and who is joined, and circles of that; how
//! many have the other end of a channel; and what nobody has but those who wait for it.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use crate::common::kinds;
use crore::sync::{Condvar, Mutex, Notify, RwLock, Semaphore};
use crore::sync::{broadcast, channel, oneshot, watch};
use crore::{Awaited, Builder, CoroutineId, CoroutineInfo, Dump, Handle, JoinHandle, Runtime};

const LONG: Duration = Duration::from_secs(3600);

fn dump() -> Dump {
    Handle::current().unwrap().dump()
}

fn find(dump: &Dump, id: CoroutineId) -> &CoroutineInfo {
    dump.iter().find(|one| one.id() == id).unwrap()
}

fn named<T: 'static>(name: &str, f: impl FnOnce() -> T + 'static) -> JoinHandle<T> {
    Builder::new().name(name.into()).spawn_local(f).unwrap()
}

/// What `waits` waits for, once all have gone as far as they can, and what the dump says.
fn awaited<T: 'static>(waits: impl FnOnce() -> T + 'static) -> (Vec<Awaited>, String) {
    let waits = named("waits", waits);
    crore::yield_now();
    let dump = dump();
    let info = find(&dump, waits.coroutine().id());
    let awaited = (info.awaits().collect(), info.to_string());
    waits.cancel();
    let _ = waits.join();
    awaited
}

#[test]
fn who_holds_a_lock_is_named() {
    crore::run(|| {
        let (mutex, lock) = (Arc::new(Mutex::new(0)), Arc::new(RwLock::new(0)));
        let (theirs, too) = (Arc::clone(&mutex), Arc::clone(&lock));
        let holds = named("holds", move || {
            let _guards = (theirs.lock().unwrap(), too.write().unwrap());
            crore::park();
        });
        crore::yield_now();
        let id = holds.coroutine().id();
        let held = vec![Awaited::Lock(Some(id))];
        let theirs = Arc::clone(&mutex);
        let (awaits, text) = awaited(move || drop(theirs.lock()));
        assert_eq!(awaits, held);
        let words = format!(", for a lock that {id} holds");
        assert!(text.contains(&words), "{text}");
        let theirs = Arc::clone(&mutex);
        assert_eq!(awaited(move || drop(theirs.lock_owned())).0, held);
        let theirs = Arc::clone(&lock);
        assert_eq!(awaited(move || drop(theirs.read())).0, held);
        let theirs = Arc::clone(&lock);
        assert_eq!(awaited(move || drop(theirs.write())).0, held);
        let joins = named("joins", move || holds.join());
        crore::yield_now();
        let dump = dump();
        let joined: Vec<_> = find(&dump, joins.coroutine().id()).awaits().collect();
        assert_eq!(joined, [Awaited::End(Some(id))]);
        assert_eq!(dump.hints().count(), 0, "{dump}");
        id.unpark();
        joins.join().unwrap().unwrap();
        // It is this one's now, and nobody's who has not left it.
        let _guard = mutex.lock().unwrap();
        let theirs = Arc::clone(&mutex);
        let us = crore::current().id();
        assert_eq!(
            awaited(move || drop(theirs.lock())).0,
            [Awaited::Lock(Some(us))]
        );
        drop(lock.write().unwrap());
        let readers = lock.read().unwrap();
        let theirs = Arc::clone(&lock);
        assert_eq!(
            awaited(move || drop(theirs.write())).0,
            [Awaited::Lock(None)]
        );
        drop(readers);
    })
    .unwrap();
}

/// On a shared stack another one is in its place.
#[test]
fn who_waits_on_any_kind_of_stack_is_found() {
    for kind in kinds() {
        crore::run(move || {
            let mutex = Arc::new(Mutex::new(0));
            let guard = mutex.lock().unwrap();
            let theirs = Arc::clone(&mutex);
            let waits = kind.spawn(move || drop(theirs.lock()));
            let displaces = kind.spawn(crore::park);
            crore::yield_now();
            let us = crore::current().id();
            let dump = dump();
            let awaits: Vec<_> = find(&dump, waits.coroutine().id()).awaits().collect();
            assert_eq!(awaits, [Awaited::Lock(Some(us))], "{kind:?}");
            drop(guard);
            waits.join().unwrap();
            displaces.coroutine().unpark();
        })
        .unwrap();
    }
}

/// `a` holds a lock and joins `b`, which waits for the lock.
fn circle(a: Builder, b: Builder) -> (JoinHandle<()>, CoroutineId) {
    let (tell, told) = crore::sync::channel::unbounded();
    let mutex = Arc::new(Mutex::new(0));
    let a = a.name("a".into()).spawn(move || {
        let _guard = mutex.lock().unwrap();
        let theirs = Arc::clone(&mutex);
        let b = b.name("b".into()).spawn(move || drop(theirs.lock()));
        let b = b.unwrap();
        tell.send(b.coroutine().id()).unwrap();
        let _ = b.join();
    });
    (a.unwrap(), told.recv().unwrap())
}

fn words(a: CoroutineId, b: CoroutineId) -> [String; 2] {
    let joins = format!("'a' {a} waits for 'b' {b} to end");
    let locks = format!("'b' {b} waits for a lock that 'a' {a} holds");
    let end = "none of them ever goes on";
    [
        format!("{joins}, {locks}: {end}"),
        format!("{locks}, {joins}: {end}"),
    ]
}

#[test]
fn a_circle_of_a_lock_and_a_join_is_named_once() {
    crore::run(|| {
        let (a, b) = circle(Builder::new(), Builder::new());
        // One who waits for those on it is none of them.
        let a_id = a.coroutine().id();
        let waits = named("waits", move || a.join());
        crore::yield_now();
        let all = dump();
        let hints: Vec<_> = all.hints().collect();
        assert_eq!(hints.len(), 1, "{all}");
        assert!(words(a_id, b).contains(&hints[0].to_owned()), "{all}");
        assert!(all.to_string().contains(hints[0]) && all.to_json().contains(r#""lock":""#));
        b.cancel();
        waits.join().unwrap().unwrap();
        assert_eq!(dump().hints().count(), 0);
    })
    .unwrap();
}

/// Each worker is asked at another moment, so what is said is what has been for a while.
#[test]
fn a_circle_on_two_workers_is_named_when_it_has_been_for_a_while() {
    let runtime = Runtime::builder().workers(2).build().unwrap();
    runtime
        .run(|| {
            let (a, b) = circle(Builder::new().worker(0), Builder::new().worker(1));
            let named = loop {
                crore::sleep(Duration::from_millis(20));
                if let Some(hint) = dump().hints().next() {
                    break hint.to_owned();
                }
            };
            assert!(words(a.coroutine().id(), b).contains(&named), "{named}");
            b.cancel();
            a.join().unwrap();
        })
        .unwrap();
}

#[test]
fn a_lock_that_is_locked_twice_and_one_whose_holder_has_ended_are_named() {
    crore::run(|| {
        let mutex = Arc::new(Mutex::new(0));
        let theirs = Arc::clone(&mutex);
        let twice = named("twice", move || {
            let _guard = theirs.lock().unwrap();
            drop(theirs.lock());
        });
        crore::yield_now();
        let all = dump();
        let id = twice.coroutine().id();
        let words = format!("'twice' {id} waits for a lock that it holds itself: it never goes on");
        assert_eq!(all.hints().collect::<Vec<_>>(), [words], "{all}");
        twice.cancel();
        assert!(twice.join().unwrap_err().is_cancelled());

        let theirs = Arc::clone(&mutex);
        let ends = named("ends", move || mem::forget(theirs.lock()));
        ends.join().unwrap();
        // In its slot there is another.
        let other = crore::spawn(crore::park);
        let theirs = Arc::clone(&mutex);
        let waits = named("waits", move || drop(theirs.lock()));
        crore::yield_now();
        let all = dump();
        let hints: Vec<_> = all.hints().collect();
        let words = format!("'waits' {} waits for a lock whose", waits.coroutine().id());
        assert!(hints.len() == 1 && hints[0].starts_with(&words), "{all}");
        waits.cancel();
        other.coroutine().unpark();
    })
    .unwrap();
}

#[test]
fn what_a_time_limit_ends_is_no_circle() {
    crore::run(|| {
        let mutex = Arc::new(Mutex::new(0));
        let theirs = Arc::clone(&mutex);
        let twice = named("twice", move || {
            let _guard = theirs.lock().unwrap();
            crore::timeout(LONG, || drop(theirs.lock()))
        });
        crore::yield_now();
        let all = dump();
        assert_eq!(all.hints().count(), 0, "{all}");
        assert_eq!(find(&all, twice.coroutine().id()).awaits().count(), 2);
        twice.cancel();
    })
    .unwrap();
}

/// A mutex of C's notes its holder by number, which one with thread-locals of its own has.
#[cfg(all(feature = "futex", target_env = "gnu"))]
#[test]
fn who_holds_a_mutex_of_c_is_named_if_it_has_thread_locals_of_its_own() {
    struct OfC(std::cell::UnsafeCell<libc::pthread_mutex_t>);
    // SAFETY: it is a lock.
    unsafe impl Sync for OfC {}
    static MUTEX: OfC = OfC(std::cell::UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER));
    // SAFETY: a mutex that stays where it is.
    let lock = || assert_eq!(unsafe { libc::pthread_mutex_lock(MUTEX.0.get()) }, 0);
    // SAFETY: as above; it is the holder that calls this.
    let unlock = || assert_eq!(unsafe { libc::pthread_mutex_unlock(MUTEX.0.get()) }, 0);
    let runtime = Runtime::builder().own_thread_locals(true).build().unwrap();
    runtime
        .run(move || {
            let holds = crore::spawn(move || {
                lock();
                crore::park();
                unlock();
            });
            crore::yield_now();
            let waits = crore::spawn(move || {
                lock();
                unlock();
            });
            crore::yield_now();
            let all = dump();
            let held = Awaited::Lock(Some(holds.coroutine().id()));
            holds.coroutine().unpark();
            let waiting = waits.coroutine().id();
            waits.join().unwrap();
            // Beside the lock it waits for a time, to look at it again.
            assert!(find(&all, waiting).awaits().any(|one| one == held), "{all}");
        })
        .unwrap();
}

#[test]
fn the_other_ends_of_what_is_waited_for_are_counted() {
    crore::run(|| {
        let (tx, rx) = channel::bounded(0);
        let more = tx.clone();
        let receiver = rx.clone();
        let from_two = vec![Awaited::Receive { senders: 2 }];
        let (awaits, text) = awaited(move || receiver.recv());
        assert_eq!(awaits, from_two);
        let words = ", to receive from a channel that 2 can send to";
        assert!(text.contains(words), "{text}");
        let receiver = rx.clone();
        let (awaits, _) = awaited(move || receiver.recv_timeout(LONG));
        assert_eq!(awaits.len(), 2);
        assert!(awaits.contains(&from_two[0]), "{awaits:?}");
        assert_eq!(
            awaited(move || more.send(7)).0,
            [Awaited::Send { receivers: 1 }]
        );
        let from_one = vec![Awaited::Receive { senders: 1 }];
        let (_tx, rx) = oneshot::channel::<u32>();
        assert_eq!(awaited(move || rx.recv()).0, from_one);
        let (_tx, mut rx) = broadcast::channel::<u32>(1);
        assert_eq!(awaited(move || rx.recv()).0, from_one);
        let (_tx, mut rx) = watch::channel(1);
        assert_eq!(awaited(move || rx.changed()).0, from_one);

        let semaphore = Arc::new(Semaphore::new(1));
        let theirs = Arc::clone(&semaphore);
        let (awaits, _) = awaited(move || drop(theirs.acquire(2)));
        assert_eq!(awaits, [Awaited::Permits { wanted: 2, free: 1 }]);
        assert_eq!(awaited(|| Notify::new().wait()).0, [Awaited::Notification]);
        let on_a_condvar = || {
            let mutex = Mutex::new(());
            drop(Condvar::new().wait(mutex.lock().unwrap()));
        };
        assert_eq!(awaited(on_a_condvar).0, [Awaited::Notification]);
        drop(tx);
    })
    .unwrap();
}

#[test]
fn a_semaphore_that_only_its_waiters_have_is_named() {
    for kind in kinds() {
        crore::run(move || {
            let semaphore = Arc::new(Semaphore::new(1));
            Arc::clone(&semaphore).acquire_owned(1).unwrap().forget();
            let waiters: Vec<_> = (0..3)
                .map(|_| {
                    let theirs = Arc::clone(&semaphore);
                    kind.spawn(move || theirs.acquire_owned(1).is_ok())
                })
                .collect();
            crore::yield_now();
            let all = dump();
            assert_eq!(all.hints().count(), 0, "{kind:?}: {all}");
            let weak = Arc::downgrade(&semaphore);
            drop(semaphore);
            let all = dump();
            assert_eq!(all.hints().count(), 0, "{kind:?}: {all}");
            let semaphore = weak.upgrade().unwrap();
            drop((weak, semaphore));
            let all = dump();
            let hints: Vec<_> = all.hints().collect();
            let words = format!(
                "{} and 2 more wait for permits of a semaphore that nobody else has: nothing \
                 adds any",
                waiters[0].coroutine().id()
            );
            assert_eq!(hints, [words], "{kind:?}: {all}");
            waiters.iter().for_each(|one| one.cancel());
        })
        .unwrap();
    }
}
