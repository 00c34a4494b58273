//! Who runs the bodies of the lock suites: coroutines of one worker and of
//! several, on stacks of their own and on shared ones, threads among them.

use std::time::Duration;

use crate::common::{Kind, has_own_locals};

/// Who runs the bodies.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    Coroutines,
    /// On shared stacks.
    Shared,
    /// Every second one is a plain thread.
    Mixed,
    /// Every second one has thread-locals of its own, where there is that.
    Own,
}

pub(crate) enum Handle<T> {
    Coroutine(crore::JoinHandle<T>),
    Thread(std::thread::JoinHandle<T>),
}

impl<T> Handle<T> {
    pub(crate) fn join(self) -> Option<T> {
        match self {
            Self::Coroutine(handle) => handle.join().ok(),
            Self::Thread(handle) => handle.join().ok(),
        }
    }
}

impl Who {
    /// Starts the body number `i`.
    pub(crate) fn go<T: Send + 'static>(
        self,
        i: usize,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> Handle<T> {
        match self {
            Self::Mixed if i % 2 == 1 => Handle::Thread(std::thread::spawn(f)),
            Self::Shared => Handle::Coroutine(Kind::SharedStack.spawn(f)),
            Self::Own if i % 2 == 1 => Handle::Coroutine(Kind::OwnLocals.spawn(f)),
            _ => Handle::Coroutine(Kind::OwnStack.spawn(f)),
        }
    }

    /// Runs `f(0)` to `f(n - 1)` beside each other to the end.
    pub(crate) fn fan<T: Send + 'static>(
        self,
        n: usize,
        f: impl Fn(usize) -> T + Clone + Send + 'static,
    ) -> Vec<T> {
        let start = |i| {
            let f = f.clone();
            self.go(i, move || f(i))
        };
        let handles: Vec<_> = (0..n).map(start).collect();
        handles.into_iter().map(|h| h.join().unwrap()).collect()
    }
}

/// As C has it.
pub(crate) fn timespec(time: Duration) -> libc::timespec {
    libc::timespec {
        tv_sec: time.as_secs() as i64,
        tv_nsec: time.subsec_nanos().into(),
    }
}

/// So long from now, by this clock.
pub(crate) fn after(clock: libc::clockid_t, wait: Duration) -> libc::timespec {
    let mut now = timespec(Duration::ZERO);
    // SAFETY: a place for the time.
    unsafe { libc::clock_gettime(clock, &mut now) };
    timespec(Duration::new(now.tv_sec as u64, now.tv_nsec as u32) + wait)
}

/// Lets others run, on a plain thread too.
pub(crate) fn others() {
    std::thread::yield_now();
}

/// Runs the body in a runtime of so many workers.
pub(crate) fn on(workers: usize, who: Who, body: fn(Who)) {
    if matches!(who, Who::Own) && !has_own_locals() {
        return;
    }
    let runtime = crore::Runtime::builder()
        .workers(workers)
        .shared_stacks(2, 256 * 1024);
    runtime.build().unwrap().run(|| body(who)).unwrap();
}

/// Makes a test of each body for each kind.
macro_rules! locks {
    ($($name:ident),* $(,)?) => {
        locks!(@ one_worker: 1, Coroutines: $($name),*);
        locks!(@ one_worker_shared_stacks: 1, Shared: $($name),*);
        locks!(@ one_worker_and_threads: 1, Mixed: $($name),*);
        locks!(@ four_workers: 4, Coroutines: $($name),*);
        locks!(@ four_workers_shared_stacks: 4, Shared: $($name),*);
        locks!(@ four_workers_and_threads: 4, Mixed: $($name),*);
        locks!(@ one_worker_some_own_thread_locals: 1, Own: $($name),*);
        locks!(@ four_workers_some_own_thread_locals: 4, Own: $($name),*);
    };
    (@ $kind:ident: $workers:expr, $who:ident: $($name:ident),*) => {
        mod $kind {
            $(
                #[test]
                fn $name() {
                    $crate::locks_common::on(
                        $workers,
                        $crate::locks_common::Who::$who,
                        super::$name,
                    );
                }
            )*
        }
    };
}
