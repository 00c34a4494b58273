//! Promise: what C does once, where threads meet, and the locks of C11 park
//! coroutines.
#![cfg(all(
    feature = "futex",
    target_env = "gnu",
    not(target_feature = "crt-static")
))]

use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::panic::catch_unwind;
use std::ptr::{null, null_mut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::common::glibc_is;
use crate::locks_common::{Who, after, others, timespec as time};
use libc::{c_int, clockid_t, pthread_cond_t, pthread_mutex_t, pthread_t, timespec};

const SHORT: Duration = Duration::from_millis(2);

/// What C11's functions say, by glibc's `threads.h`.
const SUCCESS: c_int = 0;
const BUSY: c_int = 1;
const TIMED_OUT: c_int = 4;
const RECURSIVE: c_int = 1;

unsafe extern "C" {
    fn mtx_init(mutex: *mut pthread_mutex_t, kind: c_int) -> c_int;
    fn mtx_lock(mutex: *mut pthread_mutex_t) -> c_int;
    fn mtx_trylock(mutex: *mut pthread_mutex_t) -> c_int;
    fn mtx_timedlock(mutex: *mut pthread_mutex_t, time: *const timespec) -> c_int;
    fn mtx_unlock(mutex: *mut pthread_mutex_t) -> c_int;
    fn cnd_init(cond: *mut pthread_cond_t) -> c_int;
    fn cnd_wait(cond: *mut pthread_cond_t, mutex: *mut pthread_mutex_t) -> c_int;
    fn cnd_timedwait(
        cond: *mut pthread_cond_t,
        mutex: *mut pthread_mutex_t,
        time: *const timespec,
    ) -> c_int;
    fn cnd_signal(cond: *mut pthread_cond_t) -> c_int;
    fn cnd_broadcast(cond: *mut pthread_cond_t) -> c_int;
    fn thrd_create(
        thread: *mut pthread_t,
        run: unsafe extern "C" fn(*mut c_void) -> c_int,
        with: *mut c_void,
    ) -> c_int;
    fn thrd_join(thread: pthread_t, value: *mut c_int) -> c_int;
    fn thrd_sleep(time: *const timespec, left: *mut timespec) -> c_int;
    fn thrd_yield();
    fn pthread_timedjoin_np(
        thread: pthread_t,
        value: *mut *mut c_void,
        time: *const timespec,
    ) -> c_int;
    fn pthread_clockjoin_np(
        thread: pthread_t,
        value: *mut *mut c_void,
        clock: clockid_t,
        time: *const timespec,
    ) -> c_int;
}

type Init = unsafe extern "C-unwind" fn();

unsafe extern "C-unwind" {
    fn pthread_once(control: *mut c_int, init: Init) -> c_int;
    fn call_once(flag: *mut c_int, init: Init);
}

/// What an init routine, which has no arguments, works with. One for each run
/// of a body, found by the tests' own lock around each use of it.
struct Once {
    flag: AtomicI32,
    callers: AtomicUsize,
    ran: AtomicUsize,
    fails: AtomicUsize,
}

static LATEST: std::sync::Mutex<Option<Arc<Once>>> = std::sync::Mutex::new(None);

/// Runs `body` with an init routine's state of its own.
fn with_once(fails: usize, body: impl FnOnce(Arc<Once>)) {
    /// One body at a time.
    static TURN: AtomicBool = AtomicBool::new(false);
    while TURN.swap(true, Ordering::Acquire) {
        others();
    }
    let once = Arc::new(Once {
        flag: AtomicI32::new(0),
        callers: AtomicUsize::new(0),
        ran: AtomicUsize::new(0),
        fails: AtomicUsize::new(fails),
    });
    *LATEST.lock().unwrap() = Some(once.clone());
    body(once);
    TURN.store(false, Ordering::Release);
}

const CALLERS: usize = 6;

/// Waits until everybody has come, so all but one are about to wait for it.
unsafe extern "C-unwind" fn slow_init() {
    let once = LATEST.lock().unwrap().clone().unwrap();
    while once.callers.load(Ordering::SeqCst) < CALLERS {
        others();
    }
    // They are in the call, as far as anybody can know.
    (0..20).for_each(|_| others());
    let fails = once.fails.load(Ordering::SeqCst);
    if fails > 0 {
        once.fails.store(fails - 1, Ordering::SeqCst);
        panic!("this init fails");
    }
    once.ran.fetch_add(1, Ordering::SeqCst);
}

fn pthread_once_runs_once(who: Who) {
    with_once(0, |once| {
        who.fan(CALLERS, move |_| {
            once.callers.fetch_add(1, Ordering::SeqCst);
            for _ in 0..2 {
                // SAFETY: a control word.
                assert_eq!(unsafe { pthread_once(once.flag.as_ptr(), slow_init) }, 0);
                assert_eq!(once.ran.load(Ordering::SeqCst), 1);
            }
        });
    });
}

fn call_once_runs_once(who: Who) {
    with_once(0, |once| {
        who.fan(CALLERS, move |_| {
            once.callers.fetch_add(1, Ordering::SeqCst);
            // SAFETY: a flag.
            unsafe { call_once(once.flag.as_ptr(), slow_init) };
            assert_eq!(once.ran.load(Ordering::SeqCst), 1);
        });
    });
}

/// As of a C++ `std::call_once` whose function throws: the next one tries.
fn an_init_that_unwinds_was_none(who: Who) {
    // (Its bug 18435.)
    let hangs = "never ends the init of a plain thread that unwinds";
    if matches!(who, Who::Mixed) && !glibc_is(34, hangs) {
        return;
    }
    with_once(2, |once| {
        let unwound = Arc::new(AtomicUsize::new(0));
        let theirs = unwound.clone();
        who.fan(CALLERS, move |_| {
            once.callers.fetch_add(1, Ordering::SeqCst);
            // SAFETY: a control word.
            let call = || unsafe { pthread_once(once.flag.as_ptr(), slow_init) };
            while catch_unwind(std::panic::AssertUnwindSafe(call)).is_err() {
                theirs.fetch_add(1, Ordering::SeqCst);
            }
            assert_eq!(once.ran.load(Ordering::SeqCst), 1);
        });
        assert_eq!(unwound.load(Ordering::SeqCst), 2);
    });
}

/// An object of C, on the heap, for all.
struct Shared<T>(UnsafeCell<MaybeUninit<T>>);

// SAFETY: what C functions lock by themselves.
unsafe impl<T> Sync for Shared<T> {}
// SAFETY: as above.
unsafe impl<T> Send for Shared<T> {}

impl<T> Shared<T> {
    fn new(init: impl FnOnce(*mut T) -> c_int) -> Arc<Self> {
        let this = Arc::new(Self(UnsafeCell::new(MaybeUninit::uninit())));
        assert_eq!(init(this.get()), 0);
        this
    }

    fn get(&self) -> *mut T {
        self.0.get().cast()
    }
}

type Barrier = Shared<libc::pthread_barrier_t>;

fn barrier(count: u32) -> Arc<Barrier> {
    // SAFETY: a place for it.
    Shared::new(|at| unsafe { libc::pthread_barrier_init(at, null(), count) })
}

// SAFETY, here and below: live objects that were initialised.
impl Barrier {
    /// Whether this was the one of its round.
    fn wait(&self) -> bool {
        // SAFETY: see above.
        match unsafe { libc::pthread_barrier_wait(self.get()) } {
            libc::PTHREAD_BARRIER_SERIAL_THREAD => true,
            answer => {
                assert_eq!(answer, 0);
                false
            }
        }
    }
}

fn barrier_keeps_all_in_step(who: Who) {
    const ROUNDS: usize = 60;
    let shared = Arc::new((barrier(6), AtomicUsize::new(0)));
    let ones = who.fan(6, move |_| {
        let mut ones = 0;
        for round in 0..ROUNDS {
            shared.1.fetch_add(1, Ordering::SeqCst);
            ones += usize::from(shared.0.wait());
            // All have come, and nobody is in the round after the next.
            let come = shared.1.load(Ordering::SeqCst);
            assert!(come >= 6 * (round + 1) && come <= 6 * (round + 2));
        }
        ones
    });
    assert_eq!(ones.into_iter().sum::<usize>(), ROUNDS);
}

/// More use it than a round has room for.
fn barrier_counts_everybody_in_one_round(who: Who) {
    let shared = Arc::new((barrier(3), AtomicUsize::new(0)));
    let ones = who.fan(7, move |_| {
        let mut ones = 0;
        while shared.1.fetch_add(1, Ordering::SeqCst) < 300 {
            ones += usize::from(shared.0.wait());
        }
        ones
    });
    assert_eq!(ones.into_iter().sum::<usize>(), 100);
}

/// Whoever is the one of the round may destroy it and write over its place.
fn barrier_is_destroyed_at_once(who: Who) {
    let barriers: Arc<Vec<_>> = Arc::new((0..40).map(|_| barrier(4)).collect());
    who.fan(4, move |_| {
        for barrier in barriers.iter() {
            if barrier.wait() {
                // SAFETY: nobody comes any more; it is ours once all have left.
                unsafe {
                    assert_eq!(libc::pthread_barrier_destroy(barrier.get()), 0);
                    barrier
                        .get()
                        .cast::<u8>()
                        .write_bytes(0xff, size_of::<libc::pthread_barrier_t>());
                }
            }
        }
    });
}

fn barrier_of_processes_is_libcs(_: Who) {
    let mut attributes = MaybeUninit::uninit();
    // SAFETY: places for what is made.
    let shared = Shared::new(|at| unsafe {
        libc::pthread_barrierattr_init(attributes.as_mut_ptr());
        let all = libc::PTHREAD_PROCESS_SHARED;
        assert_eq!(
            libc::pthread_barrierattr_setpshared(attributes.as_mut_ptr(), all),
            0
        );
        assert_eq!(
            libc::pthread_barrier_init(at, attributes.as_ptr(), 0),
            libc::EINVAL
        );
        libc::pthread_barrier_init(at, attributes.as_ptr(), 1)
    });
    assert!(shared.wait() && shared.wait());
    // SAFETY: nobody uses it any more.
    assert_eq!(unsafe { libc::pthread_barrier_destroy(shared.get()) }, 0);
}

/// A C11 mutex, a condition variable, and a number that the first protects.
struct Eleven {
    mutex: Arc<Shared<pthread_mutex_t>>,
    cond: Arc<Shared<pthread_cond_t>>,
    number: UnsafeCell<usize>,
}

// SAFETY: the tests hold the mutex around each use of the number.
unsafe impl Sync for Eleven {}
// SAFETY: as above.
unsafe impl Send for Eleven {}

impl Eleven {
    fn new(kind: c_int) -> Arc<Self> {
        Arc::new(Self {
            // SAFETY: places for them.
            mutex: Shared::new(|at| unsafe { mtx_init(at, kind) }),
            // SAFETY: as above.
            cond: Shared::new(|at| unsafe { cnd_init(at) }),
            number: UnsafeCell::new(0),
        })
    }

    fn lock(&self) {
        // SAFETY: see above.
        assert_eq!(unsafe { mtx_lock(self.mutex.get()) }, SUCCESS);
    }

    fn unlock(&self) {
        // SAFETY: see above.
        assert_eq!(unsafe { mtx_unlock(self.mutex.get()) }, SUCCESS);
    }

    fn number(&self) -> usize {
        // SAFETY: the caller holds the mutex.
        unsafe { *self.number.get() }
    }

    fn set(&self, number: usize) {
        // SAFETY: the caller holds the mutex.
        unsafe { *self.number.get() = number };
    }
}

fn c11_mutex_counts(who: Who) {
    for (kind, depth) in [(0, 1), (RECURSIVE, 3)] {
        let shared = Eleven::new(kind);
        let theirs = shared.clone();
        who.fan(6, move |_| {
            for i in 0..100 {
                (0..depth).for_each(|_| theirs.lock());
                let number = theirs.number();
                if i % 8 == 0 {
                    others();
                }
                theirs.set(number + 1);
                (0..depth).for_each(|_| theirs.unlock());
            }
        });
        shared.lock();
        assert_eq!(shared.number(), 600);
        let theirs = shared.clone();
        who.fan(2, move |_| {
            // SAFETY: see above.
            assert_eq!(unsafe { mtx_trylock(theirs.mutex.get()) }, BUSY);
            let time = after(libc::CLOCK_REALTIME, SHORT);
            // SAFETY: as above, and a valid time.
            let answer = unsafe { mtx_timedlock(theirs.mutex.get(), &time) };
            assert_eq!(answer, TIMED_OUT);
        });
        shared.unlock();
    }
}

fn c11_condition_variable_wakes(who: Who) {
    let shared = Eleven::new(0);
    let theirs = shared.clone();
    who.fan(4, move |me| {
        for _ in 0..50 {
            theirs.lock();
            while theirs.number() % 4 != me {
                // SAFETY: see above; the mutex is locked.
                let answer = unsafe { cnd_wait(theirs.cond.get(), theirs.mutex.get()) };
                assert_eq!(answer, SUCCESS);
            }
            theirs.set(theirs.number() + 1);
            // SAFETY: see above.
            assert_eq!(unsafe { cnd_broadcast(theirs.cond.get()) }, SUCCESS);
            theirs.unlock();
        }
    });
    let theirs = shared.clone();
    who.fan(2, move |_| {
        theirs.lock();
        let time = after(libc::CLOCK_REALTIME, SHORT);
        loop {
            // SAFETY: as above, and a valid time.
            match unsafe { cnd_timedwait(theirs.cond.get(), theirs.mutex.get(), &time) } {
                SUCCESS => {}
                answer => break assert_eq!(answer, TIMED_OUT),
            }
        }
        theirs.unlock();
    });
    let theirs = shared.clone();
    let waiter = who.go(0, move || {
        theirs.lock();
        while theirs.number() != 0 {
            // SAFETY: as above.
            let answer = unsafe { cnd_wait(theirs.cond.get(), theirs.mutex.get()) };
            assert_eq!(answer, SUCCESS);
        }
        theirs.unlock();
    });
    others();
    shared.lock();
    shared.set(0);
    // SAFETY: see above.
    assert_eq!(unsafe { cnd_signal(shared.cond.get()) }, SUCCESS);
    shared.unlock();
    waiter.join().unwrap();
}

/// Others of its thread run while one sleeps, yields, or joins a thread.
fn c11_threads_sleep_yield_and_join(who: Who) {
    unsafe extern "C" fn wait_for(flag: *mut c_void) -> c_int {
        // SAFETY: the test's flag, which lives until this thread has ended.
        let flag = unsafe { &*flag.cast::<AtomicBool>() };
        while !flag.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        -7
    }
    let flag = Arc::new(AtomicBool::new(false));
    let timed_out = Arc::new(AtomicBool::new(false));
    let (theirs, tells) = (flag.clone(), timed_out.clone());
    let joins = who.go(0, move || {
        let mut thread = MaybeUninit::uninit();
        let mut value = 0;
        let at = Arc::as_ptr(&theirs).cast_mut().cast();
        // SAFETY: places for the thread and its value; the flag outlives it.
        unsafe {
            assert_eq!(thrd_create(thread.as_mut_ptr(), wait_for, at), SUCCESS);
            let thread = thread.assume_init();
            let soon = after(libc::CLOCK_REALTIME, SHORT);
            let answer = pthread_timedjoin_np(thread, null_mut(), &soon);
            assert_eq!(answer, libc::ETIMEDOUT);
            let clock = libc::CLOCK_MONOTONIC;
            let answer = pthread_clockjoin_np(thread, null_mut(), clock, &after(clock, SHORT));
            assert_eq!(answer, libc::ETIMEDOUT);
            tells.store(true, Ordering::SeqCst);
            assert_eq!(thrd_join(thread, &mut value), SUCCESS);
        }
        value
    });
    let opens = who.go(1, move || {
        let begin = Instant::now();
        // SAFETY: a valid time; no preconditions.
        unsafe {
            assert_eq!(thrd_sleep(&time(5 * SHORT), null_mut()), 0);
            assert!(thrd_sleep(&time(Duration::ZERO), null_mut()) == 0);
            let wrong = timespec {
                tv_sec: 0,
                tv_nsec: -1,
            };
            assert!(thrd_sleep(&wrong, null_mut()) < -1);
            thrd_yield();
        }
        assert!(begin.elapsed() >= 5 * SHORT);
        while !timed_out.load(Ordering::SeqCst) {
            others();
        }
        flag.store(true, Ordering::SeqCst);
    });
    opens.join().unwrap();
    assert_eq!(joins.join(), Some(-7));
}

locks!(
    pthread_once_runs_once,
    call_once_runs_once,
    an_init_that_unwinds_was_none,
    barrier_keeps_all_in_step,
    barrier_counts_everybody_in_one_round,
    barrier_is_destroyed_at_once,
    barrier_of_processes_is_libcs,
    c11_mutex_counts,
    c11_condition_variable_wakes,
    c11_threads_sleep_yield_and_join,
);
