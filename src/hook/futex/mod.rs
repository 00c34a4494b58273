//! Locks of std, and all else that waits by futex, park the coroutine.
//!
//! std's locks, and those of many crates, wait in `libc::syscall(SYS_futex, …)`.
//! That symbol is ours: a wait in a coroutine queues it in a table ([`table`])
//! and parks it, a wake-up looks into the table first. What nobody has to wait
//! for never comes here, so it costs what it costs on a thread. README.md
//! beside this file has the protocol, the proof, and what was rejected.
//!
//! Lives here: the hook itself, and which calls are whose. How a coroutine
//! waits is in [`wait`], when it must not is in [`own`].

mod nodes;
mod own;
#[cfg(all(target_env = "gnu", not(target_feature = "crt-static")))]
mod pthread;
mod report;
mod table;
mod wait;

#[cfg(all(test, loom))]
mod loom_tests;

use std::ffi::{c_int, c_long};
use std::ptr::{self, null_mut};
// Not from the shim: a static lives longer than a loom model.
use std::sync::atomic::{AtomicPtr, Ordering, fence};

use libc::timespec;

use super::raw::{self, Answer, Errno, answer_c, errno, set_errno};
use crate::sched::{self, Cx};
use crate::shim;
use crate::sys::fork;
use crate::util::section::{self, Section};
use table::{Batch, Table};

/// Buckets of the table: 64 KiB.
const BUCKETS: usize = 1024;

/// Waiters that it has room for: address space, of which only what is used is
/// ever touched; and less of it where there is a limit.
const WAITERS: [u32; 2] = [1 << 26, 1 << 18];

/// One in so many wake-ups is followed by a yield, see [`give_way`].
const YIELD_EVERY: usize = 64;

const WAIT: c_int = libc::FUTEX_WAIT;
const WAIT_BITSET: c_int = libc::FUTEX_WAIT_BITSET;
const ALL_BITS: u32 = u32::MAX;

/// The table of one process; one that was a parent's is left alone.
struct OfProcess {
    generation: u32,
    table: Table,
}

static TABLE: AtomicPtr<OfProcess> = AtomicPtr::new(null_mut());

/// The table, unless no worker has ever begun.
#[inline(always)]
fn table() -> Option<&'static Table> {
    // SAFETY: null, or a table that is never freed.
    let known = unsafe { TABLE.load(Ordering::Acquire).as_ref() }?;
    (known.generation == fork::generation()).then_some(&known.table)
}

/// The calling thread becomes a worker. (Not when the first coroutine waits: it
/// may be the allocator that it waits for.)
pub(super) fn thread_begins() {
    if table().is_none() {
        make_table();
    }
    let Some(table) = table() else { return };
    own::begin(table);
    #[cfg(all(target_env = "gnu", not(target_feature = "crt-static")))]
    pthread::begin();
}

/// Without address space there is no table, and waits block their threads.
#[cold]
fn make_table() {
    section::pay_with(pay);
    let known = TABLE.load(Ordering::Acquire);
    let sizes = WAITERS.into_iter();
    let Some(table) = sizes.flat_map(|most| Table::new(BUCKETS, most)).next() else {
        return;
    };
    let fresh = Box::into_raw(Box::new(OfProcess {
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

/// Makes the wake-ups that were owed when this thread's section ended.
fn pay() {
    if let Some(table) = table() {
        table.pay(deliver);
    }
}

fn deliver(batch: &Batch) {
    batch
        .waiters()
        .iter()
        .for_each(|&waiter| sched::wake(waiter));
}

/// A number that no system call has, for the probing call of `hook::status`.
pub(super) const PROBE: c_long = c_long::MIN + 0x00c0_70e1;

/// As libc's, which is variadic; its arguments are as wide as registers and
/// are passed as such.
#[unsafe(no_mangle)]
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
            PROBE => {
                super::self_test::SYSCALL.arrived();
                long(Err(libc::ENOSYS))
            }
            _ => long(raw::syscall(number, [a, b, c, d, e, f])),
        }
    }
}

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
        unsafe { raw::syscall(libc::SYS_futex, args) }
    }

    /// Known to other processes, too, as far as the caller says.
    fn is_shared(self) -> bool {
        self.op & libc::FUTEX_PRIVATE_FLAG == 0
    }

    fn command(self) -> c_int {
        self.op & !(libc::FUTEX_PRIVATE_FLAG | libc::FUTEX_CLOCK_REALTIME)
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

/// Wakes coroutines, and threads.
///
/// # Safety
///
/// - As for the system call.
unsafe fn wake(call: Call) -> c_long {
    // The caller has changed the word. Partners: the fences in the table,
    // between counting the waiter and looking at the word.
    fence(Ordering::SeqCst);
    let here = table().filter(|table| table.may_wait(call.word) > 0);
    let Some(table) = here.filter(|_| call.bits() != 0) else {
        // SAFETY: the caller's arguments.
        return long(unsafe { call.in_kernel() });
    };
    let saved = errno();
    // The kernel wakes one if asked for none, or for fewer.
    let most = (call.value as c_int).max(1) as usize;
    let mut waking = Waking::begin(table, call.word, most, call.bits());
    // Threads are woken as if there were no table: who is queued in the kernel
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
    if woken > 0 {
        give_way();
    }
    let answer = threads.map(|threads| (threads + woken).min(most));
    answer_c(answer, saved) as c_long
}

/// Coroutines on their way off a queue.
struct Waking<'a> {
    table: &'a Table,
    address: usize,
    /// How many more may be woken.
    most: usize,
    bits: u32,
    batch: Batch,
}

impl<'a> Waking<'a> {
    /// Takes the first ones off. In a section nobody: they will be woken when
    /// it ends.
    #[inline]
    fn begin(table: &'a Table, address: usize, most: usize, bits: u32) -> Self {
        let mut waking = Self {
            table,
            address,
            // Not those who come back while others are woken.
            most: most.min(table.may_wait(address)),
            bits,
            batch: Batch::new(),
        };
        if Section::is_here() {
            table.owe(address);
            section::owe();
            waking.most = 0;
        } else {
            waking.batch = table.take(address, waking.most, bits);
        }
        waking
    }

    fn so_far(&self) -> usize {
        self.batch.waiters().len()
    }

    /// Wakes them, and those behind them; how many.
    #[inline]
    fn deliver(&mut self) -> usize {
        let mut woken = 0;
        loop {
            deliver(&self.batch);
            woken += self.so_far();
            let more = self.most - woken;
            if more == 0 || !self.batch.is_full() {
                return woken;
            }
            self.batch = self.table.take(self.address, more, self.bits);
        }
    }
}

/// Whoever lets go of a lock may take it again before the one that it has
/// woken runs. Between threads that is a matter of luck; between coroutines of
/// one thread it could go on for ever. So now and then the waker yields.
fn give_way() {
    if shim::pick(YIELD_EVERY) == 0
        && let Some(cx) = may_suspend()
        && !cx.is_polling()
    {
        cx.yield_now();
    }
}

/// The coroutine that this is, if it may suspend here and now.
fn may_suspend() -> Option<Cx> {
    Cx::current().filter(|_| Cx::parkable().is_some() && !Section::is_here())
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
    fence(Ordering::SeqCst);
    if let (Ok(count), Some(table)) = (&mut answer, table()) {
        for &word in words.iter().filter(|&&word| table.may_wait(word) > 0) {
            *count += Waking::begin(table, word, usize::MAX, ALL_BITS).deliver();
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
