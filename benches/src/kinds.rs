//! The three kinds of coroutine, each doing the same.

use std::time::Duration;

use crore::{Builder, JoinHandle};

use crore_peers::clock::processor_time;

/// What a coroutine has to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing: it shares its stack.
    Shared,
    /// A stack.
    Stack,
    /// A stack and thread-locals.
    ThreadLocals,
}

impl Kind {
    /// All that there are here.
    pub fn all() -> Vec<Self> {
        let mut all = vec![Self::Shared, Self::Stack];
        match crore::local::own_thread_locals() {
            Ok(()) => all.push(Self::ThreadLocals),
            Err(why) => eprintln!("{why}"),
        }
        all
    }

    fn spawn<T: Send + 'static>(self, f: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        let builder = Builder::new().stack_size(32 * 1024);
        let spawned = match self {
            // SAFETY: the workloads below hand out no reference to a frame.
            Self::Shared => unsafe { builder.spawn_shared(f) },
            Self::Stack => builder.spawn(f),
            Self::ThreadLocals => builder.own_thread_locals(true).spawn(f),
        };
        spawned.expect("room for a coroutine")
    }

    /// Processor time of `tasks` coroutines that yield `rounds` times each.
    pub fn yields(self, tasks: u64, rounds: u64) -> Duration {
        run(move || {
            let all: Vec<_> = (0..tasks)
                .map(|_| {
                    self.spawn(move || {
                        crore::yield_now(); // all have started
                        let start = processor_time();
                        (0..rounds).for_each(|_| crore::yield_now());
                        processor_time() - start
                    })
                })
                .collect();
            let times = all.into_iter().map(|task| task.join().unwrap());
            times.last().expect("at least one")
        })
    }

    /// Processor time of `n` coroutines, one after the other: spawn, run, join.
    pub fn spawns(self, n: u64) -> Duration {
        run(move || {
            assert_eq!(self.spawn(|| 1).join().unwrap(), 1);
            let start = processor_time();
            let sum: u64 = (0..n).map(|i| self.spawn(move || i).join().unwrap()).sum();
            assert_eq!(sum, n * n.saturating_sub(1) / 2);
            processor_time() - start
        })
    }

    /// Bytes of memory that each of `n` parked coroutines takes, page tables
    /// included.
    pub fn bytes(self, n: u64) -> f64 {
        run(move || {
            let before = memory();
            let all: Vec<_> = (0..n).map(|_| self.spawn(crore::park)).collect();
            crore::yield_now();
            let taken = memory() - before;
            for one in all {
                one.coroutine().unpark();
                one.join().unwrap();
            }
            taken as f64 / n as f64
        })
    }
}

fn run<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    std::thread::spawn(|| crore::run(f).unwrap())
        .join()
        .unwrap()
}

/// Bytes of this process in memory, and of its page tables.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let field = |name| {
        let line = status
            .lines()
            .find_map(|line: &str| line.strip_prefix(name));
        let kib = line.unwrap().trim().trim_end_matches(" kB");
        kib.parse::<u64>().unwrap() * 1024
    };
    field("VmRSS:") + field("VmPTE:")
}
