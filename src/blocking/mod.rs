//! `spawn_blocking`: closures of yours that block, on [helper
//! threads](crate::blocking::threads).
//!
//! A coroutine that joins one parks, and its worker goes on. The hooks of `fsync`,
//! `getaddrinfo` and their like use the same threads.
//!
//! One pool serves the process (the hooks have others, which closures that wait
//! can't use up). A thread starts when there is work and none is
//! idle, up to a limit ([`set_max_threads`], 64 unless it is called); work
//! beyond that waits in line. A thread that has had nothing to do for ten
//! seconds leaves. A child after `fork` begins with an empty pool.
//!
//! A closure that has not begun is dropped when its handle is; one
//! that has runs to its end and its result is dropped.

use crate::helpers;
use crate::runtime::join_handle::JoinHandle;

pub use helpers::{queued, set_max_threads, threads};

/// Runs a closure that blocks on a helper thread, and returns the handle to
/// join it by: from a coroutine, from a thread, or as a future.
///
/// For what no hook turns into parking: long computations, libraries that wait
/// by themselves, many small calls on files. The closure may use sockets and
/// locks as any thread may. Works outside a runtime, too.
///
/// Dropping the handle drops a closure that has not begun, and lets one that
/// has run to its end; so does [`JoinHandle::cancel`]. Closures that wait for
/// each other can use up all threads: such things belong in coroutines.
///
/// # Examples
///
/// ```
/// let sum = crore::run(|| {
///     let sum = crore::spawn_blocking(|| (1..=1_000_000u64).sum::<u64>());
///     // Other coroutines run meanwhile.
///     sum.join().unwrap()
/// })?;
/// assert_eq!(sum, 500_000_500_000);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn spawn_blocking<F, T>(f: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    JoinHandle::new(helpers::start(f, helpers::Pool::Users))
}

#[cfg(test)]
mod tests;
