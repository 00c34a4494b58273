//! Synchronisation between coroutines, threads and futures, after `std::sync`.
pub mod channel;
mod condvar;
mod mutex;
mod notify;
mod poison;
mod raw_mutex;
mod semaphore;
mod waiters;

pub use condvar::{Condvar, WaitTimeoutResult};
pub use mutex::{LockFuture, Mutex, MutexGuard};
pub use notify::{Notified, Notify};
pub use semaphore::{Acquire, AcquireError, Permit, Semaphore, TryAcquireError};
pub use std::sync::{LockResult, PoisonError, TryLockError, TryLockResult};
