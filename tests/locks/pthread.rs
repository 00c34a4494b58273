//! Promise: locks of pthreads park coroutines, as C and C++ libraries use them.
#![cfg(all(
    feature = "futex",
    target_env = "gnu",
    not(target_feature = "crt-static")
))]

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::ptr::null;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::locks_common::{Who, after, others};
use libc::{c_int, clockid_t, timespec};

const SHORT: Duration = Duration::from_millis(2);
const LONG: Duration = Duration::from_secs(60);

unsafe extern "C" {
    fn sem_clockwait(sem: *mut libc::sem_t, clock: clockid_t, time: *const timespec) -> c_int;
    fn pthread_mutex_clocklock(
        m: *mut libc::pthread_mutex_t,
        c: clockid_t,
        t: *const timespec,
    ) -> c_int;
    fn pthread_rwlock_timedrdlock(l: *mut libc::pthread_rwlock_t, t: *const timespec) -> c_int;
    fn pthread_rwlock_timedwrlock(l: *mut libc::pthread_rwlock_t, t: *const timespec) -> c_int;
    fn pthread_rwlock_clockrdlock(
        l: *mut libc::pthread_rwlock_t,
        c: clockid_t,
        t: *const timespec,
    ) -> c_int;
    fn pthread_rwlock_clockwrlock(
        l: *mut libc::pthread_rwlock_t,
        c: clockid_t,
        t: *const timespec,
    ) -> c_int;
    fn pthread_cond_clockwait(
        c: *mut libc::pthread_cond_t,
        m: *mut libc::pthread_mutex_t,
        clock: clockid_t,
        t: *const timespec,
    ) -> c_int;
}

/// An object of C, on the heap, for all.
struct Shared<T>(UnsafeCell<MaybeUninit<T>>);

// SAFETY: what C functions lock by themselves.
unsafe impl<T> Sync for Shared<T> {}
// SAFETY: as above.
unsafe impl<T> Send for Shared<T> {}

impl<T> Shared<T> {
    fn new(init: impl FnOnce(*mut T)) -> Arc<Self> {
        let this = Arc::new(Self(UnsafeCell::new(MaybeUninit::zeroed())));
        init(this.get());
        this
    }

    fn get(&self) -> *mut T {
        self.0.get().cast()
    }
}

type Mutex = Shared<libc::pthread_mutex_t>;
type Cond = Shared<libc::pthread_cond_t>;
type RwLock = Shared<libc::pthread_rwlock_t>;
type Sem = Shared<libc::sem_t>;

fn mutex(kind: c_int) -> Arc<Mutex> {
    Shared::new(|mutex| {
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: places for what is made.
        unsafe {
            libc::pthread_mutexattr_init(attributes.as_mut_ptr());
            libc::pthread_mutexattr_settype(attributes.as_mut_ptr(), kind);
            assert_eq!(libc::pthread_mutex_init(mutex, attributes.as_ptr()), 0);
        }
    })
}

fn cond(clock: clockid_t) -> Arc<Cond> {
    Shared::new(|cond| {
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: places for what is made.
        unsafe {
            libc::pthread_condattr_init(attributes.as_mut_ptr());
            libc::pthread_condattr_setclock(attributes.as_mut_ptr(), clock);
            assert_eq!(libc::pthread_cond_init(cond, attributes.as_ptr()), 0);
        }
    })
}

// SAFETY, here and below: live objects that were initialised.
impl Mutex {
    fn lock(&self) {
        // SAFETY: see above.
        assert_eq!(unsafe { libc::pthread_mutex_lock(self.get()) }, 0);
    }

    fn unlock(&self) {
        // SAFETY: see above.
        assert_eq!(unsafe { libc::pthread_mutex_unlock(self.get()) }, 0);
    }

    fn try_lock(&self) -> c_int {
        // SAFETY: see above.
        unsafe { libc::pthread_mutex_trylock(self.get()) }
    }
}

impl Cond {
    fn wait(&self, mutex: &Mutex) {
        // SAFETY: live objects.
        let answer = unsafe { libc::pthread_cond_wait(self.get(), mutex.get()) };
        assert_eq!(answer, 0);
    }

    fn signal(&self) {
        // SAFETY: see above.
        assert_eq!(unsafe { libc::pthread_cond_signal(self.get()) }, 0);
    }

    fn broadcast(&self) {
        // SAFETY: see above.
        assert_eq!(unsafe { libc::pthread_cond_broadcast(self.get()) }, 0);
    }
}

/// So long from now, by this clock.
/// A number that only a lock protects.
struct Number(UnsafeCell<usize>);

// SAFETY: the tests hold a lock around each use.
unsafe impl Sync for Number {}
// SAFETY: as above.
unsafe impl Send for Number {}

impl Number {
    /// Adds one, slowly.
    fn add(&self, slowly: bool) {
        // SAFETY: the caller holds the lock.
        let before = unsafe { self.0.get().read() };
        if slowly {
            others();
        }
        // SAFETY: as above.
        unsafe { self.0.get().write(before + 1) };
    }
}

fn count(who: Who, kind: c_int, depth: usize) {
    let shared = Arc::new((mutex(kind), Number(UnsafeCell::new(0))));
    let theirs = shared.clone();
    who.fan(6, move |_| {
        let (mutex, number) = &*theirs;
        for i in 0..200 {
            (0..depth).for_each(|_| mutex.lock());
            number.add(i % 8 == 0);
            (0..depth).for_each(|_| mutex.unlock());
        }
    });
    // SAFETY: all have ended.
    assert_eq!(unsafe { *shared.1.0.get() }, 1_200);
}

fn normal_mutex_counts(who: Who) {
    count(who, libc::PTHREAD_MUTEX_NORMAL, 1);
}

fn adaptive_mutex_counts(who: Who) {
    count(who, 3, 1);
}

/// Two coroutines of a thread are one thread to it.
fn recursive_mutex_counts(who: Who) {
    count(who, libc::PTHREAD_MUTEX_RECURSIVE, 3);
}

fn error_checking_mutex_counts(who: Who) {
    count(who, libc::PTHREAD_MUTEX_ERRORCHECK, 1);
    let mutex = mutex(libc::PTHREAD_MUTEX_ERRORCHECK);
    mutex.lock();
    // SAFETY: live objects.
    let answer = unsafe { libc::pthread_mutex_lock(mutex.get()) };
    assert_eq!(answer, libc::EDEADLK);
    mutex.unlock();
}

fn mutex_try_and_time(who: Who) {
    for kind in [libc::PTHREAD_MUTEX_NORMAL, libc::PTHREAD_MUTEX_RECURSIVE] {
        let mutex = mutex(kind);
        mutex.lock();
        let theirs = mutex.clone();
        who.fan(2, move |_| {
            assert_eq!(theirs.try_lock(), libc::EBUSY);
            let time = after(libc::CLOCK_REALTIME, SHORT);
            // SAFETY: a live mutex, a valid time.
            let answer = unsafe { libc::pthread_mutex_timedlock(theirs.get(), &time) };
            assert_eq!(answer, libc::ETIMEDOUT);
            let time = after(libc::CLOCK_MONOTONIC, SHORT);
            // SAFETY: as above.
            let answer =
                unsafe { pthread_mutex_clocklock(theirs.get(), libc::CLOCK_MONOTONIC, &time) };
            assert_eq!(answer, libc::ETIMEDOUT);
        });
        let theirs = mutex.clone();
        let gets_it = who.go(0, move || {
            let time = after(libc::CLOCK_REALTIME, LONG);
            // SAFETY: live objects.
            let answer = unsafe { libc::pthread_mutex_timedlock(theirs.get(), &time) };
            assert_eq!(answer, 0);
            theirs.unlock();
        });
        others();
        mutex.unlock();
        gets_it.join().unwrap();
    }
}

fn cond_ping_pong(who: Who) {
    let shared = Arc::new((
        mutex(libc::PTHREAD_MUTEX_NORMAL),
        cond(libc::CLOCK_REALTIME),
        Number(UnsafeCell::new(0)),
    ));
    who.fan(2, move |me| {
        let (mutex, cond, turn) = &*shared;
        for _ in 0..100 {
            mutex.lock();
            // SAFETY: under the lock.
            while unsafe { *turn.0.get() } % 2 != me {
                cond.wait(mutex);
            }
            turn.add(false);
            cond.signal();
            mutex.unlock();
        }
    });
}

fn cond_wakes_all(who: Who) {
    let shared = Arc::new((
        mutex(libc::PTHREAD_MUTEX_NORMAL),
        cond(libc::CLOCK_REALTIME),
        AtomicUsize::new(0),
        AtomicUsize::new(0),
    ));
    let waiters: Vec<_> = (0..20)
        .map(|i| {
            let shared = shared.clone();
            who.go(i, move || {
                let (mutex, cond, waiting, go) = &*shared;
                mutex.lock();
                waiting.fetch_add(1, Ordering::SeqCst);
                while go.load(Ordering::SeqCst) == 0 {
                    cond.wait(mutex);
                }
                mutex.unlock();
            })
        })
        .collect();
    while shared.2.load(Ordering::SeqCst) < 20 {
        others();
    }
    shared.0.lock();
    shared.3.store(1, Ordering::SeqCst);
    shared.1.broadcast();
    shared.0.unlock();
    waiters.into_iter().for_each(|w| w.join().unwrap());
}

fn cond_times_out(who: Who) {
    for clock in [libc::CLOCK_REALTIME, libc::CLOCK_MONOTONIC] {
        let shared = Arc::new((mutex(libc::PTHREAD_MUTEX_NORMAL), cond(clock)));
        who.fan(2, move |_| {
            let (mutex, cond) = &*shared;
            let begin = Instant::now();
            mutex.lock();
            let time = after(clock, SHORT);
            loop {
                // SAFETY: live objects, the mutex is locked.
                match unsafe { libc::pthread_cond_timedwait(cond.get(), mutex.get(), &time) } {
                    0 => {}
                    answer => break assert_eq!(answer, libc::ETIMEDOUT),
                }
            }
            assert!(begin.elapsed() >= SHORT - Duration::from_millis(1));
            let time = after(libc::CLOCK_MONOTONIC, SHORT);
            // SAFETY: as above.
            let answer = unsafe {
                pthread_cond_clockwait(cond.get(), mutex.get(), libc::CLOCK_MONOTONIC, &time)
            };
            assert!(answer == libc::ETIMEDOUT || answer == 0);
            mutex.unlock();
        });
    }
}

fn rwlock_excludes(who: Who) {
    // SAFETY: a place for it.
    let rwlock: Arc<RwLock> =
        Shared::new(|at| assert_eq!(unsafe { libc::pthread_rwlock_init(at, null()) }, 0));
    let shared = Arc::new((rwlock, AtomicUsize::new(0), AtomicUsize::new(0)));
    let theirs = shared.clone();
    // SAFETY, all: a live lock.
    who.fan(6, move |i| {
        let (rwlock, one, two) = &*theirs;
        for _ in 0..60 {
            if i < 2 {
                // SAFETY: see above.
                assert_eq!(unsafe { libc::pthread_rwlock_wrlock(rwlock.get()) }, 0);
                let seen = one.fetch_add(1, Ordering::Relaxed);
                others();
                assert_eq!(two.fetch_add(1, Ordering::Relaxed), seen);
            } else {
                // SAFETY: see above.
                assert_eq!(unsafe { libc::pthread_rwlock_rdlock(rwlock.get()) }, 0);
                others();
                assert_eq!(one.load(Ordering::Relaxed), two.load(Ordering::Relaxed));
            }
            // SAFETY: see above.
            assert_eq!(unsafe { libc::pthread_rwlock_unlock(rwlock.get()) }, 0);
        }
    });
    assert_eq!(shared.2.load(Ordering::Relaxed), 120);
    // SAFETY: see above.
    assert_eq!(unsafe { libc::pthread_rwlock_wrlock(shared.0.get()) }, 0);
    let theirs = shared.clone();
    who.fan(2, move |_| {
        let lock = theirs.0.get();
        for timed in [pthread_rwlock_timedrdlock, pthread_rwlock_timedwrlock] {
            let time = after(libc::CLOCK_REALTIME, SHORT);
            // SAFETY: see above.
            assert_eq!(unsafe { timed(lock, &time) }, libc::ETIMEDOUT);
        }
        for clocked in [pthread_rwlock_clockrdlock, pthread_rwlock_clockwrlock] {
            let (clock, time) = (libc::CLOCK_MONOTONIC, after(libc::CLOCK_MONOTONIC, SHORT));
            // SAFETY: see above.
            assert_eq!(unsafe { clocked(lock, clock, &time) }, libc::ETIMEDOUT);
        }
    });
    let readers: Vec<_> = (0..4)
        .map(|i| {
            let theirs = shared.clone();
            who.go(i, move || {
                // SAFETY: see above.
                assert_eq!(unsafe { libc::pthread_rwlock_rdlock(theirs.0.get()) }, 0);
                // All are inside at one time: each lets the next in.
                theirs.1.fetch_sub(1, Ordering::SeqCst);
                while theirs.1.load(Ordering::SeqCst) > 116 {
                    others();
                }
                // SAFETY: see above.
                assert_eq!(unsafe { libc::pthread_rwlock_unlock(theirs.0.get()) }, 0);
            })
        })
        .collect();
    others();
    // SAFETY: see above.
    assert_eq!(unsafe { libc::pthread_rwlock_unlock(shared.0.get()) }, 0);
    readers.into_iter().for_each(|r| r.join().unwrap());
}

fn semaphore(value: u32) -> Arc<Sem> {
    // SAFETY: a place for it.
    Shared::new(|at| assert_eq!(unsafe { libc::sem_init(at, 0, value) }, 0))
}

fn semaphores_take_turns(who: Who) {
    let sems = Arc::new([semaphore(1), semaphore(0)]);
    let theirs = sems.clone();
    who.fan(2, move |me| {
        for _ in 0..100 {
            // SAFETY: live semaphores.
            unsafe {
                assert_eq!(libc::sem_wait(theirs[me].get()), 0);
                assert_eq!(libc::sem_post(theirs[1 - me].get()), 0);
            }
        }
    });
    who.fan(2, move |_| {
        let time = after(libc::CLOCK_REALTIME, SHORT);
        // SAFETY: as above.
        let answer = unsafe { libc::sem_timedwait(sems[1].get(), &time) };
        let error = std::io::Error::last_os_error();
        assert_eq!((answer, error.raw_os_error()), (-1, Some(libc::ETIMEDOUT)));
        let time = after(libc::CLOCK_MONOTONIC, SHORT);
        // SAFETY: as above.
        let answer = unsafe { sem_clockwait(sems[1].get(), libc::CLOCK_MONOTONIC, &time) };
        let error = std::io::Error::last_os_error();
        assert_eq!((answer, error.raw_os_error()), (-1, Some(libc::ETIMEDOUT)));
    });
}

fn semaphore_bounds(who: Who) {
    let shared = Arc::new((semaphore(3), AtomicUsize::new(0)));
    who.fan(12, move |_| {
        for _ in 0..20 {
            // SAFETY: a live semaphore.
            assert_eq!(unsafe { libc::sem_wait(shared.0.get()) }, 0);
            assert!(shared.1.fetch_add(1, Ordering::SeqCst) < 3);
            others();
            shared.1.fetch_sub(1, Ordering::SeqCst);
            // SAFETY: as above.
            assert_eq!(unsafe { libc::sem_post(shared.0.get()) }, 0);
        }
    });
}

/// Locks of this process alone are let go of by calls that we see, so nobody who waits for
/// one looks at it now and then: a thousand idle threads cost nothing.
#[test]
fn who_waits_for_a_private_lock_is_left_alone() {
    crore::run(|| {
        let sem = semaphore(0);
        // SAFETY: a place for it.
        let lock: Arc<RwLock> = Shared::new(|at| unsafe {
            assert_eq!(libc::pthread_rwlock_init(at, null()), 0);
            assert_eq!(libc::pthread_rwlock_wrlock(at), 0);
        });
        let (their_sem, their_lock) = (sem.clone(), lock.clone());
        // SAFETY: live locks, here and below.
        let waits = [
            crore::spawn(move || unsafe { libc::sem_wait(their_sem.get()) }),
            crore::spawn(move || unsafe { libc::pthread_rwlock_rdlock(their_lock.get()) }),
        ];
        others();
        let resumed = || crore::Handle::current().unwrap().metrics().resumed;
        let before = resumed();
        crore::sleep(Duration::from_millis(300));
        assert!(
            resumed() - before <= 2,
            "resumed {} times",
            resumed() - before
        );
        // SAFETY: see above.
        unsafe {
            assert_eq!(libc::sem_post(sem.get()), 0);
            assert_eq!(libc::pthread_rwlock_unlock(lock.get()), 0);
        }
        waits
            .into_iter()
            .for_each(|wait| assert_eq!(wait.join().unwrap(), 0));
    })
    .unwrap();
}

/// Another process's post is not seen.
#[test]
fn another_process_posts() {
    crore::run(|| {
        let all = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        let may = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a fresh page for a semaphore; the child makes two calls that handlers may.
        unsafe {
            let page = libc::mmap(std::ptr::null_mut(), 4096, may, all, -1, 0);
            assert_ne!(page, libc::MAP_FAILED);
            let sem = page.cast::<libc::sem_t>();
            assert_eq!(libc::sem_init(sem, 1, 0), 0);
            let child = libc::fork();
            if child == 0 {
                libc::usleep(50_000);
                libc::sem_post(sem);
                libc::_exit(0);
            }
            assert_eq!(libc::sem_wait(sem), 0);
            assert_eq!(libc::waitpid(child, std::ptr::null_mut(), 0), child);
        }
    })
    .unwrap();
}

locks!(
    normal_mutex_counts,
    adaptive_mutex_counts,
    recursive_mutex_counts,
    error_checking_mutex_counts,
    mutex_try_and_time,
    cond_ping_pong,
    cond_wakes_all,
    cond_times_out,
    rwlock_excludes,
    semaphores_take_turns,
    semaphore_bounds,
);

#[test]
fn a_spin_lock_that_a_suspended_coroutine_holds() {
    struct Spin(std::cell::UnsafeCell<libc::pthread_spinlock_t>);
    // SAFETY: used by the lock's functions only.
    unsafe impl Sync for Spin {}
    static LOCK: Spin = Spin(std::cell::UnsafeCell::new(0));
    crore::run(|| {
        // SAFETY: a lock that lives for ever.
        let lock = || unsafe { libc::pthread_spin_lock(LOCK.0.get()) };
        // SAFETY: as above.
        let unlock = || unsafe { libc::pthread_spin_unlock(LOCK.0.get()) };
        // SAFETY: before it is used.
        unsafe { libc::pthread_spin_init(LOCK.0.get(), libc::PTHREAD_PROCESS_PRIVATE) };
        assert_eq!(lock(), 0);
        let other = crore::spawn(move || (lock(), unlock()));
        for _ in 0..3 {
            crore::sleep(std::time::Duration::from_millis(1));
        }
        unlock();
        assert_eq!(other.join().unwrap(), (0, 0));
    })
    .unwrap();
}

unsafe extern "C" {
    fn __pthread_mutex_lock(lock: *mut libc::pthread_mutex_t) -> c_int;
    fn __pthread_mutex_trylock(lock: *mut libc::pthread_mutex_t) -> c_int;
    fn __pthread_mutex_unlock(lock: *mut libc::pthread_mutex_t) -> c_int;
    fn __pthread_rwlock_rdlock(lock: *mut libc::pthread_rwlock_t) -> c_int;
    fn __pthread_rwlock_wrlock(lock: *mut libc::pthread_rwlock_t) -> c_int;
    fn __pthread_rwlock_unlock(lock: *mut libc::pthread_rwlock_t) -> c_int;
    fn __pthread_once(once: *mut libc::pthread_once_t, init: extern "C" fn()) -> c_int;
}

#[test]
fn the_names_that_old_programs_call() {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    extern "C" fn count() {
        std::thread::sleep(SHORT);
        COUNT.fetch_add(1, Ordering::SeqCst);
    }
    struct Locks {
        mutex: UnsafeCell<libc::pthread_mutex_t>,
        rwlock: UnsafeCell<libc::pthread_rwlock_t>,
        once: UnsafeCell<libc::pthread_once_t>,
    }
    // SAFETY: used by their functions only.
    unsafe impl Sync for Locks {}
    static LOCKS: Locks = Locks {
        mutex: UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER),
        rwlock: UnsafeCell::new(libc::PTHREAD_RWLOCK_INITIALIZER),
        once: UnsafeCell::new(0),
    };
    let user = || {
        let (mutex, rwlock) = (LOCKS.mutex.get(), LOCKS.rwlock.get());
        // SAFETY: locks that live for ever.
        unsafe {
            assert_eq!(__pthread_mutex_lock(mutex), 0);
            assert_eq!(__pthread_mutex_trylock(mutex), libc::EBUSY);
            assert_eq!(__pthread_rwlock_wrlock(rwlock), 0);
            std::thread::sleep(SHORT);
            assert_eq!(__pthread_rwlock_unlock(rwlock), 0);
            assert_eq!(__pthread_rwlock_rdlock(rwlock), 0);
            assert_eq!(__pthread_once(LOCKS.once.get(), count), 0);
            assert_eq!(__pthread_rwlock_unlock(rwlock), 0);
            assert_eq!(__pthread_mutex_unlock(mutex), 0);
        }
    };
    crore::run(move || {
        let all = [0; 5].map(|_| crore::spawn(user));
        all.into_iter().for_each(|one| one.join().unwrap());
    })
    .unwrap();
    assert_eq!(COUNT.load(Ordering::SeqCst), 1);
}
