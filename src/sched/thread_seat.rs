//! The seat of a thread that is a coroutine: its TLS block, from before it starts until
//! nobody may ask for it any more.
//!
//! Others know a thread by its block's address (`pthread_t`). So its creator makes the
//! block, and whoever joins or forgets the thread lets it go: reused before that, the
//! address would mean two threads. The worker that runs the coroutine has the
//! block in between.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::sys::tls::TlsBlock;
use crate::util::no_park::NoParkMutex;

/// What is common to the thread's seat and to all who know the thread.
#[derive(Debug)]
pub(crate) struct ThreadBlock {
    /// Not while the coroutine runs, which has it.
    block: NoParkMutex<Option<TlsBlock>>,
    address: usize,
    number: u32,
    /// The address of its start routine.
    start: usize,
    /// Where its stack begins and how long it is, once it has started.
    stack: [AtomicUsize; 2],
    /// Told when the coroutine has ended, or never will run.
    ended: fn(&Arc<ThreadBlock>),
}

impl ThreadBlock {
    /// A block for a thread with this start routine, and the seat that its coroutine is spawned with. `ended`
    /// is called by a worker, or by whoever drops a seat that was not taken.
    ///
    /// # Errors
    ///
    /// No memory, or there are no blocks here.
    #[cfg_attr(
        not(feature = "futex"),
        allow(dead_code, reason = "for the hooks of threads")
    )]
    pub(crate) fn new(start: usize, ended: fn(&Arc<Self>)) -> io::Result<(Arc<Self>, ThreadSeat)> {
        let block = TlsBlock::new()?;
        let this = Arc::new(Self {
            address: block.address(),
            number: block.number(),
            block: NoParkMutex::new(Some(block)),
            start,
            stack: Default::default(),
            ended,
        });
        Ok((Arc::clone(&this), ThreadSeat(this)))
    }

    /// What others know the thread by.
    #[cfg_attr(not(feature = "futex"), allow(dead_code, reason = "for hooks"))]
    pub(crate) fn address(&self) -> usize {
        self.address
    }

    /// What stands for its number, which the kernel gives nobody.
    #[cfg_attr(
        not(feature = "futex"),
        allow(dead_code, reason = "for the hooks of threads")
    )]
    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// The lowest byte and the length of its stack; zeros before it has started.
    #[cfg_attr(not(feature = "futex"), allow(dead_code, reason = "for hooks"))]
    pub(crate) fn stack(&self) -> (usize, usize) {
        let [limit, len] = &self.stack;
        // In this order: who sees a length sees where it begins.
        let len = len.load(Ordering::Acquire);
        (limit.load(Ordering::Relaxed), len)
    }
}

/// Held by whoever is to run the thread's coroutine.
#[derive(Debug)]
pub(crate) struct ThreadSeat(Arc<ThreadBlock>);

impl ThreadSeat {
    /// The coroutine starts, on this stack: takes the block.
    pub(super) fn begin(&self, (limit, len): (usize, usize)) -> TlsBlock {
        let [at, long] = &self.0.stack;
        at.store(limit, Ordering::Relaxed);
        long.store(len, Ordering::Release);
        let block = self.0.block.lock().take();
        block.expect("a thread starts once")
    }

    /// The address of the thread's start routine.
    pub(super) fn start(&self) -> usize {
        self.0.start
    }

    /// The coroutine has ended: nothing runs with the block.
    pub(super) fn give_back(self, block: TlsBlock) {
        *self.0.block.lock() = Some(block);
    }
}

impl Drop for ThreadSeat {
    fn drop(&mut self) {
        (self.0.ended)(&self.0);
    }
}
