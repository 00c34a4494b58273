//! TLS blocks of one worker: those of its coroutines that have thread-locals of
//! their own, and free ones.
//!
//! What a block is, and why libc takes it for a thread's, is in `sys/tls`; how a
//! worker changes to one and back in `own_tls.rs`.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::io;
use std::mem;
use std::ptr;

use slab::Slab;

use super::thread_seat::ThreadSeat;
use crate::stack::StackBounds;
use crate::switch::{EntryPoint, FpControl};
use crate::sys::tls::{self, ThreadPointer, TlsBlock};
use crate::task::{Addr, Flags, Slot};

/// The own thread-locals of one coroutine: their block, and what is to be done with
/// it.
pub(super) struct OwnTls {
    pub(super) block: TlsBlock,
    /// What the carrier is to run next, instead of going on.
    pub(super) entry: Cell<*const EntryPoint>,
    /// Set once the coroutine's closure has unwound: with what.
    pub(super) payload: Cell<Option<Box<dyn Any + Send>>>,
    /// Destructors of thread-locals run: they must not be unwound.
    pub(super) ending: Cell<bool>,
    /// How it computes; at first as the thread does.
    pub(super) fp_control: Cell<FpControl>,
    /// The thread that it stands for: its block is not this worker's.
    thread: Option<ThreadSeat>,
}

/// The blocks of one worker.
pub(super) struct TlsBlocks {
    /// This thread's own.
    pub(super) thread: ThreadPointer,
    /// Of those that have started; their slots say which. Each stays
    /// where it is.
    used: RefCell<Slab<Box<OwnTls>>>,
    /// Those that wait for a coroutine, the one used last at the end.
    free: RefCell<Vec<TlsBlock>>,
    most: usize,
    /// The worker's number, under which the thread is noted.
    worker: usize,
}

impl Drop for TlsBlocks {
    fn drop(&mut self) {
        tls::unregister_thread(self.worker);
    }
}

// Number 0 is that of a forked child's first thread.
const _: () = assert!(Addr::MAX_WORKERS as usize <= tls::MAX_THREADS);

impl TlsBlocks {
    /// Made on the thread that uses it, the worker of this number.
    pub(super) fn new(most: usize, worker: u32) -> Self {
        let worker = worker as usize;
        tls::register_thread(worker);
        Self {
            worker,
            thread: ThreadPointer::current(),
            used: RefCell::default(),
            free: RefCell::default(),
            most,
        }
    }

    /// A block for a task that starts on this stack.
    ///
    /// # Errors
    ///
    /// No memory, or there are none here.
    pub(super) fn take(
        &self,
        slot: &Slot,
        stack: StackBounds,
        thread: Option<ThreadSeat>,
    ) -> io::Result<()> {
        let (limit, base) = (stack.limit.get(), stack.base.get());
        let stack = (limit, base - limit);
        let block = match &thread {
            Some(seat) => seat.begin(stack),
            None => {
                let free = self.free.borrow_mut().pop();
                free.map_or_else(TlsBlock::new, Ok)?
            }
        };
        // SAFETY: a block in the pool is free: its coroutine has ended; one in a seat is
        // this task's, which has not begun. This runs on the worker's stack, and uses no
        // thread-local here (I12).
        let block = unsafe { block.renew(stack) }?;
        let own = Box::new(OwnTls {
            block,
            entry: Cell::new(ptr::null()),
            payload: Cell::default(),
            ending: Cell::new(false),
            fp_control: Cell::new(FpControl::current()),
            thread,
        });
        let index = self.used.borrow_mut().insert(own);
        slot.set_tls_index(u32::try_from(index).expect("fewer blocks than slots"));
        Ok(())
    }

    /// The task has ended, destructors and all.
    pub(super) fn give(&self, slot: &Slot) {
        let own = *self.remove(slot);
        if let Some(seat) = own.thread {
            return seat.give_back(own.block);
        }
        let mut free = self.free.borrow_mut();
        if free.len() < self.most {
            free.push(own.block);
        }
    }

    /// The task is never resumed, and others may still point to its
    /// thread-locals: the block is as lost as the stack (I6). Of a thread, those who
    /// wait for its end are told.
    pub(super) fn abandon(&self, slot: &Slot) {
        let mut own = self.remove(slot);
        let thread = own.thread.take();
        mem::forget(own);
        drop(thread);
    }

    /// The address of the start routine of the thread that a task stands for, that has started.
    /// May be called by a signal handler on the worker's thread.
    pub(super) fn start_routine(&self, slot: &Slot) -> Option<usize> {
        let used = self.used.try_borrow().ok();
        let used = used.filter(|_| slot.has(Flags::OWN_TLS))?;
        let own = used.get(slot.tls_index() as usize)?;
        own.thread.as_ref().map(ThreadSeat::start)
    }

    fn remove(&self, slot: &Slot) -> Box<OwnTls> {
        self.used.borrow_mut().remove(slot.tls_index() as usize)
    }

    /// What a task has, that has started.
    #[inline(always)]
    pub(super) fn of(&self, slot: &Slot) -> &OwnTls {
        debug_assert!(slot.has(Flags::OWN_TLS));
        let own = ptr::from_ref(&*self.used.borrow()[slot.tls_index() as usize]);
        // SAFETY: boxed, and there until the task has ended, which no caller's
        // use of it outlasts.
        unsafe { &*own }
    }
}
