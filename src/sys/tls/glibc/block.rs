//! A block: made, filled for a new user, changed to and back, ended.

use std::ffi::c_void;
use std::io;
use std::ptr;

use super::check::{Known, known};
use super::facts::{Offset, thread_pointer};
use super::setxid;
use super::template::Word;

/// Where a thread's own block is: what `fs` is outside of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ThreadPointer(usize);

impl ThreadPointer {
    /// The running code's.
    pub(crate) fn current() -> Self {
        Self(thread_pointer())
    }

    /// Changes to this block.
    ///
    /// # Safety
    ///
    /// - It is a block, or a thread's own, that exists and that no thread uses
    ///   now but this one.
    /// - The caller's frame keeps no thread-local, nor its address: the
    ///   compiler takes them to be the same throughout a function.
    #[inline(always)]
    pub(crate) unsafe fn enter(self) {
        // SAFETY: FSGSBASE was found; the rest is the caller's promise.
        unsafe {
            std::arch::asm!("wrfsbase {}", in(reg) self.0, options(nostack, preserves_flags))
        };
    }

    /// One that was noted.
    pub(super) fn of(address: usize) -> Self {
        Self(address)
    }

    pub(super) fn address(self) -> usize {
        self.0
    }

    /// The word at a distance from here.
    fn word(self, at: Offset) -> *mut usize {
        ptr::with_exposed_provenance_mut(self.0.wrapping_add_signed(at))
    }
}

/// Thread-local memory that glibc takes for a thread's.
///
/// It lies in glibc's list of threads from the moment it is made, so that it
/// gets the static TLS of libraries that are loaded later.
#[derive(Debug)]
pub(crate) struct Block {
    pointer: ThreadPointer,
    tid: u32,
    known: &'static Known,
}

impl Block {
    /// A block that must be [renewed](Block::renew) before its use.
    ///
    /// # Errors
    ///
    /// No memory; or `Unsupported`, with the reason.
    pub(crate) fn new() -> io::Result<Self> {
        let known = known().map_err(|why| io::Error::new(io::ErrorKind::Unsupported, why))?;
        setxid::watch(known.facts.tid as Offset);
        Self::with(known)
    }

    pub(super) fn with(known: &'static Known) -> io::Result<Self> {
        // SAFETY: glibc's function; null asks for a new block.
        let pointer = unsafe { (known.facts.allocate_tls)(ptr::null_mut()) };
        if pointer.is_null() {
            return Err(no_memory());
        }
        let block = Self {
            pointer: ThreadPointer(pointer.expose_provenance()),
            tid: numbers::take()?,
            known,
        };
        known.lists.locked(|| {
            block.fill(0, 0);
            // SAFETY: the lock is held; a new block's node, which `Drop`
            // removes before the block's memory ends.
            unsafe { known.lists.insert(block.node()) };
        });
        Ok(block)
    }

    /// Makes all as for a thread that has just begun, on this stack (lowest
    /// byte, length). The former user has [ended](end_of_thread_locals).
    ///
    /// # Errors
    ///
    /// No memory; the block is lost then.
    ///
    /// # Safety
    ///
    /// - No code runs with this block, or will with what it had before.
    /// - The caller's frame keeps no thread-local (see [`ThreadPointer::enter`]).
    pub(crate) unsafe fn renew(self, stack: (usize, usize)) -> io::Result<Self> {
        let at: *mut c_void = ptr::with_exposed_provenance_mut(self.pointer.0);
        // It stays in the list meanwhile, as glibc's own blocks do when a
        // thread's stack is used again: a library that is loaded now writes
        // its first values here, or is seen here, or both.
        //
        // SAFETY: glibc made the block and its vector, and nobody runs on it.
        let made = unsafe {
            (self.known.facts.deallocate_tls)(at, false);
            (self.known.facts.allocate_tls)(at)
        };
        if made.is_null() {
            // Without a vector glibc can't free it.
            self.unlist();
            std::mem::forget(self);
            return Err(no_memory());
        }
        self.known.lists.locked(|| self.fill(stack.0, stack.1));
        let own = ThreadPointer::current();
        let facts = &self.known.facts;
        // SAFETY: libc's word in both blocks. The resolver's state is the
        // thread's: libc uses it within one call only, and frees it with the
        // thread. Then the block, which is complete now, for one call.
        unsafe {
            let resolver = own.word(facts.resolver).read();
            self.pointer.word(facts.resolver).write(resolver);
            visit(self.pointer, own, facts.ctype_init);
        }
        Ok(self)
    }

    /// Writes a new thread's `struct pthread`. With the list's lock held, as
    /// glibc reads and writes it under that.
    fn fill(&self, stack: usize, stack_len: usize) {
        let template = &self.known.template;
        for run in &template.same {
            let to = self.pointer.word(word(run.start));
            // SAFETY: inside the block, whose size is that of the template;
            // nobody uses it.
            unsafe { ptr::copy_nonoverlapping(&template.values[run.start], to, run.len()) };
        }
        let others = template
            .own
            .iter()
            .map(|&(i, at)| (i, self.pointer.0.wrapping_add_signed(at)));
        let one = |what, value| (template.place(what), value);
        let rest = [
            one(Word::Stack, stack),
            one(Word::StackLen, stack_len),
            one(Word::Tid, self.tid as usize),
        ];
        for (i, value) in others.chain(rest) {
            // SAFETY: as above.
            unsafe { self.pointer.word(word(i)).write(value) };
        }
        if let Some(at) = self.known.template.no_cpu {
            // SAFETY: as above; the field is 4 bytes at 4.
            unsafe { self.pointer.word(at).cast::<i32>().write(RSEQ_UNREGISTERED) };
        }
    }

    /// What stands for a thread's number.
    pub(crate) fn number(&self) -> u32 {
        self.tid
    }

    /// Its thread pointer.
    pub(crate) fn pointer(&self) -> ThreadPointer {
        self.pointer
    }

    /// What malloc has cached belongs to the thread, whatever runs on it: it
    /// is taken along to the block before it is entered.
    ///
    /// # Safety
    ///
    /// - `thread` is the running thread's own block.
    #[inline(always)]
    pub(crate) unsafe fn take_malloc_from(&self, thread: ThreadPointer) {
        // SAFETY: as the caller promises.
        unsafe { self.known.move_malloc(thread, self.pointer) };
    }

    /// And back, before it is left.
    ///
    /// # Safety
    ///
    /// - As [`Block::take_malloc_from`].
    #[inline(always)]
    pub(crate) unsafe fn give_malloc_to(&self, thread: ThreadPointer) {
        // SAFETY: as the caller promises.
        unsafe { self.known.move_malloc(self.pointer, thread) };
    }

    /// Makes errno what it is in the other block.
    ///
    /// # Safety
    ///
    /// - As [`Block::take_malloc_from`].
    pub(crate) unsafe fn take_errno_from(&self, thread: ThreadPointer) {
        let errno = |pointer: ThreadPointer| pointer.word(self.known.facts.errno).cast::<i32>();
        // SAFETY: libc's word in both blocks' static TLS.
        unsafe { errno(self.pointer).write(errno(thread).read()) };
    }

    /// In a forked child, whose glibc knows of no threads but the one that
    /// forked: makes the running block known again.
    ///
    /// # Safety
    ///
    /// - There is no other thread.
    pub(crate) unsafe fn enlist_in_child(&self) {
        // SAFETY: no other thread, and glibc has emptied the list.
        unsafe { self.known.lists.insert(self.node()) };
    }

    fn unlist(&self) {
        let lists = self.known.lists;
        // SAFETY: the lock is held; `with` inserted it.
        lists.locked(|| unsafe { lists.remove(self.node()) });
    }

    pub(super) fn node(&self) -> usize {
        self.pointer.0 + self.known.facts.list
    }

    /// Words of libc's thread-locals, for the check of what is new in them.
    pub(super) fn libc_words(&self) -> Vec<usize> {
        let (at, len) = self.known.facts.libc;
        let words = (0..len / size_of::<usize>()).map(|i| self.pointer.word(at + word(i)));
        // SAFETY: inside the block's static TLS, which nobody uses.
        words.map(|at| unsafe { at.read() }).collect()
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.unlist();
        let at = ptr::with_exposed_provenance_mut(self.pointer.0);
        // SAFETY: glibc's function made it; whoever owns the block does not
        // run on it any more.
        unsafe { (self.known.facts.deallocate_tls)(at, true) };
        numbers::give(self.tid);
    }
}

impl Known {
    /// # Safety
    ///
    /// - Both are blocks, of which this thread's code uses one.
    #[inline(always)]
    unsafe fn move_malloc(&self, from: ThreadPointer, to: ThreadPointer) {
        for &at in &self.template.malloc {
            // SAFETY: libc's words in both blocks' static TLS.
            unsafe { to.word(at).write(from.word(at).read()) };
        }
    }
}

/// How far from the thread pointer word `i` of `struct pthread` is.
fn word(i: usize) -> Offset {
    (i * size_of::<usize>()) as Offset
}

/// `RSEQ_CPU_ID_UNINITIALIZED`: who wants to know the processor asks the kernel.
const RSEQ_UNREGISTERED: i32 = -1;

/// Runs `f` with the other block, and comes back.
///
/// # Safety
///
/// - As [`ThreadPointer::enter`], for both.
/// - `f` may run on the thread.
#[inline(never)]
pub(super) unsafe fn visit(there: ThreadPointer, here: ThreadPointer, f: unsafe extern "C" fn()) {
    // SAFETY: the caller's promises; no thread-local in this frame.
    unsafe {
        there.enter();
        f();
        here.enter();
    }
}

/// Ends what the running code has in its block: destructors of thread-locals,
/// then of the values of pthread keys, then what libc has allocated. As at the
/// end of a thread, in that order; foreign code runs, and may wait.
///
/// # Safety
///
/// - A block is entered, and what ends is its user.
#[inline(never)]
pub(crate) unsafe fn end_of_thread_locals() {
    let known = known().expect("a block is entered");
    // SAFETY: glibc's function, for the entered block.
    unsafe { (known.facts.call_tls_dtors)() };
    end_of_key_values(known);
    end_of_libc(known);
}

fn end_of_key_values(known: &Known) {
    let facts = &known.facts;
    let here = ThreadPointer::current();
    let table = |i: usize| here.word(facts.specific as Offset + word(i));
    let per_table = KEYS / facts.specific_len;
    for _ in 0..DESTRUCTOR_ITERATIONS {
        let mut any = false;
        for i in 0..facts.specific_len {
            // SAFETY: one of the pointers in the running block.
            if unsafe { table(i).read() } == 0 {
                continue;
            }
            for key in (i * per_table..(i + 1) * per_table).map(|key| key as u32) {
                // SAFETY: a key below the limit; if it was never made or has
                // been deleted, the value is null.
                let value = unsafe { libc::pthread_getspecific(key) };
                if value.is_null() {
                    continue;
                }
                // SAFETY: as above.
                unsafe { libc::pthread_setspecific(key, ptr::null()) };
                if let Some(destructor) = facts.key_destructor(key) {
                    any = true;
                    // SAFETY: the key's destructor, for a value of this block
                    // which has just been taken out.
                    unsafe { destructor(value) };
                }
            }
        }
        if !any {
            break;
        }
    }
    // The first table is part of the block.
    for i in 1..facts.specific_len {
        // SAFETY: glibc allocated the others when a value was first set.
        unsafe { libc::free(ptr::with_exposed_provenance_mut(table(i).replace(0))) };
    }
}

/// `PTHREAD_DESTRUCTOR_ITERATIONS` and `PTHREAD_KEYS_MAX` of glibc.
const DESTRUCTOR_ITERATIONS: u32 = 4;
const KEYS: usize = 1024;

fn end_of_libc(known: &Known) {
    unsafe extern "C" {
        fn dlerror() -> *mut std::ffi::c_char;
    }
    let here = ThreadPointer::current();
    for &at in &known.template.names {
        // SAFETY: a string of libc's in the running block, or null, which
        // nobody gets to see any more.
        unsafe { libc::free(ptr::with_exposed_provenance_mut(here.word(at).replace(0))) };
    }
    let error = here.word(known.facts.dlerror);
    // SAFETY: libc's word in the running block. Told once, an error is freed at
    // the next question; what is left then is an empty record or nothing.
    unsafe {
        if error.read() != 0 {
            dlerror();
            dlerror();
            libc::free(ptr::with_exposed_provenance_mut(error.replace(0)));
        }
    }
}

/// Runs `f` while the running block has the kernel's number of this thread,
/// for functions of libc that hand it on to the kernel.
///
/// # Safety
///
/// - A block is entered; `f` does not park, and locks nothing.
pub(crate) unsafe fn with_kernel_tid<R>(f: impl FnOnce() -> R) -> R {
    let known = known().expect("a block is entered");
    let tid = ThreadPointer::current()
        .word(known.facts.tid as Offset)
        .cast::<u32>();
    // SAFETY: the running block's own word. Other threads may read it: either
    // number is right for them.
    unsafe {
        let own = tid.read();
        tid.write_volatile(super::futex::tid());
        let result = f();
        tid.write_volatile(own);
        result
    }
}

fn no_memory() -> io::Error {
    io::Error::new(
        io::ErrorKind::OutOfMemory,
        "no memory for a coroutine's own thread-locals",
    )
}

/// What stands for the number of a thread: no two blocks have the same, and
/// the kernel never gives one like it.
mod numbers {
    use std::io;

    use crate::util::section::SectionMutex;

    /// The kernel's are smaller (`PID_MAX_LIMIT`), and a lock's word has room
    /// for 30 bits.
    const FIRST: u32 = crate::sys::tls::FIRST_NUMBER;
    const COUNT: u32 = (1 << 30) - FIRST;

    struct Numbers {
        used: u32,
        free: Vec<u32>,
    }

    static NUMBERS: SectionMutex<Numbers> = SectionMutex::new(Numbers {
        used: 0,
        free: Vec::new(),
    });

    pub(super) fn take() -> io::Result<u32> {
        let mut numbers = NUMBERS.lock();
        if let Some(number) = numbers.free.pop() {
            return Ok(number);
        }
        if numbers.used == COUNT {
            return Err(io::Error::new(
                io::ErrorKind::QuotaExceeded,
                "a thousand million coroutines have thread-locals of their own",
            ));
        }
        numbers.used += 1;
        // Processes that share a lock should not begin with the same ones.
        let start = std::process::id().wrapping_mul(0x9e37_79b9) % COUNT;
        Ok(FIRST + ((u64::from(start) + u64::from(numbers.used)) % u64::from(COUNT)) as u32)
    }

    pub(super) fn give(number: u32) {
        let mut numbers = NUMBERS.lock();
        numbers.free.push(number);
    }
}
