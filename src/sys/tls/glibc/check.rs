//! Whether this glibc is as it is taken to be; found out once.

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::Why;
use super::block::{Block, ThreadPointer, visit};
use super::facts::{Facts, version};
use super::list::Lists;
use super::probe;
use super::template::{Template, Word};
use crate::util::section::Section;

/// What is known of glibc, once it has been checked.
pub(super) struct Known {
    pub(super) facts: &'static Facts,
    pub(super) lists: &'static Lists,
    pub(super) template: Template,
}

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Known")
            .field("template", &self.template)
            .finish_non_exhaustive()
    }
}

/// Whether there can be thread-locals of one's own here; if not, why.
pub(crate) fn support() -> Result<(), &'static str> {
    known().map(|_| ())
}

/// The first call makes three threads, which end at once. It never parks a
/// coroutine, so no other can meet it half done on the same thread.
pub(super) fn known() -> Result<&'static Known, &'static str> {
    static KNOWN: OnceLock<Result<&'static Known, Why>> = OnceLock::new();
    let known = KNOWN.get_or_init(|| find().map_err(explain));
    known.as_ref().copied().map_err(String::as_str)
}

fn explain(why: Why) -> Why {
    format!(
        "own thread-locals are not available: glibc {}: {why}",
        version()
    )
}

fn find() -> Result<&'static Known, Why> {
    let _section = Section::enter();
    if cfg!(feature = "sanitizer") || cfg!(asan) {
        return Err("a sanitizer keeps track of threads in its own way".into());
    }
    // SAFETY: no preconditions.
    if unsafe { libc::getauxval(libc::AT_HWCAP2) } & HWCAP2_FSGSBASE == 0 {
        return Err(
            "the processor or the kernel (before Linux 5.9) does not let programs set the fs \
             register (FSGSBASE)"
                .into(),
        );
    }
    let facts: &'static Facts = Box::leak(Box::new(Facts::find()?));
    // SAFETY: `Facts` found it under its name.
    let lists = unsafe { Lists::around(facts.user_stacks) };
    let pair = probe::look(facts, lists)?;
    let template = Template::learn(facts, &pair)?;
    let known = Box::leak(Box::new(Known {
        facts,
        lists,
        template,
    }));
    known.try_out()?;
    Ok(known)
}

/// Bit 1 of `AT_HWCAP2` on x86: the kernel has enabled the instructions.
const HWCAP2_FSGSBASE: u64 = 2;

impl Known {
    /// Makes a block and looks at what glibc thinks of it.
    fn try_out(&'static self) -> Result<(), Why> {
        let why = |error: std::io::Error| error.to_string();
        let block = Block::with(self).map_err(why)?;
        // SAFETY: nobody uses the new block; no thread-locals in this frame
        // but within the calls.
        let block = unsafe { block.renew((0, 0)) }.map_err(why)?;
        self.libc_is_new(&block)?;
        let here = ThreadPointer::current();
        MINE.set(THREAD);
        // SAFETY: the block is complete and nobody's; `look` uses no heap.
        unsafe { visit(block.pointer(), here, look) };
        let [itself, errno, mine] = SEEN.each_ref().map(|seen| seen.load(Relaxed));
        let pointer = block.pointer().address();
        if itself != pointer || errno != pointer.wrapping_add_signed(self.facts.errno) {
            return Err("a block of its making is not taken for a thread's".into());
        }
        if mine != NEW || MINE.get() != THREAD {
            return Err("thread-locals of this program are not those of the block".into());
        }
        Ok(())
    }

    /// libc's thread-locals in a new block must be those of a new thread.
    fn libc_is_new(&self, block: &Block) -> Result<(), Why> {
        let resolver = (self.facts.resolver - self.facts.libc.0) as usize / size_of::<usize>();
        let words = block.libc_words().into_iter().zip(&self.template.libc);
        for (i, (is, should)) in words.enumerate() {
            if i != resolver && Word::Same(is) != *should {
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
