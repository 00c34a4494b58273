//! What glibc notes in a lock, learnt by making one of each kind: it may move from
//! version to version.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// The one word in which locks of two kinds differ, and the bits of it.
pub(super) struct Note {
    word: AtomicUsize,
    /// 0 before it was learnt, and where it can't be told.
    bits: AtomicU32,
}

impl Note {
    pub(super) const fn new() -> Self {
        Self {
            word: AtomicUsize::new(0),
            bits: AtomicU32::new(0),
        }
    }

    /// Compares a fresh lock with a fresh one of the noted kind.
    pub(super) fn learn(&self, plain: &[u32], noted: &[u32]) {
        let differs = |&word: &usize| plain[word] != noted[word];
        let mut differing = (0..plain.len()).filter(differs);
        if let (Some(word), None) = (differing.next(), differing.next()) {
            self.word.store(word, Ordering::Relaxed);
            let bits = plain[word] ^ noted[word];
            self.bits.store(bits, Ordering::Release);
        }
    }

    /// Whether the lock is of the noted kind, if that can be told.
    ///
    /// # Safety
    ///
    /// - A valid lock, of those that were compared.
    pub(super) unsafe fn is_on<T>(&self, lock: *const T) -> Option<bool> {
        let bits = self.bits.load(Ordering::Acquire);
        if bits == 0 {
            return None;
        }
        let word = self.word.load(Ordering::Relaxed);
        // SAFETY: a word of the caller's lock.
        let word = unsafe { lock.cast::<u32>().add(word).read_volatile() };
        Some(word & bits != 0)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_differs_in_one_word_is_learnt() {
        let note = Note::new();
        let (plain, noted) = ([7, 0, 1], [7, 4, 1]);
        // SAFETY: as long as those that are compared.
        let seen = |note: &Note, lock: &[u32; 3]| unsafe { note.is_on(lock) };
        assert_eq!(seen(&note, &noted), None);
        note.learn(&plain, &[8, 4, 1]);
        assert_eq!(seen(&note, &noted), None);
        note.learn(&plain, &noted);
        assert_eq!(
            [plain, noted].map(|lock| seen(&note, &lock)),
            [Some(false), Some(true)]
        );
    }
}
