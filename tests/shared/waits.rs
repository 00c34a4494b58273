//! Everything of crore that waits works from shared coroutines.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use crore::{Builder, JoinHandle, Runtime};

fn shared<T: 'static>(f: impl FnOnce() -> T + 'static) -> JoinHandle<T> {
    // SAFETY: the tests below hand out no references to locals.
    unsafe { crore::spawn_shared(f) }
}

fn run<T>(f: impl FnOnce() -> T) -> T {
    let runtime = Runtime::builder().shared_stacks(1, 1 << 20).build();
    runtime.unwrap().run(f).unwrap()
}

#[test]
fn join_and_spawn_from_shared_ones() {
    fn tree(depth: u32) -> u64 {
        if depth == 0 {
            return 1;
        }
        let left = shared(move || tree(depth - 1));
        let right = crore::spawn(move || tree(depth - 1));
        left.join().unwrap() + right.join().unwrap()
    }
    assert_eq!(run(|| shared(|| tree(7)).join().unwrap()), 128);
}

#[test]
fn sleeps_end_in_their_order_and_not_before() {
    /// The order of waking, or `None` if this machine was too slow to put
    /// them all to sleep before the first had to wake.
    fn order_of_waking(unit: Duration) -> Option<Vec<u32>> {
        let order = Rc::new(RefCell::new(Vec::new()));
        let start = Instant::now();
        let all: Vec<_> = [3, 1, 2]
            .map(|units| {
                let order = Rc::clone(&order);
                shared(move || {
                    crore::sleep_until(start + unit * units);
                    assert!(start.elapsed() >= unit * units);
                    order.borrow_mut().push(units);
                })
            })
            .into();
        crore::yield_now(); // all of them run, and sleep
        let in_time = start.elapsed() < unit;
        all.into_iter().for_each(|handle| handle.join().unwrap());
        in_time.then(|| order.take())
    }
    run(|| {
        let order = (0..10).find_map(|i| order_of_waking(Duration::from_millis(10 << i)));
        assert_eq!(order.expect("five seconds are enough"), [1, 2, 3]);
    });
}

#[test]
fn park_timeout_ends_by_time_or_by_token() {
    run(|| {
        let late = shared(|| {
            let start = Instant::now();
            crore::park_timeout(Duration::from_millis(5));
            start.elapsed()
        });
        let woken = shared(|| {
            let start = Instant::now();
            crore::park_timeout(Duration::from_secs(1000));
            start.elapsed()
        });
        crore::yield_now();
        woken.coroutine().unpark();
        assert!(woken.join().unwrap() < Duration::from_secs(100));
        assert!(late.join().unwrap() >= Duration::from_millis(5));
    });
}

#[test]
fn another_thread_unparks() {
    run(|| {
        let sleeper = shared(|| {
            let local = [8_u64; 20];
            let here = &local;
            crore::park();
            here.iter().sum::<u64>()
        });
        // Others use the stack meanwhile.
        (0..10).for_each(|_| shared(crore::yield_now).join().unwrap());
        let coroutine = sleeper.coroutine();
        thread::spawn(move || coroutine.unpark());
        assert_eq!(sleeper.join().unwrap(), 160);
    });
}

/// Whoever completes it writes to where it was polled: only right if that is
/// on the heap.
struct SelfRegistered {
    registry: Rc<Cell<*const SelfRegistered>>,
    value: Cell<u64>,
    waker: RefCell<Option<Waker>>,
    _pinned: std::marker::PhantomPinned,
}

impl Future for SelfRegistered {
    type Output = u64;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<u64> {
        if self.value.get() != 0 {
            return Poll::Ready(self.value.get());
        }
        self.registry.set(&raw const *self);
        self.waker.replace(Some(cx.waker().clone()));
        Poll::Pending
    }
}

#[test]
fn block_on_pins_its_future_on_the_heap() {
    run(|| {
        let registry = Rc::new(Cell::new(std::ptr::null()));
        let waiter = shared({
            let registry = Rc::clone(&registry);
            move || {
                crore::block_on(SelfRegistered {
                    registry,
                    value: Cell::new(0),
                    waker: RefCell::default(),
                    _pinned: std::marker::PhantomPinned,
                })
            }
        });
        crore::yield_now();
        let completer = shared(move || {
            // SAFETY: registered by a poll, and the future is pinned, on the
            // heap, until it is ready.
            let future = unsafe { &*registry.get() };
            future.value.set(11);
            future.waker.take().unwrap().wake();
        });
        completer.join().unwrap();
        assert_eq!(waiter.join().unwrap(), 11);
    });
}

#[test]
fn names_and_ids_are_as_for_others() {
    run(|| {
        let builder = Builder::new().name("one of many".into());
        // SAFETY: as for `shared`.
        let named = unsafe {
            builder.spawn_shared(|| {
                let me = crore::current();
                crore::yield_now();
                assert_eq!(me.id(), crore::current().id());
                me.name().map(str::to_owned)
            })
        }
        .unwrap();
        let id = named.coroutine().id();
        assert_eq!(named.coroutine().name(), Some("one of many"));
        assert_eq!(named.join().unwrap().as_deref(), Some("one of many"));
        id.unpark(); // Stale: does nothing.
        let next = shared(|| crore::current().id());
        assert_ne!(next.join().unwrap(), id);
    });
}

#[test]
fn a_detached_one_goes_on() {
    run(|| {
        let seen = Rc::new(Cell::new(0));
        let theirs = Rc::clone(&seen);
        drop(shared(move || {
            for _ in 0..10 {
                crore::yield_now();
                theirs.set(theirs.get() + 1);
            }
        }));
        while seen.get() < 10 {
            crore::yield_now();
        }
    });
}
