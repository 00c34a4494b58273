//! What a thread is to std: an id, a parker, thread-locals and their ends,
//! scopes of threads. To these, each coroutine with thread-locals of its own is
//! a thread.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crore_clients::{each, kernel_thread, like_threads, spread_crowd};
use rand::RngExt;

fn on_one_and_on_three(test: fn()) {
    like_threads(1, test);
    like_threads(3, test);
}

#[test]
fn each_has_an_id_of_its_own() {
    const CROWD: usize = 1000;
    on_one_and_on_three(|| {
        let (ids, _) = spread_crowd(CROWD, |_| {
            let before = thread::current().id();
            crore::yield_now();
            assert_eq!(thread::current().id(), before);
            (before, kernel_thread())
        });
        let threads: HashSet<_> = ids.iter().map(|(_, thread)| thread).collect();
        assert!(threads.len() <= 3, "{threads:?}");
        let ids: HashSet<_> = ids.iter().map(|(id, _)| id).collect();
        assert_eq!(ids.len(), CROWD);
    });
}

/// A ring, each of which parks until the one before unparks it.
#[test]
fn park_and_unpark_find_whom_they_mean() {
    const CROWD: usize = 100;
    const ROUNDS: usize = 10;
    on_one_and_on_three(|| {
        let ring: Arc<[OnceLock<Thread>; CROWD]> = Arc::new([const { OnceLock::new() }; CROWD]);
        let turn = Arc::new(AtomicUsize::new(usize::MAX));
        let (starter, rings) = (Arc::clone(&turn), Arc::clone(&ring));
        let start = crore::spawn(move || {
            while rings.iter().any(|place| place.get().is_none()) {
                thread::sleep(Duration::from_millis(1));
            }
            starter.store(0, Ordering::Release);
            rings[0].get().unwrap().unpark();
        });
        let (seen, _) = spread_crowd(CROWD, move |i| {
            ring[i].set(thread::current()).unwrap();
            let mut seen = Vec::new();
            for round in 0..ROUNDS {
                let mine = round * CROWD + i;
                while turn.load(Ordering::Acquire) != mine {
                    thread::park();
                }
                seen.push(mine);
                turn.store(mine + 1, Ordering::Release);
                ring[(i + 1) % CROWD].get().unwrap().unpark();
            }
            seen
        });
        each(&seen, |i| {
            (0..ROUNDS).map(|round| round * CROWD + i).collect()
        });
        start.join().unwrap();
    });
}

#[test]
fn a_park_with_a_timeout_ends() {
    on_one_and_on_three(|| {
        let short = Duration::from_millis(10);
        let (waited, _) = spread_crowd(100, move |_| {
            // Who is unparked before it parks does not park.
            thread::current().unpark();
            thread::park();
            let start = Instant::now();
            while start.elapsed() < short {
                thread::park_timeout(short - start.elapsed().min(short));
            }
        });
        assert_eq!(waited.len(), 100);
    });
}

/// Threads of a scope that end when a coroutine of the thread that waits for
/// them says so.
#[test]
fn scopes_of_threads_stop_only_their_coroutine() {
    on_one_and_on_three(|| {
        let (say, said) = mpsc::channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&waiting);
        let helper = crore::spawn(move || {
            while counted.load(Ordering::Relaxed) < 40 {
                thread::sleep(Duration::from_millis(1));
            }
            (0..40).try_for_each(|i| say.send(i))
        });
        let said = Mutex::new(said);
        let (sums, _) = spread_crowd(20, move |_| {
            let total = AtomicUsize::new(0);
            let hear = || {
                waiting.fetch_add(1, Ordering::Relaxed);
                let heard = said.lock().unwrap().recv().unwrap();
                total.fetch_add(heard, Ordering::Relaxed);
                heard
            };
            thread::scope(|scope| {
                // One is joined by hand, the other by the scope.
                let joined = scope.spawn(hear);
                scope.spawn(hear);
                assert!(joined.join().unwrap() < 40);
            });
            total.into_inner()
        });
        assert_eq!(sums.iter().sum::<usize>(), (0..40).sum());
        helper.join().unwrap().unwrap();
    });
}

/// Counts the ends of thread-locals, and knows whose they were.
struct Ends {
    whose: Cell<usize>,
    ended: RefCell<Option<Arc<Mutex<Vec<usize>>>>>,
}

impl Drop for Ends {
    fn drop(&mut self) {
        if let Some(ended) = self.ended.take() {
            ended.lock().unwrap().push(self.whose.get());
        }
    }
}

thread_local! {
    static PLAIN: Cell<usize> = const { Cell::new(0) };
    static LATE: Cell<usize> = Cell::new(kernel_thread().as_os_str().len());
    static ENDS: Ends = const { Ends { whose: Cell::new(0), ended: RefCell::new(None) } };
}

#[test]
fn thread_locals_are_each_ones_own_and_end() {
    const CROWD: usize = 1000;
    on_one_and_on_three(|| {
        let ended = Arc::new(Mutex::new(Vec::new()));
        let theirs = Arc::clone(&ended);
        PLAIN.set(7);
        let (alone, _) = spread_crowd(CROWD, move |i| {
            assert_eq!(PLAIN.replace(i), 0, "another's");
            assert!(LATE.replace(i) >= "1/task/1".len(), "another's");
            ENDS.with(|ends| {
                assert_eq!(ends.whose.replace(i), 0, "another's");
                *ends.ended.borrow_mut() = Some(Arc::clone(&theirs));
            });
            for _ in 0..3 {
                crore::yield_now();
                let all = (PLAIN.get(), LATE.get(), ENDS.with(|ends| ends.whose.get()));
                assert_eq!(all, (i, i, i));
            }
            true
        });
        each(&alone, |_| true);
        assert_eq!(PLAIN.get(), 7);
        // Once each, each by its own coroutine, before it was joined.
        let mut ended = ended.lock().unwrap().clone();
        ended.sort_unstable();
        assert_eq!(ended.len(), CROWD);
        each(&ended, |i| i);
        PLAIN.set(0);
    });
}

/// A thread-local of a coroutine that panics ends, too.
#[test]
fn thread_locals_of_who_panics_end() {
    on_one_and_on_three(|| {
        struct Flag(Arc<AtomicBool>);
        impl Drop for Flag {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        thread_local! {
            static KEPT: RefCell<Option<Flag>> = const { RefCell::new(None) };
        }
        let ended = Arc::new(AtomicBool::new(false));
        let flag = Flag(Arc::clone(&ended));
        let panicked = crore::spawn(move || {
            KEPT.replace(Some(flag));
            crore::yield_now();
            panic!("a panic that is wanted");
        });
        assert!(panicked.join().is_err());
        assert!(ended.load(Ordering::Relaxed));
    });
}

/// Its generator is a thread-local, seeded by the system the first time.
#[test]
fn rand_draws_other_numbers_for_each() {
    const CROWD: usize = 1000;
    on_one_and_on_three(|| {
        let (drawn, _) = spread_crowd(CROWD, |_| {
            let mut mine = rand::rng();
            let first: u128 = mine.random();
            crore::yield_now();
            let second: u128 = mine.random();
            [first, second, rand::random()]
        });
        let different: HashSet<u128> = drawn.iter().flatten().copied().collect();
        assert_eq!(different.len(), 3 * CROWD);
    });
}
