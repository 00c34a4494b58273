//! Probe threads: two pthreads whose `struct pthread` and libc's thread-locals
//! are compared word by word, to learn what a thread's block must contain.
//!
//! That is not written down anywhere. The two are made the same way on two
//! stacks, and copy their words while those are still untouched. What differs
//! between the two, and how, says what each word is ([`super::template`]). Then
//! each does what makes libc allocate something per thread, so that the words
//! that hold it are known.
//!
//! They are made while the word that should be glibc's lock is held. If it is
//! the lock, the thread that makes them waits for it, which shows in the word;
//! if not, a thread is there although it could not be, and nothing is supported.

use std::ffi::{c_int, c_void};
use std::hint::black_box;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use std::{mem, ptr};

use super::Refusal;
use super::latch::Latch;
use super::layout::{GlibcLayout, function};
use super::list::ThreadLists;
use crate::sys::mem::{PAGE, Reserve};
use crate::sys::signal_mask::SignalMask;
use crate::sys::syscall::{self, sched_yield};
use crate::sys::thread_pointer;

/// What one of the two saw of itself.
#[derive(Debug, Default)]
pub(super) struct ProbeThread {
    pub(super) pointer: usize,
    pub(super) tid: u32,
    /// The lowest byte of its stack.
    pub(super) stack: usize,
    /// At the start, after using the heap, after asking for names that have to
    /// be made up.
    pub(super) at: [Snapshot; 3],
}

/// Copies, in words.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    /// The control block.
    pub(super) thread: Vec<usize>,
    /// libc's thread-locals.
    pub(super) libc: Vec<usize>,
}

/// Both, and the length of the stacks that they had.
pub(super) struct ProbePair {
    pub(super) seen: [ProbeThread; 2],
    pub(super) stack_len: usize,
}

/// What the threads share. It is never freed: the last of them raises `done`
/// and still has to end.
struct ProbeRun {
    layout: &'static GlibcLayout,
    lists: &'static ThreadLists,
    stacks: Reserve,
    stack_len: usize,
    /// The lock is held now.
    go: Latch,
    /// There is nothing more to wait for.
    done: Latch,
    /// What `pthread_create` said.
    error: AtomicU32,
    /// Where the thread that runs at present writes to.
    seen: AtomicPtr<ProbeThread>,
    written: [Latch; 2],
    results: [AtomicPtr<ProbeThread>; 2],
}

/// Looks at the lists until they are not just being changed: where threads begin and end
/// all the time, that takes some.
const LOOKS: u32 = 20_000;

/// Tries to prove the lock, in which other threads may come between.
const TRIES: u32 = 5;

/// Makes the two threads. The lists' lock is proven by the way.
pub(super) fn look(
    layout: &'static GlibcLayout,
    lists: &'static ThreadLists,
) -> Result<ProbePair, Refusal> {
    let unproven = || Err("the lock of its list of threads is not where it is expected".into());
    (0..TRIES)
        .find_map(|_| look_once(layout, lists).transpose())
        .unwrap_or_else(unproven)
}

/// As [`look`]; nothing if the lock was not proven.
fn look_once(
    layout: &'static GlibcLayout,
    lists: &'static ThreadLists,
) -> Result<Option<ProbePair>, Refusal> {
    // SAFETY: a null attribute stands for the defaults.
    let least = unsafe { (layout.min_stack)(ptr::null()) };
    let stack_len = (least + 64 * 1024).next_multiple_of(PAGE);
    let stacks = Reserve::new(2 * stack_len).map_err(|error| error.to_string())?;
    let words = layout.control().1 / size_of::<usize>();
    let libc_words = layout.libc.1 / size_of::<usize>();
    // Room for all that the threads write: they must not use the heap.
    let empty = || ProbeThread {
        at: [(); 3].map(|()| Snapshot {
            thread: vec![0; words],
            libc: vec![0; libc_words],
        }),
        ..ProbeThread::default()
    };
    let results = [(); 2].map(|()| AtomicPtr::new(Box::into_raw(Box::new(empty()))));
    let shared: &'static ProbeRun = Box::leak(Box::new(ProbeRun {
        layout,
        lists,
        stacks,
        stack_len,
        go: Latch::default(),
        done: Latch::default(),
        error: AtomicU32::new(0),
        seen: AtomicPtr::default(),
        written: Default::default(),
        results,
    }));
    let proven = with_signals_blocked(|| shared.run())?;
    if !proven {
        return Ok(None);
    }
    // SAFETY: `done` is up: nobody else uses the boxes any more.
    let take = |at: &AtomicPtr<ProbeThread>| *unsafe { Box::from_raw(at.load(Ordering::Acquire)) };
    Ok(Some(ProbePair {
        seen: [take(&shared.results[0]), take(&shared.results[1])],
        stack_len,
    }))
}

impl ProbeRun {
    /// Whether the lock is the lock.
    fn run(&'static self) -> Result<bool, Refusal> {
        let looks_right = (0..LOOKS).any(|_| {
            sched_yield();
            self.lists.look_right()
        });
        if !looks_right {
            return Ok(false);
        }
        // The maker has to exist before the lock is held.
        // SAFETY: the function below; what it is given lives for ever.
        unsafe { spawn(None, maker, ptr::from_ref(self).cast_mut().cast()) }
            .map_err(cannot_create)?;
        while !self.lists.try_lock() {
            sched_yield();
        }
        self.go.raise();
        while !self.lists.is_waited_for() && !self.done.is_up() {
            sched_yield();
        }
        // SAFETY: if somebody waits for it, it is the lock, and it is held.
        let proven = self.lists.is_waited_for() && unsafe { self.lists.are_closed() };
        self.lists.unlock();
        self.done.wait();
        match self.error.load(Ordering::Acquire) {
            0 => Ok(proven),
            code => Err(cannot_create(code as i32)),
        }
    }
}

fn cannot_create(code: c_int) -> Refusal {
    format!(
        "a thread to look at can't be made: {}",
        std::io::Error::from_raw_os_error(code)
    )
}

/// Makes both threads, one after the other.
extern "C" fn maker(shared: *mut c_void) -> *mut c_void {
    // SAFETY: what `run` gave it; it is never freed.
    let shared = unsafe { &*shared.cast::<ProbeRun>() };
    shared.go.wait();
    for (which, result) in shared.results.iter().enumerate() {
        let seen = result.load(Ordering::Acquire);
        let stack = shared.stacks.base().wrapping_add(which * shared.stack_len);
        // SAFETY: the box is used by that thread alone until it has written.
        unsafe { (*seen).stack = stack.expose_provenance() };
        shared.seen.store(seen, Ordering::Release);
        let stack = Some((stack, shared.stack_len));
        // SAFETY: the function below; its stack is never unmapped.
        match unsafe { spawn(stack, model, ptr::from_ref(shared).cast_mut().cast()) } {
            Ok(()) => shared.written[which].wait(),
            Err(code) => shared.error.store(code as u32, Ordering::Release),
        }
    }
    shared.done.raise();
    ptr::null_mut()
}

/// Looks at itself. Before that nothing may use the heap, or libc's
/// thread-locals.
extern "C" fn model(shared: *mut c_void) -> *mut c_void {
    // SAFETY: what `maker` gave it; it is never freed.
    let shared = unsafe { &*shared.cast::<ProbeRun>() };
    // SAFETY: `maker` leaves it to this thread until `written` is up.
    let seen = unsafe { &mut *shared.seen.load(Ordering::Acquire) };
    seen.pointer = thread_pointer::get();
    seen.tid = syscall::tid();
    let libc = seen.pointer.wrapping_add_signed(shared.layout.libc.0);
    let control = seen.pointer.wrapping_add_signed(shared.layout.control().0);
    let mut look = |snapshot: usize| {
        copy(control, &mut seen.at[snapshot].thread);
        copy(libc, &mut seen.at[snapshot].libc);
    };
    look(0);
    // The compiler would leave out memory that nobody uses.
    // SAFETY: no preconditions.
    let allocate = |bytes| black_box(unsafe { libc::malloc(black_box(bytes)) });
    // SAFETY: memory of our own, freed once.
    unsafe {
        libc::free(allocate(24));
        let (small, large) = (allocate(24), allocate(5000));
        libc::free(small);
        libc::free(large);
    }
    look(1);
    // SAFETY: numbers that mean nothing; the strings are libc's.
    unsafe {
        black_box(libc::strerror(1_000_003));
        black_box(libc::strsignal(1_000_003));
    }
    look(2);
    let which = usize::from(seen.stack != shared.stacks.base().addr());
    shared.written[which].raise();
    ptr::null_mut()
}

fn copy(from: usize, to: &mut [usize]) {
    for (i, word) in to.iter_mut().enumerate() {
        let at = ptr::with_exposed_provenance::<usize>(from + i * size_of::<usize>());
        // SAFETY: the running thread's own block; others may write to it.
        *word = unsafe { at.read_volatile() };
    }
}

/// Starts a thread that nobody joins.
///
/// # Safety
///
/// - What `body` does with its argument is right on another thread.
/// - The stack, if given, is the thread's alone for ever.
///
/// # Errors
///
/// What `pthread_create` says.
unsafe fn spawn(
    stack: Option<(*mut u8, usize)>,
    body: extern "C" fn(*mut c_void) -> *mut c_void,
    argument: *mut c_void,
) -> Result<(), c_int> {
    // SAFETY: attr and thread are initialised by the calls; the rest is the
    // caller's promise.
    let code = unsafe {
        let mut attr = mem::zeroed();
        libc::pthread_attr_init(&mut attr);
        libc::pthread_attr_setdetachstate(&mut attr, libc::PTHREAD_CREATE_DETACHED);
        if let Some((base, len)) = stack {
            libc::pthread_attr_setstack(&mut attr, base.cast(), len);
        }
        let mut thread = mem::zeroed();
        let code = create_thread()(&mut thread, &attr, body, argument);
        libc::pthread_attr_destroy(&mut attr);
        code
    };
    if code == 0 { Ok(()) } else { Err(code) }
}

/// glibc's `pthread_create`, looked up as all of its functions here. (A hook of that name
/// that is found instead hands it on: this is a no-park scope.)
fn create_thread() -> CreateThread {
    // SAFETY: the function has this type.
    let found = unsafe { function(c"pthread_create") };
    found.unwrap_or_else(|why| unreachable!("glibc without threads: {why}"))
}

type CreateThread = unsafe extern "C" fn(
    *mut libc::pthread_t,
    *const libc::pthread_attr_t,
    extern "C" fn(*mut c_void) -> *mut c_void,
    *mut c_void,
) -> c_int;

/// Runs `f` while no signal handler can come between, here and in the threads
/// that it starts: they inherit it.
fn with_signals_blocked<R>(f: impl FnOnce() -> R) -> R {
    let former = SignalMask(u64::MAX).without_libcs().replace();
    let result = f();
    former.replace();
    result
}
