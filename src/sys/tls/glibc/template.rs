//! Template of a TLS block: its initial words, each learnt by comparing those of
//! the two probe threads.
//!
//! A word that is the same in both, the same distance from its block, or one that
//! glibc describes is understood. With any other no block is ever made.

use std::ops::Range;

use super::Refusal;
use super::layout::GlibcLayout;
use super::probe::{ProbePair, ProbeThread};
use super::shape::SHAPE;
use super::thread_pointer::Offset;

const WORD: usize = size_of::<usize>();

/// A word of the control block of a new block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TcbWord {
    /// The same in every thread.
    Same(usize),
    /// Points so far from the block's own thread pointer.
    Own(Offset),
    /// The lowest address of the stack.
    Stack,
    /// The length of the stack.
    StackLen,
    /// Not ours to write: the list's links, the vector.
    Keep,
    /// The thread's number (and four bytes that are zero).
    Tid,
}

/// A new thread's block, apart from its static TLS.
#[derive(Debug)]
pub(super) struct Template {
    words: Vec<TcbWord>,
    /// The same once more, ready to be copied: runs of words that are
    /// [`TcbWord::Same`], their values at their places, and those that are
    /// [`TcbWord::Own`].
    pub(super) same: Vec<Range<usize>>,
    pub(super) values: Vec<usize>,
    pub(super) own: Vec<(usize, Offset)>,
    /// Where libc keeps what malloc has cached for the thread.
    pub(super) malloc: Vec<Offset>,
    /// Where libc keeps memory that it allocates when asked for a name.
    pub(super) names: Vec<Offset>,
    /// Where of a kernel's registration for restartable sequences "none" has
    /// to be written: the processor's number.
    pub(super) no_cpu: Option<Offset>,
    /// libc's thread-locals of a thread that has only begun: word by word, and
    /// which of them are its own.
    pub(super) libc: Vec<TcbWord>,
}

impl Template {
    pub(super) fn learn(layout: &GlibcLayout, pair: &ProbePair) -> Result<Self, Refusal> {
        let [a, b] = &pair.seen;
        let words = (0..a.at[0].thread.len())
            .map(|i| explain(layout, pair, i))
            .collect::<Result<Vec<_>, _>>()?;
        let one = |what: TcbWord| words.iter().filter(|&&word| word == what).count() == 1;
        if !one(TcbWord::Stack) || !one(TcbWord::StackLen) || !one(TcbWord::Tid) {
            return Err("a thread's stack or number is not where it is expected".into());
        }
        if SHAPE.own_words.iter().any(|&i| words[i] != TcbWord::Own(0)) {
            return Err("a thread's block does not begin with its own address".into());
        }
        let libc = a.at[0].libc.iter().zip(&b.at[0].libc).map(|(&x, &y)| {
            common(layout, a, b, x, y)
                .ok_or("libc keeps something unknown for each thread".to_owned())
        });
        let same = |word: &TcbWord| matches!(word, TcbWord::Same(_));
        let mut runs = Vec::new();
        let mut begin = 0;
        for chunk in words.chunk_by(|a, b| same(a) == same(b)) {
            let run = begin..begin + chunk.len();
            begin = run.end;
            runs.extend(same(&chunk[0]).then_some(run));
        }
        let value = |word: &TcbWord| {
            if let TcbWord::Same(value) = *word {
                value
            } else {
                0
            }
        };
        let own = words
            .iter()
            .enumerate()
            .filter_map(|(i, word)| match *word {
                TcbWord::Own(at) => Some((i, at)),
                _ => None,
            });
        Ok(Self {
            same: runs,
            values: words.iter().map(value).collect(),
            own: own.collect(),
            words,
            malloc: malloc_words(layout, pair)?,
            names: name_words(layout, pair)?,
            no_cpu: layout.rseq.map(|at| at + size_of::<u32>() as Offset),
            libc: libc.collect::<Result<_, _>>()?,
        })
    }
}

impl Template {
    /// Where in `struct pthread` the one word of this kind is.
    pub(super) fn place(&self, what: TcbWord) -> usize {
        let at = self.words.iter().position(|&word| word == what);
        at.expect("`learn` has counted it")
    }
}

/// What word `i` of the control block is.
fn explain(layout: &GlibcLayout, pair: &ProbePair, i: usize) -> Result<TcbWord, Refusal> {
    let [a, b] = &pair.seen;
    let (x, y, at) = (a.at[0].thread[i], b.at[0].thread[i], i * WORD);
    if is_link(layout, at) || at == layout.dtv {
        return Ok(TcbWord::Keep);
    }
    if at == layout.tid && (x as u32, y as u32) == (a.tid, b.tid) {
        return Ok(TcbWord::Tid);
    }
    // The kernel writes there, now and then, until the thread has ended.
    if is_kernels(layout, at) {
        return Ok(TcbWord::Same(0));
    }
    if (x, y) == (a.stack, b.stack) {
        return Ok(TcbWord::Stack);
    }
    if x == pair.stack_len && y == x {
        return Ok(TcbWord::StackLen);
    }
    if let Some(word) = common(layout, a, b, x, y) {
        return Ok(word);
    }
    // Frames of the thread's start, where `pthread_exit` would unwind to.
    let inside =
        |seen: &ProbeThread, value| (seen.stack..control(layout, seen).start).contains(&value);
    if inside(a, x) && inside(b, y) {
        return Ok(TcbWord::Same(0));
    }
    Err(format!(
        "byte {at} of a thread's block differs between two new threads, and nothing is known of it"
    ))
}

/// A thread's control block.
fn control(layout: &GlibcLayout, seen: &ProbeThread) -> Range<usize> {
    let (begin, bytes) = layout.control();
    let begin = seen.pointer.wrapping_add_signed(begin);
    begin..begin + bytes
}

/// What two threads' words have in common: their value, or its distance from
/// the thread's own block.
fn common(
    layout: &GlibcLayout,
    a: &ProbeThread,
    b: &ProbeThread,
    x: usize,
    y: usize,
) -> Option<TcbWord> {
    let own = |seen: &ProbeThread, value: usize| {
        control(layout, seen)
            .contains(&value)
            .then(|| value.wrapping_sub(seen.pointer) as Offset)
    };
    match (own(a, x), own(b, y)) {
        (None, None) if x == y => Some(TcbWord::Same(x)),
        (Some(from_a), Some(from_b)) if from_a == from_b => Some(TcbWord::Own(from_a)),
        _ => None,
    }
}

/// Which byte of the control block is at this distance from the thread pointer.
fn in_control(layout: &GlibcLayout, at: Offset) -> Option<usize> {
    let (begin, bytes) = layout.control();
    let at = usize::try_from(at - begin).ok();
    at.filter(|at| *at < bytes)
}

/// Whether the byte is part of the list's links: others change them.
fn is_link(layout: &GlibcLayout, at: usize) -> bool {
    (layout.list..layout.list + 2 * WORD).contains(&at)
}

/// Whether the byte is the kernel's: it writes where the thread runs.
fn is_kernels(layout: &GlibcLayout, at: usize) -> bool {
    /// Bytes of `struct rseq` that it may write.
    const RSEQ: Offset = 32;
    let at = layout.offset(at);
    layout
        .rseq
        .is_some_and(|rseq| (rseq..rseq + RSEQ).contains(&at))
}

/// The words that the first use of the heap has changed.
fn malloc_words(layout: &GlibcLayout, pair: &ProbePair) -> Result<Vec<Offset>, Refusal> {
    let mut words = changed(layout, pair, 0, 1)?;
    // In `struct pthread` they are of a key that another malloc uses: the block's own.
    words.retain(|word| in_control(layout, word.at).is_none());
    // The cache and the arena. None, if malloc is not libc's.
    if words.len() > 2 {
        return Err(format!(
            "its malloc keeps {} words for each thread where two are expected",
            words.len()
        ));
    }
    Ok(words.into_iter().map(|word| word.at).collect())
}

/// The words that asking for names has set: for an error, and for a signal.
fn name_words(layout: &GlibcLayout, pair: &ProbePair) -> Result<Vec<Offset>, Refusal> {
    let mut words = changed(layout, pair, 1, 2)?;
    words.retain(|word| word.at != layout.errno & -(WORD as Offset));
    if words.len() != 2 || words.iter().any(|word| word.was != 0 || word.is == 0) {
        return Err("the names of unknown errors and signals are not kept as expected".into());
    }
    Ok(words.into_iter().map(|word| word.at).collect())
}

/// A word of a thread's block that has changed.
struct Changed {
    at: Offset,
    was: usize,
    is: usize,
}

/// The words of libc's thread-locals and of `struct pthread` that differ
/// between two moments, in the first thread; in the second they must, too.
fn changed(
    layout: &GlibcLayout,
    pair: &ProbePair,
    from: usize,
    to: usize,
) -> Result<Vec<Changed>, Refusal> {
    let of = |seen: &ProbeThread| -> Vec<Changed> {
        let differing = |base: Offset, from: &[usize], to: &[usize]| {
            let words = from.iter().zip(to).enumerate();
            words
                .filter(|(_, (was, is))| was != is)
                .map(|(i, (&was, &is))| Changed {
                    at: base + (i * WORD) as Offset,
                    was,
                    is,
                })
                .collect::<Vec<_>>()
        };
        let (from, to) = (&seen.at[from], &seen.at[to]);
        let mut words = differing(layout.libc.0, &from.libc, &to.libc);
        words.extend(differing(layout.control().0, &from.thread, &to.thread));
        words.retain(|word| {
            let in_control = in_control(layout, word.at);
            !in_control.is_some_and(|at| is_link(layout, at) || is_kernels(layout, at))
        });
        words
    };
    let [a, b] = [of(&pair.seen[0]), of(&pair.seen[1])];
    if !a
        .iter()
        .map(|word| word.at)
        .eq(b.iter().map(|word| word.at))
    {
        return Err("two new threads use libc's thread-locals differently".into());
    }
    Ok(a)
}
