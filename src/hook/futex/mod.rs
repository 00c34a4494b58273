//! Futexes in user space: locks of std, and all else that waits by futex, park
//! the coroutine.
//!
//! std's locks, and those of many crates, wait in `libc::syscall(SYS_futex, …)`.
//! That symbol is ours: a wait in a coroutine queues it in a table ([`table`])
//! and parks it, a wake-up looks into the table first. An uncontended lock never
//! comes here, so it costs what it costs on a thread. README.md beside this file
//! has the protocol, the proof, and what was rejected.
//!
//! Lives here: the hook itself, and which calls are whose. How a coroutine
//! waits is in [`wait`], when it must not is in [`may_park`].

mod may_park;
mod nodes;
#[cfg(all(target_env = "gnu", not(target_feature = "crt-static")))]
pub(super) mod pthread;
mod report;
mod table;
mod wait;

#[cfg(all(test, loom))]
mod loom_tests;
#[cfg(all(test, shuttle))]
mod shuttle_tests;

use std::ffi::{c_int, c_long};
use std::ptr::{self, null_mut};
// Not from the shim: a static lives longer than a loom model.
use std::sync::atomic::{AtomicPtr, Ordering};

use libc::timespec;

use crate::hook::libc::{bound, hook};
use crate::hook::wait::interrupt;
use crate::sched;
use crate::sys::fork;
use crate::sys::simulated;
use crate::sys::syscall::{Answer, Errno, answer_c, errno, set_errno, syscall as bare_call};
#[cfg(feature = "sim")]
use crate::task::Addr;
use crate::util::no_park::{self, NoPark};
use table::{Batch, Table};

/// Buckets of the table: 64 KiB.
const BUCKETS: usize = 1024;

/// Waiters that it has room for: address space, of which only what is used is
/// ever touched; and less of it where there is a limit.
const WAITERS: [u32; 2] = [1 << 26, 1 << 18];

const WAIT: c_int = libc::FUTEX_WAIT;
const WAIT_BITSET: c_int = libc::FUTEX_WAIT_BITSET;
const ALL_BITS: u32 = u32::MAX;

/// The table of one process; one that was a parent's is left alone.
struct ProcessTable {
    generation: u32,
    table: Table,
}

static TABLE: AtomicPtr<ProcessTable> = AtomicPtr::new(null_mut());

/// The table, unless no worker has ever begun.
#[inline(always)]
fn table() -> Option<&'static Table> {
    // SAFETY: null, or a table that is never freed.
    let known = unsafe { TABLE.load(Ordering::Acquire).as_ref() }?;
    (known.generation == fork::generation()).then_some(&known.table)
}

/// These coroutines, in order, are gone without a word, and are not to be woken in place of
/// others.
#[cfg(feature = "sim")]
pub(super) fn forget(gone: &[Addr]) {
    if let Some(table) = table() {
        table.forget(|waiter| gone.binary_search(&waiter).is_ok());
    }
}

/// What the tables of locks hold, by table: see `runtime/left_over.rs`.
pub(super) fn left_over() -> Vec<(&'static str, usize)> {
    let [queued, counted] = table().map_or([0; 2], Table::waiters);
    [
        vec![
            ("futex waiters", queued),
            ("counted futex waiters", counted),
        ],
        #[cfg(all(target_env = "gnu", not(target_feature = "crt-static")))]
        pthread::left_over().into(),
    ]
    .concat()
}

/// The calling thread becomes a worker. (Not when the first coroutine waits: it
/// may be the allocator that it waits for.)
pub(super) fn thread_begins() {
    if table().is_none() {
        make_table();
    }
    let Some(table) = table() else { return };
    may_park::worker_begins(table);
    #[cfg(all(target_env = "gnu", not(target_feature = "crt-static")))]
    pthread::begin();
}

/// Without address space there is no table, and waits block their threads.
#[cold]
fn make_table() {
    no_park::flush_with(flush);
    let known = TABLE.load(Ordering::Acquire);
    let sizes = WAITERS.into_iter();
    let Some(table) = sizes.flat_map(|most| Table::new(BUCKETS, most)).next() else {
        return;
    };
    let fresh = Box::into_raw(Box::new(ProcessTable {
        generation: fork::generation(),
        table,
    }));
    if TABLE
        .compare_exchange(known, fresh, Ordering::AcqRel, Ordering::Acquire)
        .is_err()
    {
        // SAFETY: just made, and not published.
        drop(unsafe { Box::from_raw(fresh) });
    }
}

/// Makes the wake-ups that were deferred when this thread's no-park scope ended, and those
/// that signals ask for.
fn flush() {
    if let Some(table) = table() {
        table.flush(deliver);
    }
    interrupt::pass_signals();
}

#[inline(always)]
fn deliver<const ROOM: usize>(batch: &Batch<ROOM>) {
    for &waiter in batch.waiters() {
        sched::wake(waiter);
    }
}

hook!(
    /// As libc's, which is variadic; its arguments are as wide as registers and
    /// are passed as such.
    unsafe extern "C" fn syscall(
        number: c_long,
        a: usize,
        b: usize,
        c: usize,
        d: usize,
        e: usize,
        f: usize,
    ) -> c_long {
        // SAFETY: the caller's arguments.
        unsafe {
            match number {
                libc::SYS_futex => futex(a, b as c_int, c as u32, d, e, f as u32),
                bound::PROBE_CALL => {
                    bound::SYSCALL.arrived();
                    long(Err(libc::ENOSYS))
                }
                libc::SYS_gettid => match interrupt::number() {
                    Some(number) => number.into(),
                    None => long(bare_call(number, [0; 6])),
                },
                _ => long(bare_call(number, [a, b, c, d, e, f])),
            }
        }
    }
);

/// As libc returns: errno is untouched unless there is an error.
fn long(answer: Answer) -> c_long {
    answer.map_or_else(
        |code| {
            set_errno(code);
            -1
        },
        |value| value as c_long,
    )
}

/// A call as it came, to be handed to the kernel.
#[derive(Clone, Copy)]
struct Call {
    word: usize,
    op: c_int,
    value: u32,
    /// A time, or a number.
    fourth: usize,
    second_word: usize,
    third_value: u32,
    /// A cancellation of the thread ends the wait, which callers of libc's don't expect.
    cancellable: bool,
}

impl Call {
    /// # Safety
    ///
    /// - As for the system call.
    unsafe fn in_kernel(self) -> Answer {
        let Self {
            word,
            op,
            value,
            fourth,
            second_word,
            third_value,
            ..
        } = self;
        let args = [
            word,
            op as usize,
            value as usize,
            fourth,
            second_word,
            third_value as usize,
        ];
        // SAFETY: the caller's promise.
        unsafe { bare_call(libc::SYS_futex, args) }
    }

    /// Known to other processes, too, as far as the caller says.
    fn is_shared(self) -> bool {
        self.op & libc::FUTEX_PRIVATE_FLAG == 0
    }

    fn command(self) -> c_int {
        self.op & !(libc::FUTEX_PRIVATE_FLAG | libc::FUTEX_CLOCK_REALTIME)
    }

    /// How many are to be woken. The kernel wakes one if asked for none, or for
    /// fewer.
    fn most(self) -> usize {
        (self.value as c_int).max(1) as usize
    }

    /// Which wakers a waiter hears, or which waiters a waker means.
    fn bits(self) -> u32 {
        match self.command() {
            WAIT_BITSET | libc::FUTEX_WAKE_BITSET => self.third_value,
            _ => ALL_BITS,
        }
    }
}

/// # Safety
///
/// - As for the system call.
unsafe fn futex(
    word: usize,
    op: c_int,
    value: u32,
    fourth: usize,
    second_word: usize,
    third_value: u32,
) -> c_long {
    let call = Call {
        word,
        op,
        value,
        fourth,
        second_word,
        third_value,
        cancellable: false,
    };
    // SAFETY: the caller's arguments.
    unsafe {
        match call.command() {
            // Refused, but the kernels may come to differ.
            other if other != WAIT_BITSET && op & libc::FUTEX_CLOCK_REALTIME != 0 => {
                long(call.in_kernel())
            }
            WAIT | WAIT_BITSET => wait::wait(call),
            libc::FUTEX_WAKE | libc::FUTEX_WAKE_BITSET => wake(call),
            libc::FUTEX_REQUEUE | libc::FUTEX_CMP_REQUEUE => requeue(call, &[word]),
            libc::FUTEX_WAKE_OP => requeue(call, &[word, second_word]),
            _ => long(call.in_kernel()),
        }
    }
}

/// Waits at a word of ours, without a limit, if it still has this value. May
/// return early.
#[cfg(all(target_env = "gnu", not(target_feature = "crt-static")))]
fn futex_wait(word: &std::sync::atomic::AtomicU32, value: u32) {
    let op = WAIT | libc::FUTEX_PRIVATE_FLAG;
    let address = word.as_ptr().expose_provenance();
    // SAFETY: a word that lives.
    unsafe { futex(address, op, value, 0, 0, 0) };
}

/// As [`futex_wait`], until a time if there is one, or until the thread is cancelled.
#[cfg(all(target_env = "gnu", not(target_feature = "crt-static")))]
pub(super) fn futex_wait_until(
    word: &std::sync::atomic::AtomicU32,
    value: u32,
    until: Option<std::time::Instant>,
) {
    let time = until.map(|until| {
        let left = until.saturating_duration_since(std::time::Instant::now());
        timespec {
            tv_sec: left.as_secs() as libc::time_t,
            tv_nsec: left.subsec_nanos().into(),
        }
    });
    let call = Call {
        word: word.as_ptr().expose_provenance(),
        op: WAIT | libc::FUTEX_PRIVATE_FLAG,
        value,
        fourth: time
            .as_ref()
            .map_or(0, |time| ptr::from_ref(time).expose_provenance()),
        second_word: 0,
        third_value: 0,
        cancellable: true,
    };
    // SAFETY: a word and a time that live.
    unsafe { wait::wait(call) };
}

/// Wakes all that wait at this word, which may be gone.
#[cfg(all(target_env = "gnu", not(target_feature = "crt-static")))]
pub(super) fn futex_wake_all<T>(word: *const T) {
    let op = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: waking touches no memory.
    unsafe { futex(word.addr(), op, c_int::MAX as u32, 0, 0, 0) };
}

/// Wakes coroutines, and threads.
///
/// # Safety
///
/// - As for the system call.
unsafe fn wake(call: Call) -> c_long {
    // The caller has changed the word.
    let here = table().filter(|table| table.may_wait(call.word));
    // SAFETY: the caller's arguments.
    unsafe {
        match here.filter(|_| call.bits() != 0) {
            None => long(call.in_kernel()),
            Some(table) if call.most() == 1 => wake_both::<1>(call, table),
            Some(table) => wake_both::<16>(call, table),
        }
    }
}

/// Wakes coroutines, so many at a time, and threads.
///
/// # Safety
///
/// - As for the system call.
#[inline(never)]
unsafe fn wake_both<const ROOM: usize>(call: Call, table: &Table) -> c_long {
    let saved = errno();
    let most = call.most();
    let mut waking = Waking::<ROOM>::of(table, call.word, call.bits());
    waking.begin(most);
    // Threads are woken as if there were no table: one that waits in the kernel
    // may be the very worker that has to run the coroutine. And they are woken
    // first: one may hold what delivering needs.
    let all = call.is_shared() || table.has_blocked(call.word);
    let rest = if all { most } else { most - waking.so_far() };
    let mut threads = Ok(0);
    if rest > 0 {
        let value = rest as u32;
        // SAFETY: the caller's arguments.
        threads = unsafe { Call { value, ..call }.in_kernel() };
    }
    let woken = waking.deliver();
    give_way(&woken);
    let answer = threads.map(|threads| (threads + woken.count).min(most));
    answer_c(answer, saved) as c_long
}

/// Coroutines on their way off a queue.
struct Waking<'a, const ROOM: usize> {
    table: &'a Table,
    address: usize,
    /// How many more may be woken.
    most: usize,
    bits: u32,
    batch: Batch<ROOM>,
}

/// Coroutines that were woken.
struct Woken {
    count: usize,
    /// They had better run now.
    to_run: bool,
}

impl Woken {
    const NONE: Self = Self {
        count: 0,
        to_run: false,
    };
}

impl<'a, const ROOM: usize> Waking<'a, ROOM> {
    #[inline(always)]
    fn of(table: &'a Table, address: usize, bits: u32) -> Self {
        Self {
            table,
            address,
            most: 0,
            bits,
            batch: Batch::new(),
        }
    }

    /// Takes the first ones off. In a no-park scope none: they will be woken when
    /// it ends.
    #[inline(always)]
    fn begin(&mut self, most: usize) {
        if NoPark::is_active() {
            self.table.defer(self.address);
            no_park::defer_wakes();
        } else {
            let there = self.take(most);
            // Not those that come back while others are woken.
            self.most = most.min(there);
        }
    }

    #[inline(always)]
    fn take(&mut self, most: usize) -> usize {
        let batch = &mut self.batch;
        self.table.take(self.address, most, self.bits, batch)
    }

    fn so_far(&self) -> usize {
        self.batch.waiters().len()
    }

    /// Wakes them, and those behind them.
    #[inline(always)]
    fn deliver(&mut self) -> Woken {
        let mut woken = Woken::NONE;
        loop {
            deliver(&self.batch);
            woken.count += self.so_far();
            woken.to_run |= self.batch.is_to_run();
            let more = self.most - woken.count;
            if more == 0 || !self.batch.is_full() {
                return woken;
            }
            self.take(more);
        }
    }
}

/// Wakes up to `most` coroutines that wait at this address.
fn wake_at(table: &Table, address: usize, most: usize) -> Woken {
    let mut waking = Waking::<16>::of(table, address, ALL_BITS);
    waking.begin(most);
    waking.deliver()
}

/// A coroutine that lets go of a lock may take it again before the one that it
/// has woken runs. Between threads that is a matter of luck; between coroutines of
/// one thread it could go on for ever, and each that was woken in vain spins before it
/// waits again. So when it has happened some times, the wakers yield for a while.
#[inline(always)]
fn give_way(woken: &Woken) {
    let yields = match simulated::world() {
        None => woken.to_run,
        // How often it has happened to others is not the seed's.
        Some(world) => woken.count > 0 && world.tosses(),
    };
    if yields {
        yield_to_woken();
    }
}

#[cold]
fn yield_to_woken() {
    if let Some(cx) = may_park::coroutine().filter(|cx| !cx.is_polling()) {
        cx.yield_now();
    }
}

/// Calls that move waiters from one word to another, or wake at two: the
/// kernel serves its own, ours are all woken, and look for themselves.
///
/// # Safety
///
/// - As for the system call.
unsafe fn requeue(call: Call, words: &[usize]) -> c_long {
    let saved = errno();
    // SAFETY: the caller's arguments.
    let mut answer = unsafe { call.in_kernel() };
    if let (Ok(count), Some(table)) = (&mut answer, table()) {
        for &word in words.iter().filter(|&&word| table.may_wait(word)) {
            *count += wake_at(table, word, usize::MAX).count;
        }
    }
    answer_c(answer, saved) as c_long
}

/// The caller's time, if it is there and valid.
///
/// # Safety
///
/// - Null or a valid pointer.
unsafe fn time_at(place: usize) -> Option<timespec> {
    // SAFETY: the caller's promise.
    unsafe { ptr::with_exposed_provenance::<timespec>(place).as_ref() }.copied()
}

/// What a wait says that was not one.
const AGAIN: Errno = libc::EAGAIN;
