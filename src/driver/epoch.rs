//! Which file a descriptor number means, as far as the process was told.
//!
//! A process-wide table holds one word per descriptor number. Whoever is
//! about to close or replace a descriptor, on any thread, [`bump`]s its word;
//! a reactor compares the word with the one that it saw when it registered
//! the descriptor. Lock-free and free of allocation on the bumping side: the
//! hooks of `close` and `dup2` call it from anywhere.
//!
//! ```text
//!  word = epoch (31 bits) · tracked (1 bit: some reactor registered it once)
//!
//!  ROOT [32 768 pointers] ─► chunk of 65 536 words, made by the first
//!                            registration in its range, never freed
//! ```

use std::os::fd::RawFd;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

const CHUNK_BITS: u32 = 16;
const CHUNK: usize = 1 << CHUNK_BITS;
const CHUNKS: usize = 1 << (31 - CHUNK_BITS);
const TRACKED: u32 = 1;
const STEP: u32 = 2;

/// Each is null or points to the first of `CHUNK` words that live for ever.
static ROOT: [AtomicPtr<AtomicU32>; CHUNKS] = [const { AtomicPtr::new(ptr::null_mut()) }; CHUNKS];

/// The word of a descriptor number, if its chunk exists.
fn word(fd: RawFd) -> Option<&'static AtomicU32> {
    let fd = usize::try_from(fd).ok()?;
    chunk(fd / CHUNK).map(|words| &words[fd % CHUNK])
}

fn chunk(number: usize) -> Option<&'static [AtomicU32]> {
    let first = ROOT[number].load(Ordering::Acquire);
    if first.is_null() {
        return None;
    }
    // SAFETY: a pointer in ROOT that is not null was published by `grow`: it
    // leads to `CHUNK` initialised words that are never freed and that are
    // only ever accessed as atomics.
    Some(unsafe { std::slice::from_raw_parts(first, CHUNK) })
}

/// Makes a chunk, or finds that another thread was first.
fn grow(number: usize) -> &'static [AtomicU32] {
    // Zeroed by the allocator: a page is real when a word of it is used.
    let words: Box<[u32]> = vec![0; CHUNK].into_boxed_slice();
    // AtomicU32 has the size, alignment and bit patterns of u32.
    let fresh = Box::into_raw(words).cast::<AtomicU32>();
    let root = &ROOT[number];
    if root
        .compare_exchange(ptr::null_mut(), fresh, Ordering::AcqRel, Ordering::Acquire)
        .is_err()
    {
        let words = ptr::slice_from_raw_parts_mut(fresh.cast::<u32>(), CHUNK);
        // SAFETY: `fresh` came from a Box of this type and length, and was
        // not published.
        drop(unsafe { Box::from_raw(words) });
    }
    chunk(number).expect("published above, by us or by the winner")
}

/// The word of a descriptor that a reactor is about to register; from now on
/// [`bump`] changes it. `None` for a number that can't be a descriptor.
pub(super) fn track(fd: RawFd) -> Option<&'static AtomicU32> {
    let number = usize::try_from(fd).ok()?;
    let words = chunk(number / CHUNK).unwrap_or_else(|| grow(number / CHUNK));
    let word = &words[number % CHUNK];
    if word.load(Ordering::Relaxed) & TRACKED == 0 {
        word.fetch_or(TRACKED, Ordering::AcqRel);
    }
    Some(word)
}

/// Says that `fd` is about to be closed or replaced: what reactors know of it
/// no longer holds. True if any reactor ever registered this number, so that
/// its waiters may have to be told (`Driver::fd_gone`).
pub(crate) fn bump(fd: RawFd) -> bool {
    word(fd).is_some_and(bump_word)
}

/// Bumps the tracked descriptors of `first..=last` and names each: for
/// `close_range`, whose range may span every number there is.
pub(crate) fn bump_range(first: u32, last: u32, gone: &mut impl FnMut(RawFd)) {
    let (first, last) = (
        first as usize,
        (last as usize).min((CHUNKS << CHUNK_BITS) - 1),
    );
    for number in first / CHUNK..=last / CHUNK {
        let Some(words) = chunk(number) else { continue };
        let base = number * CHUNK;
        let from = first.saturating_sub(base);
        let to = (last - base).min(CHUNK - 1);
        for (offset, word) in words.iter().enumerate().take(to + 1).skip(from) {
            if bump_word(word) {
                gone((base + offset) as RawFd);
            }
        }
    }
}

fn bump_word(word: &AtomicU32) -> bool {
    // The check spares the descriptors of programs that use no reactor a
    // dirty cache line. Wrapping keeps the tracked bit: 2³¹ steps of 2.
    let tracked = word.load(Ordering::Relaxed) & TRACKED != 0;
    if tracked {
        word.fetch_add(STEP, Ordering::AcqRel);
    }
    tracked
}

#[cfg(test)]
mod tests {
    use super::*;

    // Numbers far above what any test of this process opens.
    const BASE: RawFd = 1_900_000_000;

    #[test]
    fn only_tracked_numbers_change() {
        assert!(!bump(BASE));
        let word = track(BASE).unwrap();
        let before = word.load(Ordering::Acquire);
        assert!(!bump(BASE + 1));
        assert!(bump(BASE));
        assert_ne!(word.load(Ordering::Acquire), before);
        assert!(track(-1).is_none());
        assert!(!bump(-1));
        assert!(!bump(RawFd::MAX));
        assert!(track(RawFd::MAX).is_some());
        assert!(bump(RawFd::MAX));
    }

    #[test]
    fn the_tracked_bit_survives_wrapping() {
        let word = track(BASE + 100_000).unwrap();
        word.store(u32::MAX, Ordering::Release);
        assert!(bump(BASE + 100_000));
        assert_eq!(word.load(Ordering::Acquire), TRACKED);
    }

    #[test]
    fn a_range_names_the_tracked_ones_across_chunks() {
        let base = BASE as usize / CHUNK * CHUNK + 40 * CHUNK;
        let fds = [
            base - 2,
            base - 1,
            base,
            base + 5,
            base + CHUNK - 1,
            base + CHUNK,
        ];
        for fd in fds {
            track(fd as RawFd);
        }
        let mut seen = Vec::new();
        bump_range(fds[1] as u32, fds[4] as u32, &mut |fd| {
            seen.push(fd as usize)
        });
        assert_eq!(seen, fds[1..=4]);
    }

    #[test]
    fn threads_that_grow_one_chunk_agree() {
        let fd = BASE + 10_000_000;
        let threads: Vec<_> = (0..8)
            .map(|_| std::thread::spawn(move || ptr::from_ref(track(fd).unwrap()) as usize))
            .collect();
        let words: Vec<usize> = threads.into_iter().map(|t| t.join().unwrap()).collect();
        assert!(words.iter().all(|&w| w == words[0]));
    }
}
