//! glibc's lists of threads (`_dl_stack_user` and two more), and their lock.
//!
//! glibc looks at every thread of the process in three situations: a library
//! that is loaded later gets static TLS, whose first values are written; a
//! library is unloaded, which waits for look-ups in progress; the process's user
//! changes, for which every thread is signalled. For the first two a block has to
//! be in a list. It enters that of threads with stacks of the program: glibc only
//! walks it (never reuses its memory; `fork` empties it in the child).
//!
//! The lock has no name, but a place: behind the three lists and two words.
//! [`super::probe`] proves it by holding it: glibc must wait for it.

use std::ptr;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use crate::sys::futex;

/// A node of the list, and its head.
#[repr(C)]
pub(super) struct ThreadNode {
    next: AtomicUsize,
    prev: AtomicUsize,
}

/// The lists as they lie in the linker's data: each closed in a circle.
#[repr(C)]
pub(super) struct ThreadLists {
    used: ThreadNode,
    user: ThreadNode,
    cache: ThreadNode,
    cached_bytes: AtomicUsize,
    in_flight: AtomicUsize,
    lock: AtomicU32,
}

impl ThreadLists {
    /// The lists around the one of this address.
    ///
    /// # Safety
    ///
    /// - It is the address of glibc's `_dl_stack_user`.
    pub(super) unsafe fn around(user: usize) -> &'static Self {
        let first = user - std::mem::offset_of!(Self, user);
        // SAFETY: the caller's word; what lies around it in `_rtld_global` may
        // be read as words at least.
        unsafe { &*ptr::with_exposed_provenance(first) }
    }

    /// Whether the words are such as they may be: of lists, and of a lock that
    /// is free. Others change them, so one look does not refute it.
    pub(super) fn look_right(&self) -> bool {
        let plausible = |head: &ThreadNode| {
            let next = head.next.load(Ordering::Relaxed);
            let prev = head.prev.load(Ordering::Relaxed);
            let own = address(head);
            let aligned = (next | prev) % align_of::<usize>() == 0;
            next != 0 && prev != 0 && aligned && (next == own) == (prev == own)
        };
        // Of whole pages most, but for threads that ask for less: those of glibc's own
        // `aio` and timers do.
        let aligned_bytes = self.cached_bytes.load(Ordering::Relaxed) % 16 == 0;
        [&self.used, &self.user, &self.cache]
            .into_iter()
            .all(plausible)
            && aligned_bytes
            && self.in_flight.load(Ordering::Relaxed) == 0
            && self.lock.load(Ordering::Relaxed) == 0
    }

    /// Whether each list leads back to where it begins.
    ///
    /// # Safety
    ///
    /// - The lock is held, and known to be the lock.
    pub(super) unsafe fn are_closed(&self) -> bool {
        [&self.used, &self.user, &self.cache]
            .into_iter()
            .all(|head| {
                // SAFETY: the lock is held: the head's neighbours stay.
                let (next, prev) = unsafe {
                    (
                        node(head.next.load(Ordering::Relaxed)),
                        node(head.prev.load(Ordering::Relaxed)),
                    )
                };
                next.prev.load(Ordering::Relaxed) == address(head)
                    && prev.next.load(Ordering::Relaxed) == address(head)
            })
    }

    /// Whether somebody waits for the lock, which is held.
    pub(super) fn is_waited_for(&self) -> bool {
        self.lock.load(Ordering::Relaxed) == 2
    }

    /// Runs `f` with glibc's lock held. No signal handler may come between
    /// that would need it; none of glibc's functions that do may be called
    /// from one.
    pub(super) fn locked<R>(&self, f: impl FnOnce() -> R) -> R {
        self.lock();
        let result = f();
        self.unlock();
        result
    }

    fn lock(&self) {
        let (acquire, relaxed) = (Ordering::Acquire, Ordering::Relaxed);
        if self.lock.compare_exchange(0, 1, acquire, relaxed).is_ok() {
            return;
        }
        while self.lock.swap(2, acquire) != 0 {
            futex::wait(&self.lock, 2, None);
        }
    }

    pub(super) fn try_lock(&self) -> bool {
        let (acquire, relaxed) = (Ordering::Acquire, Ordering::Relaxed);
        self.lock.compare_exchange(0, 1, acquire, relaxed).is_ok()
    }

    pub(super) fn unlock(&self) {
        if self.lock.swap(0, Ordering::Release) > 1 {
            futex::wake(&self.lock, 1);
        }
    }

    /// Puts a node at the head of the list.
    ///
    /// # Safety
    ///
    /// - The lock is held, or there is no other thread.
    /// - `at` is a block's node, in no list, whose memory stays until
    ///   [`ThreadLists::remove`].
    pub(super) unsafe fn insert(&self, at: usize) {
        let next = self.user.next.load(Ordering::Relaxed);
        // SAFETY: nodes of the list, which the lock keeps as they are.
        let (new, next_node) = unsafe { (node(at), node(next)) };
        new.next.store(next, Ordering::Relaxed);
        new.prev.store(address(&self.user), Ordering::Relaxed);
        next_node.prev.store(at, Ordering::Relaxed);
        self.user.next.store(at, Ordering::Release);
    }

    /// Takes a node out of its list.
    ///
    /// # Safety
    ///
    /// - The lock is held.
    /// - [`ThreadLists::insert`] put it there.
    pub(super) unsafe fn remove(&self, at: usize) {
        // SAFETY: as above.
        let gone = unsafe { node(at) };
        let next = gone.next.load(Ordering::Relaxed);
        let prev = gone.prev.load(Ordering::Relaxed);
        // SAFETY: as above.
        let (next_node, prev_node) = unsafe { (node(next), node(prev)) };
        next_node.prev.store(prev, Ordering::Relaxed);
        prev_node.next.store(next, Ordering::Relaxed);
    }

    /// Whether a node is in the list. For tests.
    #[cfg(test)]
    pub(super) fn holds(&self, at: usize) -> bool {
        self.locked(|| {
            let mut next = self.user.next.load(Ordering::Relaxed);
            while next != address(&self.user) && next != at {
                // SAFETY: the lock is held.
                next = unsafe { node(next) }.next.load(Ordering::Relaxed);
            }
            next == at
        })
    }
}

fn address(node: &ThreadNode) -> usize {
    ptr::from_ref(node).expose_provenance()
}

/// # Safety
///
/// - There is a node at the address, and stays while it is used.
unsafe fn node(at: usize) -> &'static ThreadNode {
    // SAFETY: the caller's word.
    unsafe { &*ptr::with_exposed_provenance(at) }
}
