//! Simulations: `crore::sim`.

mod calls;
#[path = "../common/mod.rs"]
mod common;
mod disk_faults;
mod disks;
#[cfg(target_arch = "x86_64")]
mod escapes;
mod net;
mod own;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crore::sim::{self, Faults, Sim};

/// A busy program of threads, locks, chance and time, and what it saw.
fn busy(sim: Sim) -> (u64, Vec<String>) {
    let log = Arc::new(Mutex::new(Vec::new()));
    let theirs = Arc::clone(&log);
    let run = move || {
        let (send, receive) = mpsc::channel();
        for number in 0..20_u64 {
            let send = send.clone();
            thread::spawn(move || {
                for round in 0..5 {
                    let long = RandomState::new().hash_one(round) % 1_000_000;
                    thread::sleep(Duration::from_micros(long));
                    send.send((number, round)).unwrap();
                }
            });
        }
        drop(send);
        let began = Instant::now();
        let mut seen = HashMap::new();
        for (number, round) in receive {
            *seen.entry(number).or_insert(0) += 1;
            let line = format!("{:?} {number} {round}", began.elapsed());
            theirs.lock().unwrap().push(line);
        }
        let order: Vec<_> = seen.keys().copied().collect();
        theirs.lock().unwrap().push(format!("{order:?}"));
    };
    let report = sim.client("one", run).run();
    let log = log.lock().unwrap().clone();
    assert_eq!(log.len(), 101);
    (report.hash(), log)
}

#[test]
fn a_seed_is_a_history() {
    sim::check_repeats(0..20, |sim| drop(busy(sim)));
    let (one, other) = (busy(Sim::new(1)), busy(Sim::new(2)));
    assert!(other.0 != one.0 && other.1 != one.1);
}

#[test]
fn a_year_passes_in_no_time() {
    let year = Duration::from_secs(365 * 24 * 3600);
    let report = Sim::new(1)
        .limit(2 * year)
        .client("sleeper", move || {
            let (began, day) = (Instant::now(), SystemTime::now());
            thread::sleep(year);
            assert!(began.elapsed() >= year && began.elapsed() < year + Duration::from_secs(1));
            assert!(day.elapsed().unwrap() >= year);
            assert!(sim::elapsed() >= year);
        })
        .run();
    assert!(report.elapsed() >= year);
}

/// A static that counts on is a part of the history that is not the seed's.
#[test]
fn what_escapes_the_simulation_is_found() {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    let found = panic::catch_unwind(|| {
        sim::check_repeats([1], |sim| {
            sim.client("one", || {
                thread::sleep(Duration::from_millis(RUNS.fetch_add(1, Ordering::Relaxed)));
                thread::sleep(Duration::from_millis(1));
            })
            .run();
        });
    });
    let said = *found.unwrap_err().downcast::<String>().unwrap();
    assert!(
        said.starts_with("seed 1: two runs differ: after\n"),
        "{said}"
    );
}

#[test]
fn a_node_that_crashes_begins_again_without_its_threads_and_destructors() {
    static STARTED: AtomicU64 = AtomicU64::new(0);
    static TICKS: AtomicU64 = AtomicU64::new(0);
    struct Loud;
    impl Drop for Loud {
        fn drop(&mut self) {
            panic!("no destructor runs in a crash");
        }
    }
    Sim::new(3)
        .node("one", || {
            let _loud = Loud;
            STARTED.fetch_add(1, Ordering::Relaxed);
            thread::spawn(|| {
                let _loud = Loud;
                crore::spawn(|| {
                    let _loud = Loud;
                    thread::sleep(Duration::from_secs(5_000));
                });
                loop {
                    thread::sleep(Duration::from_secs(1));
                    TICKS.fetch_add(1, Ordering::Relaxed);
                }
            });
            thread::sleep(Duration::from_secs(5_000));
        })
        .client("test", || {
            let second = Duration::from_secs(1);
            thread::sleep(10 * second);
            let before = TICKS.load(Ordering::Relaxed);
            assert!((9..=10).contains(&before), "{before}");
            sim::crash("one");
            thread::sleep(10 * second);
            assert_eq!(TICKS.load(Ordering::Relaxed), before);
            assert_eq!(STARTED.load(Ordering::Relaxed), 1);
            sim::restart("one");
            sim::restart("one");
            thread::sleep(second / 2);
            assert_eq!(STARTED.load(Ordering::Relaxed), 2);
        })
        .run();
}

/// The wake-up that it does not live to see is the next one's.
#[test]
fn a_machine_that_crashes_in_line_for_a_lock_keeps_nobody_from_it() {
    static LOCK: Mutex<()> = Mutex::new(());
    let second = Duration::from_secs(1);
    let takes = move |after: u32, holds: u32| {
        move || {
            thread::sleep(after * second);
            let _guard = LOCK.lock().unwrap();
            thread::sleep(holds * second);
        }
    };
    Sim::new(3)
        .node("first", takes(0, 4))
        .node("dies", takes(1, 0))
        .client("next", takes(2, 0))
        .client("test", move || {
            thread::sleep(3 * second);
            sim::crash("dies");
        })
        .run();
}

/// Also where `fork` leaves the child a lock that nobody opens: the dynamic linker's.
#[test]
fn seeds_begin_whatever_another_thread_holds() {
    unsafe extern "C" fn hold(
        _: *mut libc::dl_phdr_info,
        _: usize,
        _: *mut std::ffi::c_void,
    ) -> std::ffi::c_int {
        thread::sleep(Duration::from_millis(5));
        1
    }
    common::succeeds("seeds_begin_whatever_another_thread_holds", || {
        thread::spawn(|| {
            loop {
                // SAFETY: `hold` takes nothing.
                unsafe { libc::dl_iterate_phdr(Some(hold), std::ptr::null_mut()) };
                thread::sleep(Duration::from_millis(20));
            }
        });
        sim::check(0..6, |sim| {
            let sim = sim.client("one", || thread::sleep(Duration::from_secs(1)));
            sim.run();
        });
    });
}

/// Of those that share a stack one is there, and the frames of the others are saved.
#[test]
fn coroutines_on_shared_stacks_crash_too() {
    static TURNS: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
    fn crowd(turns: &'static AtomicU64) {
        let one = |number: u64| {
            let frame = [number; 20];
            for _ in 0..10 {
                thread::sleep(Duration::from_millis(1 + number % 7));
                turns.fetch_add(1, Ordering::Relaxed);
            }
            assert!(
                std::hint::black_box(frame)
                    .iter()
                    .all(|&word| word == number)
            );
        };
        let all = move || {
            // SAFETY: the closures hand out no reference to their frames.
            let all = (0..500).map(|number| unsafe { crore::spawn_shared(move || one(number)) });
            let all: Vec<_> = all.collect();
            all.into_iter().for_each(|one| one.join().unwrap());
        };
        let parent = crore::Builder::new().own_thread_locals(false);
        parent.spawn(all).unwrap().join().unwrap();
    }
    Sim::new(5)
        .node("one", || crowd(&TURNS[0]))
        .node("two", || crowd(&TURNS[1]))
        .client("test", || {
            for _ in 0..5 {
                thread::sleep(Duration::from_millis(9));
                sim::crash("one");
                sim::restart("one");
            }
            thread::sleep(Duration::from_secs(10));
        })
        .run();
    let [one, two] = TURNS.each_ref().map(|turns| turns.load(Ordering::Relaxed));
    assert_eq!(two, 5_000);
    assert!((5_001..30_000).contains(&one), "{one}");
}

#[test]
fn a_node_may_crash_itself_and_returns_to_nothing() {
    static REACHED: AtomicU64 = AtomicU64::new(0);
    Sim::new(3)
        .node("one", || {
            sim::crash("one");
            REACHED.fetch_add(1, Ordering::Relaxed);
        })
        .client("test", || thread::sleep(Duration::from_secs(1)))
        .run();
    assert_eq!(REACHED.load(Ordering::Relaxed), 0);
}

#[test]
fn a_panic_of_a_machine_is_the_runs() {
    let run = |sim: Sim| panic::catch_unwind(AssertUnwindSafe(|| sim.run())).unwrap_err();
    let fails = |text: &'static str| move || panic::panic_any(text);
    let said = run(Sim::new(1).client("one", fails("of a client")));
    assert_eq!(said.downcast_ref(), Some(&"of a client"));
    let idle = Sim::new(1).client("idle", || thread::sleep(Duration::from_secs(9)));
    let said = run(idle.node("one", fails("of a node")));
    assert_eq!(said.downcast_ref(), Some(&"of a node"));
}

#[test]
fn a_run_that_waits_for_ever_ends_at_its_limit_and_says_who_waits() {
    let sim = Sim::new(1)
        .limit(Duration::from_secs(60))
        .client("stuck", || {
            let (_keep, receive) = mpsc::channel::<()>();
            let _ = receive.recv();
        });
    let said = panic::catch_unwind(AssertUnwindSafe(|| sim.run())).unwrap_err();
    let said = said.downcast::<String>().unwrap();
    assert!(said.contains("is not over after 60"), "{said}");
    assert!(said.contains("'stuck'"), "{said}");
}

/// Who looks at the clock again and again sees time pass.
#[test]
fn loops_that_wait_by_looking_end() {
    Sim::new(1)
        .client("one", || {
            let began = Instant::now();
            while began.elapsed() < Duration::from_millis(10) {}
            let flag = Arc::new(AtomicU64::new(0));
            let theirs = Arc::clone(&flag);
            thread::spawn(move || theirs.store(1, Ordering::Relaxed));
            while flag.load(Ordering::Relaxed) == 0 {
                thread::yield_now();
            }
        })
        .run();
}

#[test]
fn clocks_of_the_day_differ_by_machine() {
    Sim::new(1)
        .node("early", || thread::sleep(Duration::from_secs(99)))
        .client("test", || {
            sim::set_clock("test", -3600.0, 100.0);
            let day = SystemTime::now();
            let began = Instant::now();
            thread::sleep(Duration::from_secs(1_000));
            let passed = day.elapsed().unwrap();
            let drift = passed.checked_sub(began.elapsed()).unwrap();
            assert!((0.09..0.11).contains(&drift.as_secs_f64()), "{drift:?}");
        })
        .run();
}

/// The lost update of two threads that read, and write what they have read plus one,
/// with a call in between: the seeds find it, and say the one that does.
#[test]
fn seeds_find_a_race_and_the_failing_one_fails_here() {
    fn racy(sim: Sim) {
        sim.client("one", || {
            let count = Arc::new(AtomicU64::new(0));
            let adds = |count: Arc<AtomicU64>| {
                thread::spawn(move || {
                    let read = count.load(Ordering::Relaxed);
                    thread::yield_now();
                    count.store(read + 1, Ordering::Relaxed);
                })
            };
            let both = [adds(Arc::clone(&count)), adds(Arc::clone(&count))];
            both.into_iter().for_each(|one| one.join().unwrap());
            assert_eq!(count.load(Ordering::Relaxed), 2, "an update is lost");
        })
        .run();
    }
    let said = panic::catch_unwind(|| sim::check(0..100, racy)).unwrap_err();
    let said = said.downcast::<String>().unwrap();
    assert!(said.contains("an update is lost"), "{said}");
}

#[test]
fn seeds_that_pass_pass() {
    sim::check(0..20, |sim| {
        sim.preempt(0.1)
            .client("one", || {
                let count = Arc::new(Mutex::new(0));
                let add = |_| {
                    let count = Arc::clone(&count);
                    thread::spawn(move || *count.lock().unwrap() += 1)
                };
                let all: Vec<_> = (0..10).map(add).collect();
                all.into_iter().for_each(|one| one.join().unwrap());
                assert_eq!(*count.lock().unwrap(), 10);
            })
            .run();
    });
}

/// What C programs ask by other names.
#[test]
fn cs_clocks_and_chance_are_the_simulations() {
    unsafe extern "C" {
        fn timespec_get(place: *mut libc::timespec, base: i32) -> i32;
        fn getentropy(place: *mut u8, len: usize) -> i32;
    }
    fn asked() -> Vec<i64> {
        let (mut spec, mut val) = (
            libc::timespec {
                tv_sec: 0,
                tv_nsec: 0,
            },
            libc::timeval {
                tv_sec: 0,
                tv_usec: 0,
            },
        );
        let (mut one, mut two, mut three) = (0_u64, 0_u64, 0_u64);
        // SAFETY: places of ours.
        unsafe {
            assert_eq!(libc::clock_gettime(libc::CLOCK_REALTIME, &raw mut spec), 0);
            let mut all = vec![spec.tv_sec, spec.tv_nsec];
            assert_eq!(libc::gettimeofday(&raw mut val, std::ptr::null_mut()), 0);
            all.extend([val.tv_sec, val.tv_usec]);
            assert_eq!(timespec_get(&raw mut spec, 1), 1);
            all.extend([spec.tv_sec, spec.tv_nsec]);
            let mut now = 0;
            assert_eq!(libc::time(&raw mut now), now);
            all.push(now);
            assert_eq!(libc::getrandom((&raw mut one).cast(), 8, 0), 8);
            assert_eq!(getentropy((&raw mut two).cast(), 8), 0);
            assert_eq!(libc::syscall(libc::SYS_getrandom, &raw mut three, 8, 0), 8);
            assert_eq!(getentropy((&raw mut two).cast(), 257), -1);
            all.extend([one as i64, two as i64, three as i64]);
            all
        }
    }
    let run = || {
        let (send, receive) = mpsc::channel();
        Sim::new(9)
            .client("one", move || send.send(asked()).unwrap())
            .run();
        receive.recv().unwrap()
    };
    let all = run();
    assert_eq!(all, run());
    // All four clocks tell the same day.
    let days = [all[0], all[2], all[4], all[6]].map(|seconds| seconds / 60);
    assert!(days.iter().all(|day| *day == days[0]), "{all:?}");
    assert_ne!(all[7], all[8]);
    assert_ne!(asked()[0] / 3600, all[0] / 3600, "outside it is today");
}

#[test]
fn machines_have_their_names() {
    fn name() -> (String, String) {
        let mut host = [0_u8; 65];
        // SAFETY: zeros are one; places of ours.
        let kernel = unsafe {
            let mut kernel: libc::utsname = std::mem::zeroed();
            assert_eq!(libc::gethostname(host.as_mut_ptr().cast(), host.len()), 0);
            assert_eq!(libc::uname(&raw mut kernel), 0);
            assert_ne!(kernel.release[0], 0);
            kernel.nodename.map(|byte| byte as u8)
        };
        let text = |bytes: &[u8]| {
            let text = std::ffi::CStr::from_bytes_until_nul(bytes);
            text.unwrap().to_str().unwrap().to_owned()
        };
        (text(&host), text(&kernel))
    }
    let is = |name: &str| (name.to_owned(), name.to_owned());
    let real = name();
    assert_ne!(real, is("ann"));
    Sim::new(1)
        .client("ann", move || {
            assert_eq!(name(), is("ann"));
            let mut short = [1_u8; 4];
            // SAFETY: a place of ours.
            let answer = unsafe { libc::gethostname(short.as_mut_ptr().cast(), 3) };
            assert_eq!((answer, short), (-1, [b'a', b'n', b'n', 1]));
        })
        .client("bob", move || assert_eq!(name(), is("bob")))
        .run();
    assert_eq!(name(), real);
}

/// Threads that end by a crash wake who joins them: that one is gone, too.
#[test]
fn nobody_sees_a_part_of_a_crash() {
    for seed in 0..30 {
        Sim::new(seed)
            .faults(Faults::within(Duration::from_secs(10)).crashes(5))
            .node("one", || {
                loop {
                    let sleep = || thread::sleep(Duration::from_millis(sim::random(500)));
                    let all: Vec<_> = (0..4).map(|_| thread::spawn(sleep)).collect();
                    // std panics where a thread has ended without a word.
                    all.into_iter().for_each(|one| one.join().unwrap());
                }
            })
            .client("test", || thread::sleep(Duration::from_secs(20)))
            .run();
    }
}

#[test]
fn a_test_of_seeds_may_have_seeds_of_its_own() {
    sim::check(0..3, |sim| {
        sim.client("one", || thread::sleep(Duration::from_secs(1)))
            .run();
        sim::check(0..3, |sim| {
            sim.client("one", || thread::sleep(Duration::from_secs(1)))
                .run();
        });
    });
}

#[test]
fn what_blocks_is_a_coroutine_that_may_wait() {
    Sim::new(1)
        .client("one", || {
            let job = crore::spawn_blocking(|| {
                let began = Instant::now();
                thread::sleep(Duration::from_secs(60));
                began.elapsed()
            });
            assert!(job.join().unwrap() >= Duration::from_secs(60));
        })
        .run();
}

#[test]
fn coroutines_can_neither_run_nor_check_simulations() {
    crore::run(|| {
        let refused = |f: fn()| crore::spawn(f).join().unwrap_err().into_panic();
        for run in [|| drop(Sim::new(1).run()), || sim::check([1], |_| ())] as [fn(); 2] {
            let said = refused(run);
            let said = said.downcast_ref::<&str>().unwrap();
            assert!(said.contains("by a plain thread"), "{said}");
        }
    })
    .unwrap();
}
