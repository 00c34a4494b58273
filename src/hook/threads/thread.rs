//! The threads of this process that are coroutines, by `pthread_t`.

use std::collections::BTreeMap;
use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use libc::{pthread_attr_t, pthread_t, stack_t};

use super::pending::{PendingSignals, SentSignal};
use crate::hook::futex::{futex_wait_until, futex_wake_all};
use crate::hook::wait::interrupt::{Verdict, taken};
use crate::sched::{CurrentTask, ThreadBlock};
use crate::sys::fork::PerProcess;
use crate::sys::syscall;
use crate::util::no_park::NoParkMutex;

/// A forked child has none of its parent's.
static THREADS: PerProcess<NoParkMutex<BTreeMap<usize, Arc<Thread>>>> = PerProcess::new();

/// How many there have ever been: mostly none, and then nobody looks for one.
static EVER: AtomicUsize = AtomicUsize::new(0);

/// Bits of [`Thread::state`].
const ENDED: u32 = 1;
const DETACHED: u32 = 2;
const JOINING: u32 = 4;

/// Bits of [`Thread::handled`].
const RESTARTS: u32 = 1;
const FAILS: u32 = 2;

/// The process's main thread, where that is a coroutine, by `pthread_t`.
static MAIN: AtomicUsize = AtomicUsize::new(0);

/// A thread that is a coroutine, known until it is joined, or has ended detached.
pub(crate) struct Thread {
    block: Arc<ThreadBlock>,
    /// Whether it has ended, and who may forget it. Joiners wait at it by futex.
    state: AtomicU32,
    /// What joining it gives.
    result: AtomicPtr<c_void>,
    /// The thread that it joins now, or 0.
    joins: AtomicUsize,
    /// Bytes of its stack's guard.
    guard: usize,
    pub(super) name: NoParkMutex<Name>,
    /// The signals that it blocks.
    pub(super) mask: NoParkMutex<u64>,
    /// Signals that others have sent it and that it blocks.
    pub(super) pending: PendingSignals,
    /// The kernel's number of its worker, which counts its mask; 0 before it begins.
    tid: AtomicU32,
    /// Handlers have run that let calls go on ([`RESTARTS`]), or do not ([`FAILS`]), for
    /// it, and what it waits in does not know yet.
    handled: AtomicU32,
    /// Its task, once it has begun; 0 before.
    pub(super) task: AtomicU64,
    /// Somebody has cancelled it, of which libc does not know yet.
    pub(super) cancelled: AtomicBool,
    /// What it has said of a signal stack.
    pub(super) alt_stack: NoParkMutex<Option<Box<NotedAltStack>>>,
}

/// As the kernel keeps names: 15 bytes and a NUL.
pub(super) type Name = [u8; 16];

/// A signal stack that a thread has set.
#[derive(Clone, Copy)]
pub(super) struct NotedAltStack(pub(super) stack_t);

// SAFETY: an address that is only handed back.
unsafe impl Send for NotedAltStack {}

/// How many there are now.
pub(super) fn count() -> usize {
    THREADS.get().lock().len()
}

impl Thread {
    /// Makes it known.
    pub(super) fn add(
        block: Arc<ThreadBlock>,
        detached: bool,
        guard: usize,
        mask: u64,
    ) -> Arc<Self> {
        let this = Arc::new(Self {
            state: AtomicU32::new(if detached { DETACHED } else { 0 }),
            result: AtomicPtr::default(),
            joins: AtomicUsize::new(0),
            guard,
            name: NoParkMutex::new(inherited_name()),
            mask: NoParkMutex::new(mask),
            pending: PendingSignals::default(),
            tid: AtomicU32::new(0),
            handled: AtomicU32::new(0),
            task: AtomicU64::new(0),
            cancelled: AtomicBool::new(false),
            alt_stack: NoParkMutex::default(),
            block,
        });
        EVER.fetch_add(1, Ordering::Relaxed);
        let mut threads = THREADS.get().lock();
        let before = threads.insert(this.block.address(), Arc::clone(&this));
        debug_assert!(before.is_none(), "a block is used again too early");
        this
    }

    /// The coroutine that others know as this thread.
    #[inline(always)]
    pub(crate) fn find(thread: pthread_t) -> Option<Arc<Self>> {
        if EVER.load(Ordering::Relaxed) == 0 {
            return None;
        }
        THREADS.get().lock().get(&(thread as usize)).cloned()
    }

    /// The thread that the running code is, if it is a coroutine.
    pub(crate) fn current() -> Option<Arc<Self>> {
        // SAFETY: no preconditions.
        Self::find(unsafe { libc::pthread_self() })
    }

    /// The process's main thread, while it is a coroutine.
    pub(super) fn main() -> Option<Arc<Self>> {
        match MAIN.load(Ordering::Acquire) {
            0 => None,
            main => Self::find(main as pthread_t),
        }
    }

    /// It is the process's main thread.
    pub(super) fn set_main(&self) {
        MAIN.store(self.block.address(), Ordering::Release);
    }

    /// Some thread that is so.
    pub(super) fn any(is: impl Fn(&Self) -> bool) -> Option<Arc<Self>> {
        let threads = THREADS.get().lock();
        threads.values().find(|thread| is(thread)).cloned()
    }

    pub(super) fn blocks(&self, signal: c_int) -> bool {
        *self.mask.lock() >> (signal - 1) & 1 != 0
    }

    /// Whether it runs, or waits.
    pub(super) fn has_begun(&self) -> bool {
        self.tid() != 0 && self.state.load(Ordering::Acquire) & ENDED == 0
    }

    /// A handler of its has run.
    pub(super) fn note_handled(&self, restarts: bool) {
        let how = if restarts { RESTARTS } else { FAILS };
        self.handled.fetch_or(how, Ordering::AcqRel);
    }

    pub(super) fn has_handled(&self) -> bool {
        self.handled.load(Ordering::Acquire) != 0
    }

    /// What handlers that have run since mean to the call that it waits in.
    pub(super) fn take_handled(&self) -> Verdict {
        match self.handled.swap(0, Ordering::AcqRel) {
            0 => Verdict::Nothing,
            RESTARTS => Verdict::Restart,
            _ => Verdict::Fail,
        }
    }

    /// What stands for its number at the kernel.
    pub(super) fn number(&self) -> u32 {
        self.block.number()
    }

    pub(super) fn id(&self) -> pthread_t {
        self.block.address() as pthread_t
    }

    /// Nobody asks for it any more: its block may be used again.
    pub(super) fn forget(&self) {
        let gone = THREADS.get().lock().remove(&self.block.address());
        drop(gone);
    }

    /// What joining it is to give.
    pub(super) fn set_result(&self, value: *mut c_void) {
        self.result.store(value, Ordering::Relaxed);
    }

    /// It begins; the mask that it has.
    pub(super) fn begin(&self) -> u64 {
        self.tid.store(syscall::tid(), Ordering::Relaxed);
        *self.mask.lock()
    }

    /// It has ended; the mask that it had, if it ever began.
    pub(super) fn end(&self) -> Option<u64> {
        (self.tid() != 0).then(|| *self.mask.lock())
    }

    pub(super) fn tid(&self) -> u32 {
        self.tid.load(Ordering::Relaxed)
    }

    /// Whether there are signals that were sent to it and that it lets in.
    pub(super) fn has_sent(&self) -> bool {
        self.pending.kinds() & !*self.mask.lock() != 0
    }

    /// Takes one of the signals in `set` that wait for it.
    pub(crate) fn take_pending(&self, set: u64) -> Option<SentSignal> {
        self.pending.take(set)
    }

    /// It has ended: whoever waits for that is told.
    pub(super) fn tell_of_end(&self) {
        let before = self.state.fetch_or(ENDED, Ordering::AcqRel);
        if before & DETACHED != 0 {
            self.forget();
        } else {
            futex_wake_all(self.state.as_ptr());
        }
    }

    /// Whether it can be joined no more.
    pub(super) fn is_detached(&self) -> bool {
        self.state.load(Ordering::Acquire) & DETACHED != 0
    }

    /// As `pthread_detach`.
    pub(super) fn detach(&self) -> c_int {
        let detach = |state| (state & (DETACHED | JOINING) == 0).then_some(state | DETACHED);
        let order = Ordering::AcqRel;
        match self.state.fetch_update(order, Ordering::Acquire, detach) {
            Err(_) => libc::EINVAL,
            Ok(before) => {
                if before & ENDED != 0 {
                    self.forget();
                }
                0
            }
        }
    }

    /// Waits for its end, until `deadline` if there is one.
    ///
    /// # Safety
    ///
    /// - A place for the result, or null.
    pub(crate) unsafe fn join(&self, value: *mut *mut c_void, deadline: Option<Instant>) -> c_int {
        let joiner = Self::current();
        // Before the look at whom the other joins: of two that join each other one at
        // least sees it.
        let joins = |whom| {
            if let Some(joiner) = &joiner {
                joiner.joins.store(whom, Ordering::SeqCst);
            }
        };
        joins(self.block.address());
        let code = self.wait_for_end(deadline);
        joins(0);
        if code == 0 {
            // SAFETY: the caller's place.
            if let Some(value) = unsafe { value.as_mut() } {
                *value = self.result.load(Ordering::Relaxed);
            }
            self.forget();
        }
        code
    }

    fn wait_for_end(&self, deadline: Option<Instant>) -> c_int {
        // SAFETY: no preconditions.
        let this = unsafe { libc::pthread_self() } as usize;
        // Nobody would ever see the end of itself, nor of who waits for it.
        if this == self.block.address() || self.joins.load(Ordering::SeqCst) == this {
            return libc::EDEADLK;
        }
        let claim = |state| (state & (DETACHED | JOINING) == 0).then_some(state | JOINING);
        let order = Ordering::AcqRel;
        if self
            .state
            .fetch_update(order, Ordering::Acquire, claim)
            .is_err()
        {
            return libc::EINVAL;
        }
        loop {
            let state = self.state.load(Ordering::Acquire);
            if state & ENDED != 0 {
                return 0;
            }
            if deadline.is_some_and(|at| Instant::now() >= at) {
                self.state.fetch_and(!JOINING, Ordering::AcqRel);
                return libc::ETIMEDOUT;
            }
            // A cancellation point, unlike other waits by futex.
            if matches!(
                CurrentTask::current().and_then(taken),
                Some(Verdict::Cancel)
            ) {
                self.state.fetch_and(!JOINING, Ordering::AcqRel);
                return libc::EINTR;
            }
            futex_wait_until(&self.state, state, deadline);
        }
    }

    /// As `pthread_getattr_np`. `ESRCH` before it has started: it has no stack yet.
    ///
    /// # Safety
    ///
    /// - A place for the attributes.
    pub(crate) unsafe fn attributes(&self, attr: *mut pthread_attr_t) -> c_int {
        let (limit, len) = self.block.stack();
        if len == 0 {
            return libc::ESRCH;
        }
        let state = if self.is_detached() {
            libc::PTHREAD_CREATE_DETACHED
        } else {
            libc::PTHREAD_CREATE_JOINABLE
        };
        let mut fresh = MaybeUninit::<pthread_attr_t>::uninit();
        // SAFETY: attributes of ours, made first; the caller's place.
        unsafe {
            let at = fresh.as_mut_ptr();
            for made in [
                libc::pthread_attr_init(at),
                libc::pthread_attr_setstack(at, ptr::with_exposed_provenance_mut(limit), len),
                libc::pthread_attr_setguardsize(at, self.guard),
                libc::pthread_attr_setdetachstate(at, state),
            ] {
                if made != 0 {
                    return made;
                }
            }
            attr.write(fresh.assume_init());
        }
        0
    }
}

/// A new thread has its creator's name.
fn inherited_name() -> Name {
    if let Some(creator) = Thread::current() {
        return *creator.name.lock();
    }
    let mut name = [0; 16];
    // SAFETY: a place for 16 bytes.
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    name
}
