//! Synchronisation between coroutines, threads and futures, after `std::sync`.
//!
//! Everything here may be shared by coroutines of one worker, of several,
//! plain threads and futures of any executor, in any mix: a waiter leaves a
//! [`Waker`](std::task::Waker). The blocking forms park the coroutine they are
//! called in, or the thread outside of one; the `_async` forms are futures.
//!
//! What holds for all:
//! - An operation that need not wait allocates nothing.
//! - Waiters are served in the order in which they came; each type says what
//!   exceptions there are.
//! - A waiting future may be dropped at any time, and a coroutine may be
//!   unwound out of a wait: what had been given to it goes to the next.
//! - One that is forgotten ([`std::mem::forget`]) while it waits keeps its place
//!   and, when its turn comes, what it is given, as a forgotten guard does: a
//!   lock stays locked, permits and a value are gone, and the receivers of that
//!   channel never hear of its end. (Not so a `select`: what was done is its
//!   cases', which say it, or give it back when they are dropped.)
//! - Nothing points into a waiter's frame, so all works in coroutines that
//!   share their stacks.
//! - Locks poison as std's do; what guards no value does not.
//!
//! All has std's names: `use crore::sync` where there was `use std::sync`
//! ([`mpsc`] and `OnceLock` are names for [`channel`] and [`OnceCell`]; [`Arc`] and
//! [`atomic`], which never wait, are std's own). Other than std's: `Once` and what is
//! made of it try again after a panic.
//!
//! What is not here: how a coroutine parks (`future`), and the scheduler. Each
//! primitive is its state and a queue (`waiters`) under one short lock.

mod barrier;
pub mod broadcast;
mod cancel_token;
pub mod channel;
mod condvar;
mod holder;
#[cfg(all(test, loom))]
mod loom_tests;
pub mod mpsc;
mod mutex;
mod notify;
mod once;
pub mod oneshot;
mod owned;
mod poison;
mod raw_mutex;
mod rwlock;
mod semaphore;
#[cfg(all(test, shuttle))]
mod shuttle_tests;
mod until;
mod waiters;
pub mod watch;

pub use barrier::{Barrier, BarrierWait, BarrierWaitResult};
pub use cancel_token::{CancelToken, Cancelled, DropGuard};
pub use condvar::{Condvar, WaitTimeoutResult};
pub use mutex::{LockFuture, Mutex, MutexGuard};
pub use notify::{Notified, Notify};
pub use once::{LazyLock, Once, OnceCell, OnceCell as OnceLock, OnceState};
pub use owned::{OwnedMutexGuard, OwnedPermit, OwnedRwLockReadGuard, OwnedRwLockWriteGuard};
pub use rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use semaphore::{Acquire, AcquireError, Permit, Semaphore, TryAcquireError};
pub use std::sync::{Arc, LockResult, PoisonError, TryLockError, TryLockResult, Weak, atomic};

use std::panic::{RefUnwindSafe, UnwindSafe};

// As std's: what a panic leaves half done is poisoned, or is not there.
impl<T: ?Sized> UnwindSafe for Mutex<T> {}
impl<T: ?Sized> RefUnwindSafe for Mutex<T> {}
impl<T: ?Sized> UnwindSafe for RwLock<T> {}
impl<T: ?Sized> RefUnwindSafe for RwLock<T> {}
impl<T: UnwindSafe> UnwindSafe for OnceCell<T> {}
impl<T: RefUnwindSafe + UnwindSafe> RefUnwindSafe for OnceCell<T> {}
impl<T: UnwindSafe, F: UnwindSafe> UnwindSafe for LazyLock<T, F> {}
impl<T: RefUnwindSafe + UnwindSafe, F: UnwindSafe> RefUnwindSafe for LazyLock<T, F> {}
impl UnwindSafe for Once {}
impl RefUnwindSafe for Once {}
impl UnwindSafe for Condvar {}
impl RefUnwindSafe for Condvar {}
impl UnwindSafe for Barrier {}
impl RefUnwindSafe for Barrier {}
impl<T> UnwindSafe for channel::Sender<T> {}
impl<T> RefUnwindSafe for channel::Sender<T> {}
impl<T> UnwindSafe for channel::Receiver<T> {}
impl<T> RefUnwindSafe for channel::Receiver<T> {}

#[cfg(test)]
mod tests {
    use super::channel::{Receiver, RecvFuture, Select, SendFuture, Sender};
    use super::*;
    use std::cell::Cell;

    /// Compiles only if the bounds are as promised; the refusals are
    /// `compile_fail` examples at the types.
    #[test]
    fn bounds_are_as_promised() {
        fn send<T: Send>() {}
        fn sync<T: Sync>() {}
        // `Cell` is `Send` but not `Sync`.
        send::<Mutex<Cell<u8>>>();
        sync::<Mutex<Cell<u8>>>();
        send::<MutexGuard<'_, Cell<u8>>>();
        sync::<MutexGuard<'_, u8>>();
        send::<LockFuture<'_, Cell<u8>>>();
        send::<RwLock<Cell<u8>>>();
        sync::<RwLock<u8>>();
        send::<RwLockReadGuard<'_, u8>>();
        send::<RwLockWriteGuard<'_, u8>>();
        send::<OnceCell<Cell<u8>>>();
        sync::<OnceCell<u8>>();
        sync::<LazyLock<u8, Box<dyn FnOnce() -> u8 + Send>>>();
        sync::<(Condvar, Barrier, Semaphore, Notify, Once)>();
        sync::<(CancelToken, Cancelled<'_>, DropGuard)>();
        send::<(CancelToken, Cancelled<'_>, DropGuard)>();
        send::<(Permit<'_>, Acquire<'_>, Notified<'_>)>();
        send::<(Sender<Cell<u8>>, Receiver<Cell<u8>>)>();
        sync::<(Sender<Cell<u8>>, Receiver<Cell<u8>>)>();
        send::<(SendFuture<'_, Cell<u8>>, RecvFuture<'_, Cell<u8>>)>();
        send::<Select<'_, '_>>();
        send::<(OwnedMutexGuard<Cell<u8>>, OwnedPermit)>();
        sync::<(OwnedMutexGuard<u8>, OwnedPermit)>();
        send::<(OwnedRwLockReadGuard<u8>, OwnedRwLockWriteGuard<u8>)>();
        send::<(oneshot::Sender<Cell<u8>>, oneshot::Receiver<Cell<u8>>)>();
        send::<(broadcast::Sender<u8>, broadcast::Receiver<u8>)>();
        send::<(watch::Sender<u8>, watch::Receiver<u8>)>();
    }
}
