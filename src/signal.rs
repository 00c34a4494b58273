//! Waiting for signals: `SIGINT`, `SIGTERM` and their like, as a blocking call.
//!
//! ```no_run
//! use crore::signal::{self, SIGINT, SIGTERM};
//! use std::time::Duration;
//!
//! crore::run(|| {
//!     crore::spawn(|| {
//!         let signal = signal::wait(&[SIGINT, SIGTERM]).unwrap();
//!         println!("signal {signal}: shutting down");
//!         let handle = crore::Handle::current().unwrap();
//!         if let Err(who) = handle.shutdown(Duration::from_secs(10)) {
//!             eprintln!("{who}");
//!             std::process::exit(1);
//!         }
//!     });
//!     // … the server
//! })?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! The first wait for a signal installs a handler, which stays: from then on
//! the signal no longer ends the process. A handler that was there before is
//! called after ours; one that is installed later replaces it, and the signal is
//! not heard of here any more. Calls that the signal interrupts are restarted.
//!
//! One helper thread serves the process. A child after `fork` keeps the
//! handlers and has no such thread; what it `exec`s has the defaults.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::MutexGuard;
use std::task::{Context, Poll, Waker};
use std::thread;

use slab::Slab;

use crate::block_on::block_on;
use crate::sys::signal_mask::quietly;
use crate::sys::signal_relay;
use crate::util::no_park::{Held, NoParkMutex};

/// Hang-up of the terminal; often used for "read the configuration again".
pub const SIGHUP: i32 = 1;
/// Ctrl-C.
pub const SIGINT: i32 = 2;
/// Ctrl-\.
pub const SIGQUIT: i32 = 3;
/// The programs' own.
pub const SIGUSR1: i32 = 10;
/// The programs' own.
pub const SIGUSR2: i32 = 12;
/// The polite request to end.
pub const SIGTERM: i32 = 15;

/// Waits for any of the signals and says which: parks the coroutine, or blocks
/// the thread.
///
/// All that wait for a signal when it comes get it. If nobody waits, the next
/// one that does gets it at once; several arrivals before that count as one.
///
/// # Errors
///
/// `InvalidInput` for an empty list, for what can't be caught (`SIGKILL`), and
/// for faults; what the kernel says when no descriptor or thread is left.
///
/// # Panics
///
/// Unwinds (without a panic message) when the coroutine is cancelled, or a
/// [`timeout`](crate::timeout) around this ends.
///
/// # Examples
///
/// ```
/// use crore::signal::{self, SIGUSR1};
///
/// crore::run(|| {
///     let waiter = crore::spawn(|| signal::wait(&[SIGUSR1]).unwrap());
///     crore::yield_now(); // it waits, so the signal does not end us
///     std::process::Command::new("kill").args(["-USR1", &std::process::id().to_string()]).status()?;
///     assert_eq!(waiter.join().unwrap(), SIGUSR1);
///     Ok::<(), std::io::Error>(())
/// })??;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn wait(signals: &[i32]) -> io::Result<i32> {
    let place = SignalPlace::new(signals)?;
    Ok(block_on(SignalFuture(place)))
}

/// The waiters of the process, and the signals that came when there were none.
struct SignalWaits {
    /// Whether the helper thread runs.
    is_served: bool,
    /// Signals that came and were given to no waiter.
    unclaimed: u64,
    waiters: Slab<SignalWaiter>,
}

struct SignalWaiter {
    set: u64,
    arrived: u64,
    waker: Option<Waker>,
}

/// Not from the shim: a static lives longer than a loom model.
static WAITS: NoParkMutex<SignalWaits> = NoParkMutex::new(SignalWaits {
    is_served: false,
    unclaimed: 0,
    waiters: Slab::new(),
});

fn waits() -> Held<MutexGuard<'static, SignalWaits>> {
    WAITS.lock()
}

/// How many wait.
pub(crate) fn waiting() -> usize {
    waits().waiters.len()
}

/// Makes sure that each of the signals is relayed.
fn watch(signals: &[i32]) -> io::Result<()> {
    let mut waits = waits();
    if !waits.is_served {
        signal_relay::prepare()?;
        let builder = thread::Builder::new().name("crore-signals".into());
        quietly(|| {
            builder.spawn(|| {
                loop {
                    dispatch(signal_relay::take());
                }
            })
        })?;
        waits.is_served = true;
    }
    for &signal in signals {
        signal_relay::relay(signal)?;
    }
    Ok(())
}

/// Gives signals that arrived to those that wait for them.
fn dispatch(arrived: u64) {
    let mut wakers = Vec::new();
    let mut waits = waits();
    let mut unclaimed = arrived;
    for (_, waiter) in waits.waiters.iter_mut() {
        let theirs = waiter.set & arrived;
        if theirs != 0 {
            waiter.arrived |= theirs;
            unclaimed &= !theirs;
            wakers.extend(waiter.waker.take());
        }
    }
    waits.unclaimed |= unclaimed;
    drop(waits);
    wakers.into_iter().for_each(Waker::wake);
}

/// The future of one [`wait`].
struct SignalFuture(SignalPlace);

impl Future for SignalFuture {
    type Output = i32;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<i32> {
        if self.0.has_come(Some(context.waker())) {
            Poll::Ready(self.0.take())
        } else {
            Poll::Pending
        }
    }
}

/// A place among the waiters, from the first look on.
pub(crate) struct SignalPlace {
    set: u64,
    key: Option<usize>,
}

impl SignalPlace {
    /// One that waits for these.
    ///
    /// # Errors
    ///
    /// As [`wait`].
    pub(crate) fn new(signals: &[i32]) -> io::Result<Self> {
        if signals.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "no signal to wait for",
            ));
        }
        watch(signals)?;
        let set = signals
            .iter()
            .fold(0, |set, &signal| set | signal_relay::bit(signal));
        Ok(Self { set, key: None })
    }

    /// Whether one has come, which is this place's from now on. If not, has the waker
    /// woken by the next.
    pub(crate) fn has_come(&mut self, waker: Option<&Waker>) -> bool {
        // Cloned and dropped outside the lock: both may be foreign code.
        let waker = waker.cloned();
        let set = self.set;
        let mut waits = waits();
        let SignalWaits {
            unclaimed, waiters, ..
        } = &mut *waits;
        let key = *self.key.get_or_insert_with(|| {
            waiters.insert(SignalWaiter {
                set,
                arrived: 0,
                waker: None,
            })
        });
        let mine = &mut waiters[key];
        mine.arrived |= *unclaimed & set;
        *unclaimed &= !set;
        let old = std::mem::replace(&mut mine.waker, waker);
        let come = mine.arrived != 0;
        drop(waits);
        drop(old);
        come
    }

    /// One that [has come](Self::has_come). Of several at once the others are not lost.
    pub(crate) fn take(&mut self) -> i32 {
        let key = self.key.expect("one has come");
        let mut waits = waits();
        let mine = &mut waits.waiters[key];
        let first = mine.arrived & mine.arrived.wrapping_neg();
        mine.arrived &= !first;
        drop(waits);
        first.trailing_zeros() as i32 + 1
    }

    /// Waits no more; what has come and was not taken is the next one's.
    pub(crate) fn leave(&mut self) {
        let Some(key) = self.key.take() else { return };
        let mut waits = waits();
        let left = waits.waiters.remove(key);
        drop(waits);
        drop(left.waker);
        dispatch(left.arrived);
    }
}

impl Drop for SignalPlace {
    fn drop(&mut self) {
        self.leave();
    }
}
