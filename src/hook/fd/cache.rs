//! What is known of each descriptor number, so that a park costs no question.
//!
//! Before a coroutine parks we must know that the user did not make the
//! descriptor non-blocking and set no time-out. The kernel is asked once; the
//! answer is kept here until a hooked call changes it. The table is process
//! wide, lock-free and grows by chunks that are never freed:
//!
//! ```text
//!   TABLE: [ptr; 4096] ──► chunk: [word; 4096], [acceptor; 4096]
//!   word:  epoch 32 │ version 24 │ facts 8
//! ```
//!
//! *version* changes with every invalidation: an answer that was fetched
//! before one is not stored after it. *epoch* matters for descriptors that
//! have a known duplicate (`SHARED`): `O_NONBLOCK` and the time-outs belong to
//! the open file, so a change through one number ends what is known of all
//! shared ones, by moving the global epoch.
//!
//! Not seen: changes by another process, by bare system calls, and through a
//! duplicate that came over a socket. They cost what they say: a coroutine
//! that parks where it should have got `EAGAIN`, until the next event.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use crate::driver::Direction;
use crate::hook::fd::shared_listener::Acceptor;

/// `F_GETFL` had no `O_NONBLOCK`.
pub(crate) const BLOCKING: u64 = 1;
/// `SO_RCVTIMEO` is zero, or the descriptor is no socket.
pub(crate) const NO_READ_LIMIT: u64 = 1 << 1;
/// The same for `SO_SNDTIMEO`.
pub(crate) const NO_WRITE_LIMIT: u64 = 1 << 2;
/// `RWF_NOWAIT` does not work here: ask `poll` before each read.
const POLL_FIRST_TO_READ: u64 = 1 << 3;
/// Not a regular file: calls may wait, and a short read is the last word.
pub(crate) const NOT_A_FILE: u64 = 1 << 4;
/// The same before each write.
const POLL_FIRST_TO_WRITE: u64 = 1 << 6;
/// A Unix socket of messages: `poll` does not tell whether the peer's queue
/// has room, at least not when the two are connected to each other.
pub(crate) const PEER_QUEUE: u64 = 1 << 7;
/// Another number is known to name the same open file.
const SHARED: u64 = 1 << 5;

const FACTS: u64 = 0xff;
const VERSION_ONE: u64 = 1 << 8;
const VERSION: u64 = 0xffff_ff00;
const EPOCH_SHIFT: u32 = 32;

const CHUNK: usize = 4096;
const CHUNKS: usize = 4096;

struct Chunk {
    words: [AtomicU64; CHUNK],
    /// The one thread that accepts from a listener; 0 before the first did.
    acceptors: [AtomicU32; CHUNK],
}

static TABLE: [AtomicPtr<Chunk>; CHUNKS] = [const { AtomicPtr::new(std::ptr::null_mut()) }; CHUNKS];
static EPOCH: AtomicU32 = AtomicU32::new(0);

/// The fact "ask `poll` first" for a direction.
pub(crate) fn poll_first(dir: Direction) -> u64 {
    match dir {
        Direction::Read => POLL_FIRST_TO_READ,
        Direction::Write => POLL_FIRST_TO_WRITE,
    }
}

/// The fact "no time-out" for a direction.
pub(crate) fn no_limit(dir: Direction) -> u64 {
    match dir {
        Direction::Read => NO_READ_LIMIT,
        Direction::Write => NO_WRITE_LIMIT,
    }
}

/// All that is known of `fd`.
#[inline(always)]
pub(crate) fn facts(fd: RawFd) -> u64 {
    entry(fd).map_or(0, |word| current(word.load(Ordering::Acquire)))
}

/// True if all of `facts` are known of `fd`.
#[inline]
pub(crate) fn known(fd: RawFd, facts: u64) -> bool {
    self::facts(fd) & facts == facts
}

/// A question to the kernel about `fd`: begin before asking, store after.
pub(crate) struct Question {
    word: Option<&'static AtomicU64>,
    before: u64,
    epoch: u32,
}

impl Question {
    pub(crate) fn begin(fd: RawFd) -> Self {
        let epoch = EPOCH.load(Ordering::SeqCst);
        let word = entry_or_grow(fd);
        if let Some(word) = word.filter(|word| word.load(Ordering::Relaxed) == 0) {
            // Never used: move the version, so that `forget` sees a question
            // under way and moves it on.
            update(word, |facts| facts);
        }
        Self {
            word,
            before: word.map_or(0, |w| w.load(Ordering::SeqCst)),
            epoch,
        }
    }

    /// Keeps the answer, unless something changed since `begin`.
    pub(crate) fn learned(self, facts: u64) {
        let Some(word) = self.word else { return };
        let kept = (current(self.before) | facts) & FACTS;
        let after = u64::from(self.epoch) << EPOCH_SHIFT | self.before & VERSION | kept;
        // A failure means that somebody else stored or changed something:
        // then we ask again next time.
        let _ = word.compare_exchange(self.before, after, Ordering::SeqCst, Ordering::Relaxed);
    }
}

/// The user changed flags or time-outs of the open file behind `fd`.
pub(crate) fn changed(fd: RawFd) {
    let Some(word) = entry(fd) else { return };
    if update(word, |facts| facts & SHARED) & SHARED != 0 {
        EPOCH.fetch_add(1, Ordering::SeqCst);
    }
}

/// `new` is a fresh number for the open file behind `old`.
pub(crate) fn duplicated(old: RawFd, new: RawFd) {
    for fd in [old, new] {
        if let Some(word) = entry_or_grow(fd) {
            update(
                word,
                |facts| if fd == old { facts | SHARED } else { SHARED },
            );
        }
    }
}

/// Whether two numbers are, as far as is known, of one open file.
pub(crate) fn may_be_one(a: RawFd, b: RawFd) -> bool {
    a == b || known(a, SHARED) && known(b, SHARED)
}

/// The number begins or ends: nothing is known of it. True if anything was.
pub(crate) fn forget(fd: RawFd) -> bool {
    let Some(word) = entry(fd) else { return false };
    if let Some(known) = acceptor(fd).filter(|known| known.load(Ordering::Relaxed) != 0) {
        known.store(0, Ordering::Relaxed);
    }
    // All zero: never asked about, so there is no question to invalidate.
    word.load(Ordering::SeqCst) != 0 && update(word, |_| 0) & FACTS != 0
}

/// Calls `f` for every number in the range that was ever asked about.
pub(crate) fn for_each_used(first: u32, last: u32, mut f: impl FnMut(RawFd)) {
    let last = (last as usize).min(CHUNK * CHUNKS - 1);
    let mut at = first as usize;
    while at <= last {
        let end = (at / CHUNK + 1) * CHUNK;
        if !TABLE[at / CHUNK].load(Ordering::Acquire).is_null() {
            for fd in at..end.min(last + 1) {
                if entry(fd as RawFd).is_some_and(|word| word.load(Ordering::Relaxed) != 0) {
                    f(fd as RawFd);
                }
            }
        }
        at = end;
    }
}

/// Replaces the facts, moves the version, returns the facts before.
fn update(word: &AtomicU64, facts: impl Fn(u64) -> u64) -> u64 {
    let next = |old: u64| {
        let version = old.wrapping_add(VERSION_ONE) & VERSION;
        Some(old & !(VERSION | FACTS) | version | facts(old & FACTS))
    };
    match word.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next) {
        Ok(old) | Err(old) => old & FACTS,
    }
}

/// The facts of a word that still hold.
#[inline(always)]
fn current(word: u64) -> u64 {
    let stale = word & SHARED != 0 && (word >> EPOCH_SHIFT) as u32 != EPOCH.load(Ordering::SeqCst);
    if stale { word & SHARED } else { word & FACTS }
}

#[inline(always)]
fn entry(fd: RawFd) -> Option<&'static AtomicU64> {
    let fd = usize::try_from(fd).ok()?;
    let chunk = TABLE.get(fd / CHUNK)?.load(Ordering::Acquire);
    // SAFETY: a chunk is published whole and never freed.
    unsafe { chunk.as_ref() }.map(|chunk| &chunk.words[fd % CHUNK])
}

#[inline]
fn acceptor(fd: RawFd) -> Option<&'static AtomicU32> {
    let fd = usize::try_from(fd).ok()?;
    let chunk = TABLE.get(fd / CHUNK)?.load(Ordering::Acquire);
    // SAFETY: as in `entry`.
    unsafe { chunk.as_ref() }.map(|chunk| &chunk.acceptors[fd % CHUNK])
}

/// `us` is about to accept from `fd`. True if another thread does, too, or may
/// by another number, and somebody's coroutine would wait in vain.
pub(crate) fn endangered(fd: RawFd, us: Acceptor) -> bool {
    let Some(word) = entry_or_grow(fd) else {
        return false;
    };
    if word.load(Ordering::Relaxed) & SHARED != 0 {
        return us.in_coroutine();
    }
    let relaxed = Ordering::Relaxed;
    acceptor(fd).is_some_and(|known| {
        match known
            .compare_exchange(0, us.0, relaxed, relaxed)
            .map_err(Acceptor)
        {
            Err(other) if !other.is_thread_of(us) => other.in_coroutine() || us.in_coroutine(),
            Err(other) => {
                // The same thread, now perhaps in a coroutine.
                known.store(other.0 | us.0, relaxed);
                false
            }
            Ok(_) => false,
        }
    })
}

#[cold]
fn grow(slot: &AtomicPtr<Chunk>) {
    let layout = Layout::new::<Chunk>();
    // SAFETY: the layout has a size, and zeros are valid atomics.
    let fresh = unsafe { alloc_zeroed(layout) }.cast::<Chunk>();
    if fresh.is_null() {
        return; // Nothing is remembered then; the kernel is asked each time.
    }
    let free = std::ptr::null_mut();
    if slot
        .compare_exchange(free, fresh, Ordering::SeqCst, Ordering::Acquire)
        .is_err()
    {
        // SAFETY: allocated above with this layout, never published.
        unsafe { dealloc(fresh.cast(), layout) };
    }
}

fn entry_or_grow(fd: RawFd) -> Option<&'static AtomicU64> {
    if let Some(word) = entry(fd) {
        return Some(word);
    }
    grow(TABLE.get(usize::try_from(fd).ok()? / CHUNK)?);
    entry(fd)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use std::sync::{Mutex, MutexGuard};

    /// The epoch is global: the tests that look at it take turns.
    fn turn() -> MutexGuard<'static, ()> {
        static TURN: Mutex<()> = Mutex::new(());
        TURN.lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Numbers far above what this process opens.
    const BASE: RawFd = 5_000_000;

    fn learn(fd: RawFd, facts: u64) {
        Question::begin(fd).learned(facts);
    }

    #[test]
    fn facts_last_until_something_changes() {
        let _turn = turn();
        let fd = BASE;
        assert!(!known(fd, BLOCKING));
        learn(fd, BLOCKING | NO_READ_LIMIT);
        assert!(known(fd, BLOCKING) && known(fd, NO_READ_LIMIT) && !known(fd, NO_WRITE_LIMIT));
        changed(fd);
        assert!(!known(fd, BLOCKING) && !known(fd, NO_READ_LIMIT));
        learn(fd, BLOCKING);
        assert!(forget(fd));
        assert!(!known(fd, BLOCKING));
        assert!(!forget(fd));
    }

    #[test]
    fn an_answer_from_before_a_change_is_not_kept() {
        let _turn = turn();
        for end in [changed as fn(RawFd), |fd| _ = forget(fd)] {
            let question = Question::begin(BASE + 1);
            end(BASE + 1);
            question.learned(BLOCKING);
            assert!(!known(BASE + 1, BLOCKING));
        }
    }

    #[test]
    fn numbers_out_of_range_are_just_unknown() {
        for fd in [-1, RawFd::MIN, RawFd::MAX] {
            learn(fd, BLOCKING);
            changed(fd);
            duplicated(fd, fd);
            assert!(!known(fd, BLOCKING));
            assert!(!forget(fd));
        }
    }

    /// Random operations against a model of open files and numbers: what is
    /// known is never wrong.
    #[test]
    fn never_knows_what_is_not_so() {
        let _turn = turn();
        let mut seed = 0x9E37_79B9_7F4A_7C15u64;
        let mut random = |below: u64| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed % below
        };
        // number -> open file; open file -> is it blocking
        let mut numbers: HashMap<RawFd, usize> = HashMap::new();
        let mut files: Vec<bool> = Vec::new();
        let mut hits = 0;
        for _ in 0..100_000 {
            let fd = BASE + 100 + random(12) as RawFd;
            let open = numbers.get(&fd).copied();
            match (random(6), open) {
                (0, None) => {
                    forget(fd);
                    numbers.insert(fd, files.len());
                    files.push(true);
                }
                (1, Some(_)) => {
                    forget(fd);
                    numbers.remove(&fd);
                }
                (2, Some(file)) => {
                    let new = BASE + 100 + random(12) as RawFd;
                    if new != fd {
                        duplicated(fd, new);
                        numbers.insert(new, file);
                    }
                }
                (3, Some(file)) => {
                    files[file] = random(2) == 0;
                    changed(fd);
                }
                (_, Some(file)) => {
                    if known(fd, BLOCKING) {
                        hits += 1;
                        assert!(files[file], "said to block, but it does not");
                    } else if files[file] {
                        learn(fd, BLOCKING);
                        assert!(known(fd, BLOCKING));
                    }
                }
                (_, None) => {}
            }
        }
        assert!(hits > 1000, "the test must see knowledge used, saw {hits}");
    }

    #[test]
    fn used_numbers_are_found_in_a_range() {
        let _turn = turn();
        for fd in [BASE + 50, BASE + 51 + CHUNK as RawFd] {
            learn(fd, NOT_A_FILE);
        }
        let mut seen = Vec::new();
        for_each_used(BASE as u32 + 50, u32::MAX, |fd| seen.push(fd));
        assert!(seen.contains(&(BASE + 50)) && seen.contains(&(BASE + 51 + CHUNK as RawFd)));
        assert!(seen.iter().all(|&fd| fd >= BASE + 50));
    }
}
