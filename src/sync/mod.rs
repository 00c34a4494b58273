//! Synchronisation between coroutines, threads and futures, after `std::sync`.
mod barrier;
pub mod channel;
mod condvar;
#[cfg(all(test, loom))]
mod loom_tests;
mod mutex;
mod notify;
mod once;
mod poison;
mod raw_mutex;
mod rwlock;
mod semaphore;
mod waiters;

pub use barrier::{Barrier, BarrierWaitResult};
pub use condvar::{Condvar, WaitTimeoutResult};
pub use mutex::{LockFuture, Mutex, MutexGuard};
pub use notify::{Notified, Notify};
pub use once::{LazyLock, Once, OnceCell};
pub use rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use semaphore::{Acquire, AcquireError, Permit, Semaphore, TryAcquireError};
pub use std::sync::{LockResult, PoisonError, TryLockError, TryLockResult};
