//! Test aids: a run with a time limit that says who is stuck, and where.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process;
use std::sync::OnceLock;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use crate::runtime::join_handle::current;
use crate::runtime::{Handle, Runtime};
use crate::task::Coroutine;

/// How long the coroutines have to end once the limit was hit.
const GRACE: Duration = Duration::from_secs(10);

/// Runs a test as [`crore::run`](crate::run()) does, for at most `limit`: a test that
/// waits for ever fails, and its output says who waits, for what and where.
///
/// When the limit is hit all coroutines are [dumped](crate::Handle::dump) to standard
/// error, and the main coroutine is cancelled, and with it all others. If one of them
/// does not end within ten seconds even then, the process exits with status 101.
///
/// # Panics
///
/// With `f`'s panic; when the limit was hit; and when the runtime can't be set up.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// // In a function with #[test].
/// let sum = crore::test::run(Duration::from_secs(60), || {
///     let (tx, rx) = crore::sync::channel::bounded(1);
///     crore::spawn(move || (0..10).for_each(|n| tx.send(n).unwrap()));
///     rx.iter().sum::<u32>()
/// });
/// assert_eq!(sum, 45);
/// ```
#[track_caller]
pub fn run<T>(limit: Duration, f: impl FnOnce() -> T) -> T {
    let runtime = Runtime::builder().build();
    run_on(&runtime.expect("a runtime can be built"), limit, f)
}

/// As [`run`], on a runtime with settings of its own.
///
/// # Panics
///
/// As [`run`]; and if the runtime runs already.
///
/// ```
/// use std::time::Duration;
/// let runtime = crore::Runtime::builder().workers(2).build()?;
/// let stuck = || crore::test::run_on(&runtime, Duration::from_millis(10), crore::park);
/// let late = std::panic::catch_unwind(std::panic::AssertUnwindSafe(stuck));
/// assert!(late.is_err()); // and standard error says where it was parked
/// # std::io::Result::Ok(())
/// ```
#[track_caller]
pub fn run_on<T>(runtime: &Runtime, limit: Duration, f: impl FnOnce() -> T) -> T {
    let main = OnceLock::new();
    let (ended, ends) = mpsc::channel::<()>();
    let (result, hit) = thread::scope(|scope| {
        let (main, handle) = (&main, runtime.handle());
        let watch = scope.spawn(move || watch(&handle, main, limit, &ends));
        let body = || {
            let _ = main.set(current());
            f()
        };
        let result = catch_unwind(AssertUnwindSafe(|| runtime.run(body)));
        drop(ended);
        (result, watch.join().expect("the watch does not panic"))
    });
    match result {
        Err(panic) => resume_unwind(panic),
        Ok(_) if hit => panic!("the test took longer than {limit:?}; what it waited for is above"),
        Ok(result) => result.expect("the runtime runs"),
    }
}

/// Waits for the end of the test; whether it came too late.
fn watch(
    handle: &Handle,
    main: &OnceLock<Coroutine>,
    limit: Duration,
    ends: &mpsc::Receiver<()>,
) -> bool {
    let is_late = |time| ends.recv_timeout(time) == Err(RecvTimeoutError::Timeout);
    if !is_late(limit) {
        return false;
    }
    eprintln!("the test has taken {limit:?}; these coroutines are there:");
    tell(handle);
    main.get().inspect(|main| main.cancel());
    if is_late(GRACE) {
        eprintln!("cancelled, and after {GRACE:?} these are still there:");
        tell(handle);
        process::exit(101);
    }
    true
}

fn tell(handle: &Handle) {
    eprintln!("{}", handle.dump());
}
