//! Owners of recursive mutexes: which coroutine holds one that knows only its
//! thread.
//!
//! Looked at with the table locked, so the lock here is one that spins, and
//! the look does not allocate. Entries go when the mutex is released.

use std::collections::BTreeMap;
use std::ffi::c_int;
use std::sync::OnceLock;

use crate::shim::Lock;
use crate::task::Addr;

/// A coroutine, and the thread that the mutex takes it for.
pub(super) type Holder = (Addr, c_int);

type Map = Lock<BTreeMap<usize, Holder>>;

/// Not in a static itself: under loom a lock can't be.
static HOLDERS: OnceLock<Map> = OnceLock::new();

/// A worker begins: the map must not be made inside of a hook.
pub(super) fn begin() {
    HOLDERS.get_or_init(|| Lock::new(BTreeMap::new()));
}

/// How many mutexes are held.
pub(super) fn count() -> usize {
    HOLDERS.get().map_or(0, |map| map.lock().len())
}

pub(super) fn get(mutex: usize) -> Option<Holder> {
    HOLDERS.get()?.lock().get(&mutex).copied()
}

pub(super) fn set(mutex: usize, holder: Holder) {
    if let Some(map) = HOLDERS.get() {
        map.lock().insert(mutex, holder);
    }
}

pub(super) fn remove(mutex: usize) {
    if let Some(map) = HOLDERS.get() {
        map.lock().remove(&mutex);
    }
}
