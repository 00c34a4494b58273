//! The descriptor table of the process: what is known of each descriptor number, by
//! everybody: reactors, and hooks on any thread.
//!
//! ```text
//!  word:  stamp 22 │ cached flags 10 ║ generation 31 │ registered 1
//! ```
//!
//! - **generation**: which file the number means. Every begin and end of a number that
//!   is seen moves it, and what was known before is gone. A reactor compares it with
//!   the one under which it registered the descriptor (`driver`).
//! - **registered**: a reactor has registered the number in this generation. Its
//!   waiters have to be told when it ends.
//! - **cached flags**: what the kernel said of the open file, so that a park costs no
//!   question. Before a coroutine parks we must know that the user did not make the
//!   descriptor non-blocking and set no time-out. A [`Probe`] asks once; the answer
//!   holds until a hooked call invalidates it.
//! - **stamp**: when the flags were cached. They belong to the open file, which other
//!   numbers may name. Of a number that is not [`SHARED`], as far as is known, the
//!   stamp counts the invalidations, so that an answer that was fetched before one is
//!   not stored after it. Of one that is, it is the time at which the kernel was asked,
//!   on a clock that every invalidation of a shared one moves ([`SHARED_CLOCK`]).
//!
//! One word, so a begin or an end is one write; lock-free, and free of allocation where
//! a number ends: `close` may be called anywhere.
//!
//! Not seen: changes by another process, by bare system calls, and through a duplicate
//! that came over a socket. They cost what they say: a coroutine that parks where it
//! should have got `EAGAIN`, until the next event.

use std::os::fd::RawFd;

use crate::seam::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::seam::{per_fd_static, process_static};
use crate::sys::per_fd::{Cell, PerFd};

/// `F_GETFL` had no `O_NONBLOCK`.
pub(crate) const BLOCKING: u32 = 1;
/// `SO_RCVTIMEO` is zero, or the descriptor is no socket.
pub(crate) const NO_READ_LIMIT: u32 = 1 << 1;
/// The same for `SO_SNDTIMEO`.
pub(crate) const NO_WRITE_LIMIT: u32 = 1 << 2;
/// `RWF_NOWAIT` does not work here: ask `poll` before each read.
pub(crate) const POLL_FIRST_TO_READ: u32 = 1 << 3;
/// Not a regular file: calls may wait, and a short read is the last word.
pub(crate) const NOT_A_FILE: u32 = 1 << 4;
/// Another number is known to name the same open file.
const SHARED: u32 = 1 << 5;
/// As [`POLL_FIRST_TO_READ`], before each write.
pub(crate) const POLL_FIRST_TO_WRITE: u32 = 1 << 6;
/// A Unix socket of messages: `poll` does not tell whether the peer's queue
/// has room, at least not when the two are connected to each other.
pub(crate) const PEER_QUEUE: u32 = 1 << 7;

/// A terminal: it has its own ways to read.
pub(crate) const TERMINAL: u32 = 1 << 8;

/// A regular file or a disk, when it was asked last. What depends on it asks again: a
/// number may have begun anew unseen.
pub(crate) const A_FILE: u32 = 1 << 9;

/// Such a one with `O_DIRECT`: it reads from the disk each time.
pub(crate) const DIRECT: u32 = 1 << 10;

const FLAGS: u32 = STAMP_ONE - 1;
const STAMP_ONE: u32 = 1 << 11;
const REGISTERED: u32 = 1;
const GENERATION_ONE: u32 = 2;

per_fd_static! {
    static TABLE: PerFd<Record>;
}

// Moves when the flags of a shared number are invalidated; in steps of `STAMP_ONE`.
process_static! {
    static SHARED_CLOCK: AtomicU32 = AtomicU32::new(0);
}

/// What is known of a number.
#[derive(Debug, Default)]
pub(crate) struct Record(AtomicU64);

const _: () = assert!(size_of::<Record>() == size_of::<AtomicU64>());

// SAFETY: as its only field. (Models put none into memory of zeros.)
unsafe impl Cell for Record {}

/// A record's word, in its halves. Zeros: never used.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Word {
    /// Stamp and flags.
    cached: u32,
    /// Generation and the registered bit.
    generation: u32,
}

impl Word {
    const UNUSED: Self = Self::of(0);

    const fn of(bits: u64) -> Self {
        Self {
            cached: (bits >> 32) as u32,
            generation: bits as u32,
        }
    }

    const fn bits(self) -> u64 {
        (self.cached as u64) << 32 | self.generation as u64
    }

    fn is_shared(self) -> bool {
        self.cached & SHARED != 0
    }

    /// The flags that still hold.
    #[inline(always)]
    fn valid(self) -> u32 {
        let stamp = self.cached & !FLAGS;
        if self.is_shared() && stamp != SHARED_CLOCK.load(Ordering::SeqCst) {
            SHARED
        } else {
            self.cached & FLAGS
        }
    }

    /// The number begins or ends.
    fn next_generation(self) -> Self {
        Self {
            cached: self.cached & !FLAGS,
            generation: (self.generation & !REGISTERED).wrapping_add(GENERATION_ONE),
        }
    }

    /// The flags do not hold any more.
    fn invalidated(self) -> Self {
        let stamp = (self.cached & !FLAGS).wrapping_add(STAMP_ONE);
        Self {
            cached: stamp,
            ..self
        }
    }
}

impl Record {
    /// Which file the number means: another value after each begin and end.
    #[inline(always)]
    pub(crate) fn generation(&self) -> u32 {
        // Pairs with `change`: a thread that learned of the number's new meaning from
        // the one that ended the old one sees that end, too.
        self.0.load(Ordering::Acquire) as u32
    }

    #[inline(always)]
    fn word(&self) -> Word {
        Word::of(self.0.load(Ordering::SeqCst))
    }

    /// Changes the word where `next` says to; what it was before.
    #[inline(always)]
    fn change(&self, next: impl Fn(Word) -> Option<Word>) -> Word {
        let next = |bits| next(Word::of(bits)).map(Word::bits);
        match self
            .0
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, next)
        {
            Ok(before) | Err(before) => Word::of(before),
        }
    }

    /// Moves the generation of a number that was ever used. True if a reactor had
    /// registered the number.
    #[inline(always)]
    fn renew(&self) -> bool {
        // As one number: the halves would be compared one by one.
        let used = |word: &Word| word.bits() != Word::UNUSED.bits();
        let before = self.change(|word| used(&word).then(|| word.next_generation()));
        before.generation & REGISTERED != 0
    }
}

/// A reactor is about to register the number: the record, and its generation. `None`
/// for what can't be a descriptor.
pub(crate) fn register(fd: RawFd) -> Option<(&'static Record, u32)> {
    let record = TABLE.get_or_grow(fd)?;
    let before = record.0.fetch_or(REGISTERED.into(), Ordering::SeqCst);
    Some((record, before as u32 | REGISTERED))
}

/// The number begins or is about to end. True if reactors registered it and have to be
/// told: also where it begins, because then its end was not seen.
#[inline]
#[must_use]
pub(crate) fn renew(fd: RawFd) -> bool {
    TABLE.get(fd).is_some_and(Record::renew)
}

/// [`renew`] for every number from `first` to `last`, which may be all that there are:
/// names those that reactors registered.
pub(crate) fn renew_range(first: u32, last: u32, registered: &mut impl FnMut(RawFd)) {
    for (fd, record) in TABLE.range(first, last) {
        if record.renew() {
            registered(fd);
        }
    }
}

/// The number `new` begins, for the open file behind `old`. As [`renew`] of `new`.
#[must_use]
pub(crate) fn renew_as_duplicate(old: RawFd, new: RawFd) -> bool {
    if let Some(record) = TABLE.get_or_grow(old) {
        let now = SHARED_CLOCK.load(Ordering::SeqCst);
        // The flags hold now. (The clock was read first.)
        let cached = |word: Word| word.cached & FLAGS | SHARED | now;
        record.change(|word| {
            (!word.is_shared()).then(|| Word {
                cached: cached(word),
                ..word
            })
        });
    }
    let Some(record) = TABLE.get_or_grow(new) else {
        return false;
    };
    let before = record.change(|word| {
        let mut next = word.next_generation();
        next.cached |= SHARED;
        Some(next)
    });
    before.generation & REGISTERED != 0
}

/// Whether two numbers are, as far as is known, of one open file.
pub(crate) fn may_share_file(a: RawFd, b: RawFd) -> bool {
    a == b || known(a, SHARED) && known(b, SHARED)
}

/// All cached flags of `fd` that hold.
#[inline(always)]
pub(crate) fn cached(fd: RawFd) -> u32 {
    TABLE.get(fd).map_or(0, |record| record.word().valid())
}

/// True if all of `flags` are known to hold of `fd`.
#[inline]
pub(crate) fn known(fd: RawFd, flags: u32) -> bool {
    cached(fd) & flags == flags
}

/// The user changed flags or time-outs of the open file behind `fd`.
pub(crate) fn invalidate(fd: RawFd) {
    let Some(record) = TABLE.get(fd) else { return };
    let asked = |word: &Word| *word != Word::UNUSED && !word.is_shared();
    let before = record.change(|word| Some(word).filter(asked).map(Word::invalidated));
    if before.is_shared() {
        SHARED_CLOCK.fetch_add(STAMP_ONE, Ordering::SeqCst);
    }
}

/// A question to the kernel about a descriptor's flags: begin before asking, commit
/// the answer after.
pub(crate) struct Probe {
    record: Option<&'static Record>,
    before: Word,
    clock: u32,
}

impl Probe {
    pub(crate) fn begin(fd: RawFd) -> Self {
        let clock = SHARED_CLOCK.load(Ordering::SeqCst);
        let record = TABLE.get_or_grow(fd);
        Self {
            record,
            before: record.map_or(Word::UNUSED, used),
            clock,
        }
    }

    /// Caches the answer, unless something changed since `begin`.
    pub(crate) fn commit(self, flags: u32) {
        let Some(record) = self.record else { return };
        let stamp = if self.before.is_shared() {
            self.clock
        } else {
            self.before.cached & !FLAGS
        };
        let after = Word {
            cached: stamp | self.before.valid() | flags,
            ..self.before
        };
        // A failure means that somebody else stored or changed something: then the
        // kernel is asked again next time.
        let [before, after] = [self.before, after].map(Word::bits);
        let _ = record
            .0
            .compare_exchange(before, after, Ordering::SeqCst, Ordering::Relaxed);
    }
}

/// The word of a record, not unused any more: whoever moves it sees that somebody
/// relies on it.
fn used(record: &Record) -> Word {
    record.change(|word| (word == Word::UNUSED).then(|| word.invalidated()));
    record.word()
}

/// Whether another number is known to name the same open file, and the generation:
/// for what is kept of a number elsewhere, and ends with it.
pub(super) fn sharing(fd: RawFd) -> Option<(bool, u32)> {
    let word = used(TABLE.get_or_grow(fd)?);
    Some((word.is_shared(), word.generation / GENERATION_ONE))
}

/// What a number means now, for a later step of the same call: a helper thread's, or
/// one after a wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Meaning {
    record: Option<&'static Record>,
    generation: u32,
}

impl Meaning {
    pub(crate) fn of(fd: RawFd) -> Self {
        let record = TABLE.get_or_grow(fd);
        Self {
            record,
            generation: record.map_or(0, |record| used(record).generation & !REGISTERED),
        }
    }

    /// Whether the number has neither ended nor begun since, as far as was seen.
    pub(crate) fn holds(self) -> bool {
        let now = |record: &Record| record.generation() & !REGISTERED;
        self.record
            .is_none_or(|record| now(record) == self.generation)
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use crate::sys::per_fd::CHUNK;
    use std::collections::HashMap;
    use std::sync::{Mutex, MutexGuard};

    /// The clock is global: the tests that look at it take turns.
    fn turn() -> MutexGuard<'static, ()> {
        static TURN: Mutex<()> = Mutex::new(());
        TURN.lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Numbers far above what this process opens.
    const BASE: RawFd = 5_000_000;

    fn learn(fd: RawFd, flags: u32) {
        Probe::begin(fd).commit(flags);
    }

    #[test]
    fn flags_last_until_something_changes() {
        let _turn = turn();
        let fd = BASE;
        assert!(!known(fd, BLOCKING));
        learn(fd, BLOCKING | NO_READ_LIMIT);
        assert!(known(fd, BLOCKING) && known(fd, NO_READ_LIMIT) && !known(fd, NO_WRITE_LIMIT));
        invalidate(fd);
        assert!(!known(fd, BLOCKING) && !known(fd, NO_READ_LIMIT));
        learn(fd, BLOCKING);
        assert!(!renew(fd), "no reactor knew it");
        assert!(!known(fd, BLOCKING));
    }

    #[test]
    fn an_answer_from_before_a_change_is_not_kept() {
        let _turn = turn();
        let changes = [
            invalidate as fn(RawFd),
            |fd| _ = renew(fd),
            |fd| _ = renew_as_duplicate(BASE + 2, fd),
            // Shared by now.
            |_| invalidate(BASE + 2),
        ];
        for (at, change) in changes.into_iter().enumerate() {
            let probe = Probe::begin(BASE + 1);
            change(BASE + 1);
            probe.commit(BLOCKING);
            assert!(!known(BASE + 1, BLOCKING), "change {at}");
        }
    }

    #[test]
    fn flags_that_hold_outlast_a_duplicate() {
        let _turn = turn();
        let [a, b, c] = [3, 4, 5].map(|n| BASE + n);
        learn(a, BLOCKING);
        assert!(!may_share_file(a, b));
        let _ = renew_as_duplicate(a, b);
        assert!(known(a, BLOCKING) && !known(b, BLOCKING) && may_share_file(a, b));
        learn(b, BLOCKING);
        learn(c, BLOCKING);
        invalidate(b);
        assert!(!known(a, BLOCKING) && !known(b, BLOCKING) && known(c, BLOCKING));
        let _ = renew(b);
        assert!(!may_share_file(a, b));
    }

    #[test]
    fn numbers_that_are_none_are_just_unknown() {
        for fd in [-1, RawFd::MIN] {
            learn(fd, BLOCKING);
            invalidate(fd);
            assert!(!renew_as_duplicate(fd, fd) && !known(fd, BLOCKING) && !renew(fd));
            assert!(register(fd).is_none() && sharing(fd).is_none());
        }
    }

    #[test]
    fn each_begin_and_end_moves_the_generation() {
        let _turn = turn();
        let fd = BASE + 10;
        assert!(!renew(fd), "never used");
        let (record, mut generation) = register(fd).unwrap();
        assert_eq!(generation, record.generation());
        let mut moved = || {
            let before = std::mem::replace(&mut generation, record.generation());
            before != generation
        };
        learn(fd, BLOCKING);
        invalidate(fd);
        assert!(!renew(fd + 1) && !moved(), "none of this ends it");
        assert!(renew(fd) && moved());
        assert!(!renew(fd) && moved(), "reactors have been told");
        assert!(register(fd).is_some() && moved());
        assert!(renew_as_duplicate(BASE + 12, fd) && moved());
        assert_eq!(
            register(fd).map(|(_, now)| now),
            register(fd).map(|(_, now)| now)
        );
        // It wraps, and leaves its neighbours in the word alone.
        let last = Word {
            cached: NOT_A_FILE,
            generation: u32::MAX,
        };
        record.0.store(last.bits(), Ordering::SeqCst);
        assert!(renew(fd));
        assert!(record.word() == Word::UNUSED);
    }

    #[test]
    fn a_meaning_ends_with_the_number_and_with_nothing_else() {
        let _turn = turn();
        let fd = BASE + 30;
        let meaning = Meaning::of(fd);
        learn(fd, BLOCKING);
        invalidate(fd);
        assert!(register(fd).is_some() && meaning.holds());
        assert!(renew(fd) && !meaning.holds());
        let meaning = Meaning::of(fd);
        assert!(!renew_as_duplicate(BASE + 31, fd) && !meaning.holds());
        assert!(Meaning::of(-1).holds(), "the call will say what is wrong");
    }

    #[test]
    fn a_range_names_the_registered_ones_across_chunks() {
        let _turn = turn();
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
            register(fd as RawFd);
        }
        learn(base as RawFd + 7, NOT_A_FILE);
        let mut seen = Vec::new();
        renew_range(fds[1] as u32, fds[4] as u32, &mut |fd| {
            seen.push(fd as usize)
        });
        assert_eq!(seen, fds[1..=4]);
        assert!(!known(base as RawFd + 7, NOT_A_FILE));
    }

    /// A thread asks while another changes what it asks for.
    #[test]
    fn racing_answers_and_changes_leave_nothing_wrong() {
        let _turn = turn();
        let [fd, other] = [BASE + 20, BASE + 21];
        let changes: [fn(RawFd, RawFd); 4] = [
            |fd, _| invalidate(fd),
            |fd, _| _ = renew(fd),
            |fd, other| {
                let _ = renew_as_duplicate(fd, other);
                invalidate(other);
            },
            // Shared by now.
            |_, other| invalidate(other),
        ];
        for change in changes {
            for _ in 0..500 {
                let blocking = AtomicU32::new(BLOCKING);
                let ask = || {
                    let probe = Probe::begin(fd);
                    probe.commit(blocking.load(Ordering::SeqCst));
                };
                std::thread::scope(|scope| {
                    scope.spawn(ask);
                    blocking.store(0, Ordering::SeqCst);
                    change(fd, other);
                });
                assert!(!known(fd, BLOCKING));
            }
        }
    }

    /// Random operations against a model of open files, numbers and reactors: what
    /// is known is never wrong, and no registration outlives its number.
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
        // number -> open file; open file -> is it blocking; number -> generation
        let mut numbers: HashMap<RawFd, usize> = HashMap::new();
        let mut files: Vec<bool> = Vec::new();
        let mut registered: HashMap<RawFd, u32> = HashMap::new();
        let mut hits = 0;
        for _ in 0..100_000 {
            let fd = BASE + 100 + random(12) as RawFd;
            let open = numbers.get(&fd).copied();
            match (random(7), open) {
                (0, None) => {
                    // Its end was seen.
                    assert!(!renew(fd));
                    numbers.insert(fd, files.len());
                    files.push(true);
                }
                (1, Some(_)) => {
                    assert_eq!(renew(fd), registered.remove(&fd).is_some());
                    numbers.remove(&fd);
                }
                (2, Some(file)) => {
                    let new = BASE + 100 + random(12) as RawFd;
                    if new != fd {
                        assert_eq!(
                            renew_as_duplicate(fd, new),
                            registered.remove(&new).is_some()
                        );
                        numbers.insert(new, file);
                    }
                }
                (3, Some(file)) => {
                    files[file] = random(2) == 0;
                    invalidate(fd);
                }
                (4, Some(_)) => {
                    registered.insert(fd, register(fd).unwrap().1);
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
            if let Some(generation) = registered.get(&fd) {
                assert_eq!(TABLE.get(fd).unwrap().generation(), *generation);
            }
        }
        assert!(hits > 1000, "the test must see knowledge used, saw {hits}");
    }
}
