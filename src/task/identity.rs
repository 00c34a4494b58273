//! `Coroutine`: what a task is known by, and its name. One lies in each task cell.

use std::fmt;
use std::sync::Arc;

use super::Addr;
use super::provisional_id::{self, EarlyRequests};
use crate::shim::atomic::{AtomicU64, Ordering};

/// A handle on a coroutine that does not wait for it, after
/// [`std::thread::Thread`].
///
/// ```
/// crore::run(|| {
///     let me = crore::current();
///     let other = crore::spawn(move || me.unpark());
///     crore::park();
///     other.join().unwrap();
/// }).unwrap();
/// ```
pub struct Coroutine {
    /// The task's address once it has one; before that, if it was asked for, a
    /// provisional id. Zero until then. Set once.
    identity: AtomicU64,
    name: Option<Arc<str>>,
}

impl Coroutine {
    pub(crate) fn new(identity: Option<Addr>, name: Option<Arc<str>>) -> Self {
        Self {
            identity: AtomicU64::new(identity.map_or(0, Addr::to_bits)),
            name,
        }
    }

    /// What the task is known by. A task that has no address yet, because any
    /// worker may still take it, gets a provisional one.
    pub(crate) fn identity(&self) -> Addr {
        if let Some(known) = self.known() {
            return known;
        }
        let fresh = provisional_id::create();
        self.set_identity(fresh).unwrap_or_else(|known| {
            provisional_id::discard(fresh);
            known
        })
    }

    /// `Err` with what it is known by already.
    fn set_identity(&self, addr: Addr) -> Result<Addr, Addr> {
        let (new, relaxed) = (addr.to_bits(), Ordering::Relaxed);
        match self.identity.compare_exchange(0, new, relaxed, relaxed) {
            Ok(_) => Ok(addr),
            Err(known) => Err(Addr::from_bits(known)),
        }
    }

    /// A worker has taken the task and put it at `addr`. The provisional id that it is
    /// known by already, if it is, which leads to `addr` from now on, and what was
    /// requested by it before.
    pub(crate) fn place(&self, addr: Addr) -> Option<(Addr, EarlyRequests)> {
        let id = self.set_identity(addr).err()?;
        Some((id, provisional_id::resolve(id, addr)))
    }

    /// The identity, if the task has one.
    pub(crate) fn known(&self) -> Option<Addr> {
        let bits = self.identity.load(Ordering::Relaxed);
        (bits != 0).then(|| Addr::from_bits(bits))
    }

    /// The name that its [`Builder`](crate::Builder) gave it.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }
}

impl Clone for Coroutine {
    fn clone(&self) -> Self {
        Self::new(Some(self.identity()), self.name.clone())
    }
}

impl fmt::Debug for Coroutine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Coroutine")
            .field("id", &self.known())
            .field("name", &self.name)
            .finish()
    }
}
