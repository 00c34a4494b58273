//! The promise: `park`, `unpark` and `sleep` keep `std::thread`'s semantics.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crore::{Builder, CoroutineId, Runtime};

const MS: Duration = Duration::from_millis(1);

/// As good as for ever, and no test waits for it.
const LONG: Duration = Duration::from_secs(3600);

#[test]
fn an_unpark_before_the_park_counts() {
    crore::run(|| {
        crore::current().unpark();
        crore::park();

        let handle = crore::spawn(crore::park);
        handle.coroutine().unpark(); // before it first runs
        handle.join().unwrap();
    })
    .unwrap();
}

#[test]
fn several_unparks_are_one_token() {
    crore::run(|| {
        let passed = Rc::new(Cell::new(0));
        let theirs = Rc::clone(&passed);
        let handle = crore::spawn_local(move || {
            for _ in 0..2 {
                crore::park();
                theirs.set(theirs.get() + 1);
            }
        });
        (0..5).for_each(|_| handle.coroutine().unpark());
        (0..5).for_each(|_| crore::yield_now());
        assert_eq!(passed.get(), 1, "five unparks, one token");
        (0..5).for_each(|_| handle.coroutine().unpark());
        handle.join().unwrap();
        assert_eq!(passed.get(), 2);
    })
    .unwrap();
}

#[test]
fn a_token_outlasts_other_waits() {
    crore::run(|| {
        let handle = crore::spawn(|| {
            crore::yield_now();
            crore::sleep(MS);
            crore::spawn(crore::yield_now).join().unwrap();
            crore::park();
        });
        crore::yield_now();
        handle.coroutine().unpark();
        handle.join().unwrap();
    })
    .unwrap();
}

#[test]
fn other_wake_ups_do_not_end_a_park() {
    crore::run(|| {
        let waker = Rc::new(RefCell::new(None));
        let theirs = Rc::clone(&waker);
        let passed = Rc::new(Cell::new(false));
        let flag = Rc::clone(&passed);
        let handle = crore::spawn_local(move || {
            crore::block_on(async {
                let here = std::future::poll_fn(|cx| std::task::Poll::Ready(cx.waker().clone()));
                *theirs.borrow_mut() = Some(here.await);
            });
            crore::park();
            flag.set(true);
        });
        crore::yield_now();
        for _ in 0..10 {
            let waker = waker.borrow().clone().unwrap();
            waker.wake();
            crore::yield_now();
        }
        assert!(!passed.get(), "park is never spurious");
        handle.coroutine().unpark();
        handle.join().unwrap();
    })
    .unwrap();
}

#[test]
fn ping_pong_by_id_and_by_handle() {
    crore::run(|| {
        let main = crore::current().id();
        let count = Rc::new(Cell::new(0u32));
        let theirs = Rc::clone(&count);
        let ponger = crore::spawn_local(move || {
            for _ in 0..1000 {
                crore::park();
                theirs.set(theirs.get() + 1);
                main.unpark();
            }
        });
        let coroutine = ponger.coroutine();
        for i in 0..1000 {
            assert_eq!(count.get(), i);
            if i % 2 == 0 {
                coroutine.unpark()
            } else {
                coroutine.id().unpark()
            }
            crore::park();
        }
        ponger.join().unwrap();
    })
    .unwrap();
}

#[test]
fn a_plain_thread_unparks_and_what_it_wrote_is_seen() {
    crore::run(|| {
        let value = Arc::new(AtomicU32::new(0));
        for round in 1..=200 {
            let (theirs, me) = (Arc::clone(&value), crore::current());
            let thread = thread::spawn(move || {
                theirs.store(round, Relaxed);
                me.unpark();
            });
            crore::park();
            assert_eq!(value.load(Relaxed), round);
            thread.join().unwrap();
        }
    })
    .unwrap();
}

#[test]
fn an_unpark_does_not_overtake_a_spawn_from_outside() {
    let runtime = Runtime::builder().build().unwrap();
    let handle = runtime.handle();
    runtime
        .run(|| {
            for _ in 0..100 {
                // Its worker has not read of it when we unpark it from there.
                let parked = handle.spawn(crore::park);
                parked.coroutine().unpark();
                parked.join().unwrap();

                let cancelled = handle.spawn(crore::park);
                cancelled.coroutine().cancel();
                assert!(cancelled.join().unwrap_err().is_cancelled());
            }
        })
        .unwrap();
}

#[test]
fn stale_ids_do_nothing() {
    let kept = crore::run(|| {
        let stale: Vec<CoroutineId> = (0..1000)
            .map(|_| {
                let handle = crore::spawn(|| ());
                let id = handle.coroutine().id();
                handle.join().unwrap();
                id
            })
            .collect();
        let passed = Rc::new(Cell::new(false));
        let flag = Rc::clone(&passed);
        // It lives where they did.
        let parked = crore::spawn_local(move || {
            crore::park();
            flag.set(true);
        });
        crore::yield_now();
        for id in &stale {
            id.unpark();
            id.cancel();
        }
        let theirs = stale.clone();
        thread::spawn(move || theirs.iter().for_each(|id| id.unpark()))
            .join()
            .unwrap();
        crore::sleep(MS); // so that the inbox is read
        assert!(!passed.get() && !parked.is_finished());
        parked.coroutine().unpark();
        parked.join().unwrap();
        stale
    })
    .unwrap();
    // After the runtime is gone, and while another one is in its place.
    kept.iter().for_each(|id| id.unpark());
    crore::run(|| {
        let parked = crore::spawn(|| {
            let start = Instant::now();
            crore::park_timeout(20 * MS);
            start.elapsed()
        });
        crore::yield_now();
        kept.iter().for_each(|id| id.unpark());
        kept.iter().for_each(|id| id.cancel());
        let took = parked.join().unwrap();
        assert!(took >= 20 * MS, "somebody else's unpark ended it");
    })
    .unwrap();
}

#[test]
fn park_timeout_ends_by_either() {
    crore::run(|| {
        let start = Instant::now();
        crore::park_timeout(3 * MS);
        assert!(start.elapsed() >= 3 * MS);

        crore::current().unpark();
        crore::park_timeout(LONG); // takes the token
        crore::park_timeout(Duration::ZERO); // finds none

        let sleeper = crore::spawn(|| crore::park_timeout(LONG));
        let forever = crore::spawn(|| crore::park_timeout(Duration::MAX));
        crore::yield_now();
        sleeper.coroutine().unpark();
        forever.coroutine().unpark();
        sleeper.join().unwrap();
        forever.join().unwrap();
    })
    .unwrap();
}

#[test]
fn sleep_is_never_early() {
    crore::run(|| {
        for micros in [0, 1, 65, 66, 500, 1000, 5000, 20_000] {
            let duration = Duration::from_micros(micros);
            let start = Instant::now();
            crore::sleep(duration);
            assert!(start.elapsed() >= duration, "{duration:?}");
        }
        crore::sleep_until(Instant::now());
        let past = Instant::now() - MS;
        crore::sleep_until(past);
    })
    .unwrap();
}

#[test]
fn a_sleep_beyond_the_clock_s_end_can_be_cancelled() {
    crore::run(|| {
        let all: Vec<_> = [Duration::MAX, Duration::MAX / 2, LONG * 24 * 365 * 1000]
            .into_iter()
            .map(|duration| crore::spawn(move || crore::sleep(duration)))
            .collect();
        crore::sleep(MS);
        for handle in all {
            assert!(!handle.is_finished());
            handle.cancel();
            assert!(handle.join().unwrap_err().is_cancelled());
        }
    })
    .unwrap();
}

/// The steps in which ten thousand sleepers woke, or `None` if this machine
/// was too slow to put them all to sleep before the first had to wake.
fn steps_in_order_of_waking(lead: Duration) -> Option<Vec<u32>> {
    const SLEEPERS: u32 = 10_000;
    let order = Rc::new(RefCell::new(Vec::new()));
    let start = Instant::now() + lead;
    let all: Vec<_> = (0..SLEEPERS)
        .map(|i| {
            // All of 0..1000, ten times each, well mixed: 377 is prime to it.
            let step = i * 377 % 1000;
            let order = Rc::clone(&order);
            let builder = Builder::new().stack_size(32 * 1024);
            builder.spawn_local(move || {
                // A tick is 65.5 µs: every step has a tick of its own.
                let deadline = start + step * MS / 8;
                crore::sleep_until(deadline);
                assert!(Instant::now() >= deadline);
                order.borrow_mut().push(step);
            })
        })
        .collect::<Result<_, _>>()
        .unwrap();
    crore::yield_now(); // all of them run, and sleep
    let in_time = Instant::now() < start;
    for handle in all {
        handle.join().unwrap();
    }
    assert_eq!(order.borrow().len(), SLEEPERS as usize);
    in_time.then(|| order.take())
}

#[test]
fn ten_thousand_sleepers_wake_in_the_order_of_their_deadlines() {
    crore::run(|| {
        let order = (0..10).find_map(|i| steps_in_order_of_waking((50 << i) * MS));
        let order = order.expect("half a minute is enough to start ten thousand coroutines");
        let wrong = order.windows(2).position(|pair| pair[0] > pair[1]);
        assert_eq!(wrong.map(|at| (at, &order[at..at + 2])), None);
    })
    .unwrap();
}

#[test]
fn cancelled_timers_leave_nothing_behind() {
    crore::run(|| {
        let (send, receive) = mpsc::channel();
        let handle = crore::spawn(move || {
            for _ in 0..10_000 {
                crore::current().unpark();
                crore::park_timeout(MS);
            }
            let start = Instant::now();
            // None of the ten thousand timers wakes this one.
            crore::park_timeout(10 * MS);
            send.send(start.elapsed()).unwrap();
        });
        handle.join().unwrap();
        assert!(receive.recv().unwrap() >= 10 * MS);
    })
    .unwrap();
}
