//! A TLS block, as glibc has one for each thread (the TCB and static TLS): made,
//! initialised for a new user, freed.
//!
//! A block's words change only while no code runs with it (whoever owns the
//! [`TlsBlock`] sees to that), and those that glibc looks at under its list's
//! lock only with that lock held. [`entered`](super::entered) has what the code
//! that runs with a block does to it.

use std::ffi::c_void;
use std::io;
use std::ptr;

use super::layout::GlibcLayout;
use super::list::ThreadLists;
use super::template::{TcbWord, Template};
use super::thread_pointer::{Offset, ThreadPointer, call_in};

/// This process's glibc: its layout, its threads, and what a new block holds.
pub(super) struct Glibc {
    pub(super) layout: &'static GlibcLayout,
    pub(super) lists: &'static ThreadLists,
    pub(super) template: Template,
}

impl std::fmt::Debug for Glibc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Glibc")
            .field("template", &self.template)
            .finish_non_exhaustive()
    }
}

/// Thread-local memory that glibc takes for a thread's.
///
/// It lies in glibc's list of threads from the moment it is made, so that it
/// gets the static TLS of libraries that are loaded later.
#[derive(Debug)]
pub(crate) struct TlsBlock {
    pointer: ThreadPointer,
    tid: u32,
    glibc: &'static Glibc,
}

impl TlsBlock {
    pub(super) fn with(glibc: &'static Glibc) -> io::Result<Self> {
        // SAFETY: glibc's function; null asks for a new block.
        let pointer = unsafe { (glibc.layout.allocate_tls)(ptr::null_mut()) };
        if pointer.is_null() {
            return Err(no_memory());
        }
        let block = Self {
            pointer: ThreadPointer::of(pointer.expose_provenance()),
            tid: numbers::take()?,
            glibc,
        };
        glibc.lists.locked(|| {
            block.fill(0, 0);
            // SAFETY: the lock is held; a new block's node, which `Drop`
            // removes before the block's memory ends.
            unsafe { glibc.lists.insert(block.node()) };
        });
        Ok(block)
    }

    /// Makes all as for a thread that has just begun, on this stack (lowest
    /// byte, length). The former user has
    /// [ended](super::end_of_thread_locals).
    ///
    /// # Errors
    ///
    /// No memory; the block is lost then.
    ///
    /// # Safety
    ///
    /// - No code runs with this block, or will with what it had before.
    /// - The caller's frame keeps no thread-local (I12).
    pub(crate) unsafe fn renew(self, stack: (usize, usize)) -> io::Result<Self> {
        debug_assert_ne!(self.pointer, ThreadPointer::current());
        let at: *mut c_void = ptr::with_exposed_provenance_mut(self.pointer.address());
        // It stays in the list meanwhile, as glibc's own blocks do when a
        // thread's stack is used again: a library that is loaded now writes
        // its first values here, or is seen here, or both.
        //
        // SAFETY: glibc made the block and its vector, and no code runs with it.
        let made = unsafe {
            (self.glibc.layout.deallocate_tls)(at, false);
            (self.glibc.layout.allocate_tls)(at)
        };
        if made.is_null() {
            // Without a vector glibc can't free it.
            self.unlist();
            std::mem::forget(self);
            return Err(no_memory());
        }
        self.glibc.lists.locked(|| self.fill(stack.0, stack.1));
        let own = ThreadPointer::current();
        let layout = &self.glibc.layout;
        // SAFETY: libc's word in both blocks. The resolver's state is the
        // thread's: libc uses it within one call only, and frees it with the
        // thread. Then the block, which is complete now, for one call; neither
        // this frame nor the caller's keeps a thread-local (I12).
        unsafe {
            let resolver = own.word(layout.resolver).read();
            self.pointer.word(layout.resolver).write(resolver);
            call_in(self.pointer, own, layout.ctype_init);
        }
        Ok(self)
    }

    /// Writes a new thread's `struct pthread`. With the list's lock held, as
    /// glibc reads and writes it under that.
    fn fill(&self, stack: usize, stack_len: usize) {
        let template = &self.glibc.template;
        for run in &template.same {
            let to = self.control_word(run.start);
            // SAFETY: inside the block, whose size is that of the template; no
            // code runs with it.
            unsafe { ptr::copy_nonoverlapping(&template.values[run.start], to, run.len()) };
        }
        let others = template
            .own
            .iter()
            .map(|&(i, at)| (i, self.pointer.address().wrapping_add_signed(at)));
        let one = |what, value| (template.place(what), value);
        let rest = [
            one(TcbWord::Stack, stack),
            one(TcbWord::StackLen, stack_len),
            one(TcbWord::Tid, self.tid as usize),
        ];
        for (i, value) in others.chain(rest) {
            // SAFETY: as above.
            unsafe { self.control_word(i).write(value) };
        }
        if let Some(at) = self.glibc.template.no_cpu {
            // SAFETY: as above; the field is 4 bytes at 4.
            unsafe { self.pointer.word(at).cast::<i32>().write(RSEQ_UNREGISTERED) };
        }
    }

    /// What stands for a thread's number.
    pub(crate) fn number(&self) -> u32 {
        self.tid
    }

    /// What libc knows the thread by: `pthread_t`, the address of `struct pthread`.
    pub(crate) fn address(&self) -> usize {
        let (control, _) = self.glibc.layout.control();
        self.pointer.address().wrapping_add_signed(control)
    }

    /// Word `i` of the control block.
    fn control_word(&self, i: usize) -> *mut usize {
        let (control, _) = self.glibc.layout.control();
        self.pointer.word(control + word(i))
    }

    /// Its thread pointer.
    pub(crate) fn pointer(&self) -> ThreadPointer {
        self.pointer
    }

    /// Copies malloc's cached words, which are the thread's whatever block is in
    /// use, to this block before it is entered.
    ///
    /// # Safety
    ///
    /// - `thread` is the running thread's own block.
    #[inline(always)]
    pub(crate) unsafe fn take_malloc_from(&self, thread: ThreadPointer) {
        // SAFETY: as the caller promises.
        unsafe { self.glibc.move_malloc(thread, self.pointer) };
    }

    /// Copies them back, before the block is left.
    ///
    /// # Safety
    ///
    /// - As [`TlsBlock::take_malloc_from`].
    #[inline(always)]
    pub(crate) unsafe fn give_malloc_to(&self, thread: ThreadPointer) {
        // SAFETY: as the caller promises.
        unsafe { self.glibc.move_malloc(self.pointer, thread) };
    }

    /// Makes errno what it is in the other block.
    ///
    /// # Safety
    ///
    /// - As [`TlsBlock::take_malloc_from`].
    pub(crate) unsafe fn take_errno_from(&self, thread: ThreadPointer) {
        let errno = |pointer: ThreadPointer| pointer.word(self.glibc.layout.errno).cast::<i32>();
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
        unsafe { self.glibc.lists.insert(self.node()) };
    }

    fn unlist(&self) {
        let lists = self.glibc.lists;
        // SAFETY: the lock is held; `with` inserted it.
        lists.locked(|| unsafe { lists.remove(self.node()) });
    }

    pub(super) fn node(&self) -> usize {
        self.address() + self.glibc.layout.list
    }

    /// Words of libc's thread-locals, for the check of what is new in them.
    pub(super) fn libc_words(&self) -> Vec<usize> {
        let (at, len) = self.glibc.layout.libc;
        let words = (0..len / size_of::<usize>()).map(|i| self.pointer.word(at + word(i)));
        // SAFETY: inside the block's static TLS, which no
        // code uses.
        words.map(|at| unsafe { at.read() }).collect()
    }
}

impl Drop for TlsBlock {
    fn drop(&mut self) {
        debug_assert_ne!(self.pointer, ThreadPointer::current());
        self.unlist();
        let at = ptr::with_exposed_provenance_mut(self.pointer.address());
        // SAFETY: glibc's function made it, and its owner runs no code with it any
        // more.
        unsafe { (self.glibc.layout.deallocate_tls)(at, true) };
        numbers::give(self.tid);
    }
}

impl Glibc {
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

/// How far word `i` is from where the words begin.
pub(super) fn word(i: usize) -> Offset {
    (i * size_of::<usize>()) as Offset
}

/// `RSEQ_CPU_ID_UNINITIALIZED`: `sched_getcpu` asks the kernel then.
const RSEQ_UNREGISTERED: i32 = -1;

fn no_memory() -> io::Error {
    io::Error::new(
        io::ErrorKind::OutOfMemory,
        "no memory for a coroutine's own thread-locals",
    )
}

/// Thread ids of blocks: no two blocks have the same, and the kernel never gives
/// one like it.
pub(crate) mod numbers {
    use std::io;

    use crate::util::no_park::NoParkMutex;

    /// The kernel's are smaller (`PID_MAX_LIMIT`), and a lock's word has room
    /// for 30 bits.
    const FIRST: u32 = crate::sys::tls::FIRST_NUMBER;
    const COUNT: u32 = (1 << 30) - FIRST;

    struct Numbers {
        used: u32,
        free: Vec<u32>,
    }

    static NUMBERS: NoParkMutex<Numbers> = NoParkMutex::new(Numbers {
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

    /// How many blocks there are.
    pub(crate) fn in_use() -> usize {
        let numbers = NUMBERS.lock();
        numbers.used as usize - numbers.free.len()
    }

    pub(super) fn give(number: u32) {
        let mut numbers = NUMBERS.lock();
        numbers.free.push(number);
    }
}
