//! The check of this process's glibc, made once: whether it is as the code here
//! takes it to be, tried out on a block.

use std::cell::Cell;
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::Refusal;
use super::block::{Glibc, TlsBlock};
use super::layout::{GlibcLayout, version};
use super::list::ThreadLists;
use super::probe;
use super::setxid;
use super::shape;
use super::template::{TcbWord, Template};
use super::thread_pointer::{ThreadPointer, call_in};
use crate::util::no_park::NoPark;

/// Whether there can be thread-locals of one's own here; if not, why.
pub(crate) fn support() -> Result<(), &'static str> {
    glibc().map(|_| ())
}

/// The first call makes three threads, which end at once. It is a no-park scope,
/// so no other coroutine can meet it half done on the same thread (I11).
pub(super) fn glibc() -> Result<&'static Glibc, &'static str> {
    static GLIBC: OnceLock<Result<&'static Glibc, Refusal>> = OnceLock::new();
    let found = GLIBC.get_or_init(|| find().map_err(explain));
    found.as_ref().copied().map_err(String::as_str)
}

fn explain(why: Refusal) -> Refusal {
    format!(
        "own thread-locals are not available: glibc {}: {why}",
        version()
    )
}

fn find() -> Result<&'static Glibc, Refusal> {
    let _no_park = NoPark::enter();
    if cfg!(any(feature = "sanitizer", tsan)) {
        return Err("a sanitizer keeps track of threads in its own way".into());
    }
    shape::can_set()?;
    let layout: &'static GlibcLayout = Box::leak(Box::new(GlibcLayout::find()?));
    // SAFETY: `GlibcLayout` found it under its name.
    let lists = unsafe { ThreadLists::around(layout.user_stacks) };
    let pair = probe::look(layout, lists)?;
    let template = Template::learn(layout, &pair)?;
    let glibc = Box::leak(Box::new(Glibc {
        layout,
        lists,
        template,
    }));
    glibc.try_out()?;
    Ok(glibc)
}

impl TlsBlock {
    /// A block that must be [renewed](TlsBlock::renew) before its use.
    ///
    /// # Errors
    ///
    /// No memory; or `Unsupported`, with the reason.
    pub(crate) fn new() -> io::Result<Self> {
        let glibc = glibc().map_err(|why| io::Error::new(io::ErrorKind::Unsupported, why))?;
        setxid::watch(glibc.layout.offset(glibc.layout.tid));
        Self::with(glibc)
    }
}

impl Glibc {
    /// Makes a block and looks at what glibc thinks of it.
    fn try_out(&'static self) -> Result<(), Refusal> {
        let why = |error: std::io::Error| error.to_string();
        let block = TlsBlock::with(self).map_err(why)?;
        // SAFETY: no code uses the new block; this frame uses thread-locals in
        // calls only (I12).
        let block = unsafe { block.renew((0, 0)) }.map_err(why)?;
        self.libc_is_new(&block)?;
        let here = ThreadPointer::current();
        MINE.set(THREAD);
        // SAFETY: the block is complete and ours alone, `look` uses no heap, and
        // this frame uses thread-locals in calls only (I12).
        unsafe { call_in(block.pointer(), here, look) };
        let [itself, errno, mine] = SEEN.each_ref().map(|seen| seen.load(Relaxed));
        let pointer = block.pointer();
        if itself != block.address() || errno != pointer.word(self.layout.errno).addr() {
            return Err("a block of its making is not taken for a thread's".into());
        }
        if mine != NEW || MINE.get() != THREAD {
            return Err("thread-locals of this program are not those of the block".into());
        }
        Ok(())
    }

    /// libc's thread-locals in a new block must be those of a new thread.
    fn libc_is_new(&self, block: &TlsBlock) -> Result<(), Refusal> {
        let resolver = (self.layout.resolver - self.layout.libc.0) as usize / size_of::<usize>();
        let words = block.libc_words().into_iter().zip(&self.template.libc);
        for (i, (is, should)) in words.enumerate() {
            if i != resolver && TcbWord::Same(is) != *should {
                return Err(format!(
                    "word {i} of libc's thread-locals is not in a new block as in a new thread"
                ));
            }
        }
        Ok(())
    }
}

const NEW: usize = 1;
const THREAD: usize = 2;
const BLOCK: usize = 3;

thread_local! {
    static MINE: Cell<usize> = const { Cell::new(NEW) };
}

/// What [`look`] saw: who it is, where its errno is, what its thread-local was.
static SEEN: [AtomicUsize; 3] = [const { AtomicUsize::new(0) }; 3];

unsafe extern "C" fn look() {
    // SAFETY: no preconditions.
    let (itself, errno) = unsafe { (libc::pthread_self(), libc::__errno_location()) };
    let saw = [itself as usize, errno.addr(), MINE.replace(BLOCK)];
    SEEN.iter()
        .zip(saw)
        .for_each(|(seen, saw)| seen.store(saw, Relaxed));
}
