//! The raw mutex (a lock without a value) below [`Mutex`](super::Mutex): one
//! word, and a queue for those that found it taken.
//!
//! ```text
//!   word: LOCKED   the lock is held
//!         QUEUED   the holder must look at the queue when it lets go
//!                  (always set while the queue is not empty)
//! ```
//!
//! An unlock wakes the first waiter but leaves the lock open, so that running
//! code may take it at once (barging): else a busy lock would cost a switch each
//! time. The waiter that was woken tries again; if it was overtaken, it goes
//! back to the front and asks for the *hand-over*: the next unlock gives it the
//! lock without opening it. So a waiter is overtaken only while it is on its way
//! from one wake-up to its next poll.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::holder::LockHolder;
use super::waiters::{WaiterKey, Waiters, WakeList};
use crate::block_on::block_on;
use crate::sched::{contended, waiting};
use crate::shim::atomic::{AtomicU32, Ordering};
use crate::shim::{Lock, const_fn};

const LOCKED: u32 = 1;
const QUEUED: u32 = 2;

pub(super) struct RawMutex {
    word: AtomicU32,
    holder: LockHolder,
    queue: Lock<Queue>,
}

struct Queue {
    waiters: Waiters<MutexWaiter>,
    /// A waiter is in state `Woken`: it will look at the lock by itself, so
    /// the next unlock need not wake another.
    woken: bool,
}

/// How far a waiter has come.
enum MutexWaiter {
    /// Queued, not yet woken.
    Waiting,
    /// Queued again after it was overtaken: the next unlock is for it.
    Overtaken,
    /// Taken off the queue, with the lock open: it has to try.
    Woken,
    /// Taken off the queue, the lock is its own.
    Granted,
}

impl RawMutex {
    const_fn! {
        pub(super) const fn new() -> Self {
            Self {
                word: AtomicU32::new(0),
                holder: LockHolder::new(),
                queue: Lock::new(Queue { waiters: Waiters::new(), woken: false }),
            }
        }
    }

    #[inline]
    pub(super) fn try_lock(&self) -> bool {
        let mut word = self.word.load(Ordering::Relaxed);
        while word & LOCKED == 0 {
            match self.word.compare_exchange_weak(
                word,
                word | LOCKED,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => {
                    self.holder.takes();
                    return true;
                }
                Err(now) => word = now,
            }
        }
        false
    }

    /// Takes the lock, whoever has to wait for that.
    #[inline]
    pub(super) fn lock_blocking(&self) {
        if !self.try_lock() {
            waiting(self.holder.awaited(), || {
                let _measured = contended();
                block_on(self.lock());
            });
        }
    }

    /// The future of holding the lock.
    pub(super) fn lock(&self) -> RawLock<'_> {
        RawLock {
            mutex: self,
            key: None,
        }
    }

    /// Lets go. The caller holds the lock.
    #[inline]
    pub(super) fn unlock(&self) {
        self.holder.leaves();
        if self
            .word
            .compare_exchange(LOCKED, 0, Ordering::Release, Ordering::Relaxed)
            .is_err()
        {
            self.unlock_queued();
        }
    }

    #[cold]
    fn unlock_queued(&self) {
        let mut wakes = WakeList::new();
        let mut queue = self.queue.lock();
        if matches!(queue.waiters.first(), Some(MutexWaiter::Overtaken)) {
            if let Some(waiter) = queue.waiters.take_first(&mut wakes) {
                *waiter = MutexWaiter::Granted;
            }
            if queue.waiters.is_empty() {
                self.word.fetch_and(!QUEUED, Ordering::Relaxed);
            }
        } else {
            self.word.fetch_and(!LOCKED, Ordering::Release);
            self.wake_first(&mut queue, &mut wakes);
        }
    }

    /// Sends the first in the queue to try, unless one is trying already.
    fn wake_first(&self, queue: &mut Queue, wakes: &mut WakeList) {
        if queue.woken {
            return;
        }
        if let Some(waiter) = queue.waiters.take_first(wakes) {
            *waiter = MutexWaiter::Woken;
            queue.woken = true;
        }
        if queue.waiters.is_empty() {
            self.word.fetch_and(!QUEUED, Ordering::Relaxed);
        }
    }

    /// Takes the lock, or makes sure that its holder looks at the queue, which
    /// the caller has locked and is about to enter.
    fn lock_or_announce(&self) -> bool {
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            let free = word & LOCKED == 0;
            let new = word | if free { LOCKED } else { QUEUED };
            match self
                .word
                .compare_exchange_weak(word, new, Ordering::Acquire, Ordering::Relaxed)
            {
                Ok(_) => return free,
                Err(now) => word = now,
            }
        }
    }
}

/// See [`RawMutex::lock`].
pub(super) struct RawLock<'a> {
    mutex: &'a RawMutex,
    key: Option<WaiterKey>,
}

impl Future for RawLock<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mutex = self.mutex;
        // Cloned before the lock and dropped after it: both may run foreign code.
        let waker = cx.waker().clone();
        let _old;
        let mut queue = mutex.queue.lock();
        let Some(key) = self.key else {
            if mutex.lock_or_announce() {
                mutex.holder.takes();
                return Poll::Ready(());
            }
            self.key = Some(queue.waiters.enqueue(MutexWaiter::Waiting, Some(waker)));
            return Poll::Pending;
        };
        match queue.waiters.payload(key) {
            MutexWaiter::Waiting | MutexWaiter::Overtaken => {
                _old = queue.waiters.set_waker(key, waker);
                Poll::Pending
            }
            MutexWaiter::Woken => {
                queue.woken = false;
                if mutex.lock_or_announce() {
                    mutex.holder.takes();
                    self.key = None;
                    _old = None;
                    let _ = queue.waiters.remove(key);
                    return Poll::Ready(());
                }
                *queue.waiters.payload(key) = MutexWaiter::Overtaken;
                queue.waiters.requeue_first(key, waker);
                Poll::Pending
            }
            MutexWaiter::Granted => {
                mutex.holder.takes();
                self.key = None;
                let _ = queue.waiters.remove(key);
                Poll::Ready(())
            }
        }
    }
}

impl Drop for RawLock<'_> {
    fn drop(&mut self) {
        let Some(key) = self.key else { return };
        let mut wakes = WakeList::new();
        let removed;
        let mut queue = self.mutex.queue.lock();
        removed = queue.waiters.remove(key);
        match removed.payload {
            MutexWaiter::Waiting | MutexWaiter::Overtaken => {}
            // It will not try: another has to.
            MutexWaiter::Woken => {
                queue.woken = false;
                self.mutex.wake_first(&mut queue, &mut wakes);
            }
            MutexWaiter::Granted => {
                drop(queue);
                self.mutex.unlock();
            }
        }
    }
}
