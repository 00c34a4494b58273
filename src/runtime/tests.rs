//! A runtime on another backend than the kernel's: files in memory, and time
//! that passes only while every coroutine waits.

use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::driver::{Direction, FileKind, MemoryBackend, Readiness};
use crate::runtime::Runtime;
use crate::sched::CurrentTask;
use crate::sync::channel;
use crate::task::Addr;
use crate::task::provisional_id::{self, TaskRequest};

/// A number that nobody else in this process has.
const FD: RawFd = 8_100;

fn runtime(memory: &MemoryBackend) -> Runtime {
    let builder = Runtime::builder().backend(Arc::new(memory.clone()));
    builder.build().unwrap()
}

#[test]
fn coroutines_wait_for_files_in_memory() {
    let memory = MemoryBackend::new();
    memory.open(FD, FileKind::Tcp);
    let writer = memory.clone();
    let woken = runtime(&memory).run(move || {
        let reader = crate::spawn(|| {
            let cx = CurrentTask::current().expect("a coroutine");
            cx.wait(FD, Direction::Read, None).is_ok()
        });
        crate::sleep(Duration::from_secs(60));
        let read = true;
        let ready = Readiness {
            read,
            ..Readiness::default()
        };
        writer.set_ready(FD, ready, true);
        reader.join().unwrap()
    });
    assert!(woken.unwrap());
}

#[test]
fn days_of_sleeps_and_timeouts_pass_at_once() {
    let memory = MemoryBackend::new();
    let real = Instant::now();
    let day = Duration::from_secs(86_400);
    let order = runtime(&memory).run(move || {
        let (tx, rx) = channel::unbounded();
        for days in [3, 1, 2] {
            let tx = tx.clone();
            crate::spawn(move || {
                crate::sleep(day * days);
                tx.send(days).unwrap();
            });
        }
        assert!(crate::timeout(day / 2, || rx.recv()).is_err());
        assert!(rx.recv_timeout(day / 4).is_err());
        [(); 3].map(|()| rx.recv().unwrap())
    });
    assert_eq!(order.unwrap(), [1, 2, 3]);
    assert!(real.elapsed() < day);
}

/// The ids of a slot are used up, and another slot takes over: what is asked of a
/// coroutine that has ended is never asked of another.
#[test]
fn a_handle_of_what_has_ended_never_means_a_stranger() {
    let runtime = Runtime::builder().max_coroutines(2).build().unwrap();
    let handle = runtime.handle();
    handle.workers().handles()[0].set_generations(vec![Addr::LAST_GENERATION - 2]);
    let ran = runtime.run(|| {
        let old = crate::spawn(|| ());
        crate::yield_now();
        let id = old.coroutine().id();
        for _ in 0..10 {
            let new = crate::spawn(crate::park);
            crate::yield_now();
            assert_ne!(new.coroutine().id(), id);
            old.cancel();
            old.coroutine().unpark();
            crate::yield_now();
            assert!(!new.is_finished());
            new.coroutine().unpark();
            new.join().unwrap();
        }
    });
    ran.unwrap();
}

#[test]
fn another_thread_reaches_a_runtime_that_sleeps_in_memory() {
    let (tx, rx) = channel::unbounded();
    let thread = std::thread::spawn(move || tx.send(7).unwrap());
    let got = runtime(&MemoryBackend::new()).run(move || rx.recv().unwrap());
    assert_eq!(got.unwrap(), 7);
    thread.join().unwrap();
}

/// With several workers an id that is asked for before the task has a place is
/// provisional; it ends with the task.
#[test]
fn a_provisional_id_ends_with_its_task() {
    let runtime = Runtime::builder().workers(2).build().unwrap();
    let ids = runtime.run(|| {
        let tasks: Vec<_> = (0..100).map(|_| crate::spawn(|| ())).collect();
        let ids: Vec<_> = tasks
            .iter()
            .map(|task| task.coroutine().identity())
            .filter(|&id| provisional_id::is_provisional(id))
            .collect();
        assert!(!ids.is_empty(), "none waited for its place");
        tasks.into_iter().for_each(|task| task.join().unwrap());
        ids
    });
    // A join may be over a little before the worker has seen the task off; a run is not.
    let meant = |&id: &Addr| provisional_id::forward(id, TaskRequest::Unpark).is_some();
    assert_eq!(ids.unwrap().iter().filter(|&id| meant(id)).count(), 0);
}

/// Tasks that no worker ever takes leave no ids behind, whenever those are asked for.
#[test]
fn ids_of_tasks_that_never_run_end_with_their_handles() {
    let runtime = Runtime::builder().workers(2).build().unwrap();
    let spawn = || runtime.handle().spawn(|| ());
    let handles = [spawn(), spawn()];
    let early = handles[0].thread().identity();
    drop(runtime);
    let ids = [early, handles[1].thread().identity()];
    for handle in &handles {
        handle.cancel();
    }
    assert!(ids.into_iter().all(provisional_id::is_cancelled));
    drop(handles);
    assert!(!ids.into_iter().any(provisional_id::is_cancelled));
}

/// What a burst needed stays for the next; after some seconds of quiet it goes back,
/// although nothing else wakes the worker.
#[test]
fn a_burst_of_stacks_is_given_back_after_some_quiet() {
    let builder = Runtime::builder().backend(Arc::new(MemoryBackend::new()));
    let runtime = builder.warm_stacks(10).build().unwrap();
    let handle = runtime.handle();
    let counts = move || {
        let metrics = handle.metrics();
        (metrics.stacks_warm, metrics.stacks_cold)
    };
    let ran = runtime.run(|| {
        for seconds in [1, 10] {
            let nap = || crate::sleep(Duration::from_millis(1));
            let burst: Vec<_> = (0..3_000).map(|_| crate::spawn(nap)).collect();
            burst.into_iter().for_each(|one| one.join().unwrap());
            crate::sleep(Duration::from_millis(1));
            assert_eq!(counts(), (3_000, 0));
            crate::sleep(Duration::from_secs(seconds));
        }
        assert_eq!(counts(), (10, 2_990));
    });
    ran.unwrap();
}

/// What a worker sleeps is no wait in its queue, and what others run is: by a clock that
/// says what has been.
#[test]
fn the_wait_in_the_run_queue_is_that_of_the_last_in_it() {
    let memory = MemoryBackend::new();
    let runtime = runtime(&memory);
    let handle = runtime.handle();
    let waits = move || handle.metrics().longest_queue_wait_micros;
    let ran = runtime.run(|| {
        // Until times of the system's clock, which the other leaves behind.
        let sleep = |seconds| crate::sleep(Duration::from_secs(seconds));
        sleep(1_000);
        sleep(2_000);
        assert!(waits() < 1_000_000, "{}", waits());
        memory.pass(Duration::from_secs(2));
        sleep(3_000);
        assert!((2_000_000..3_000_000).contains(&waits()), "{}", waits());
    });
    ran.unwrap();
}

/// While a shared coroutine calls deep, what lies on any stack of ours counts as shared:
/// until the last of those calls has ended, however it does.
#[test]
fn deep_calls_leave_nothing_behind() {
    let ran = crate::run(|| {
        let on_runs_own_stack = 0_u8;
        let at = (&raw const on_runs_own_stack).addr();
        let counts_as_shared = move || {
            let cx = CurrentTask::current().expect("a coroutine");
            cx.is_on_shared_stack(at, 1)
        };
        let grow = |f: &dyn Fn()| crate::generator::grow(64 << 10, f);
        // SAFETY: hands out no references to its locals.
        let shared = unsafe {
            crate::spawn_shared(move || {
                assert!(!counts_as_shared());
                grow(&|| {
                    grow(&|| assert!(counts_as_shared()));
                    assert!(counts_as_shared());
                });
                assert!(!counts_as_shared());
                let unwinds = || grow(&|| std::panic::resume_unwind(Box::new(())));
                assert!(std::panic::catch_unwind(unwinds).is_err());
                assert!(!counts_as_shared());
            })
        };
        shared.join().unwrap();
    });
    ran.unwrap();
}
