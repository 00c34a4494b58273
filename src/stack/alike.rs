//! Alike frames: what the frames of a task have in common with those of another that waits
//! at the same depth of the same stack is kept once.
//!
//! Most words of parked frames are the same for all tasks of a stack: return addresses,
//! pointers from one frame to another, registers that nobody has changed. So the first
//! frames of a length are a *pattern*, kept as long as the stack. Later ones are *packed*:
//! a word with a bit for each place in which they may differ from it, then their words there.
//!
//! ```text
//!   pattern  | ret | rbx | 5  | ret | link | 17 |
//!   frames   | ret | rbx | 6  | ret | link | 23 |
//!   packed   | 0b100100  | 6  | 23 |
//! ```
//!
//! The pattern never changes, as all that was packed rests on it. The places are those in
//! which any frames have differed so far: soon there are no more of them, and the next need
//! only be looked at for whether they differ elsewhere.

use std::arch::asm;
use std::ptr;

use super::copy;

const WORD: usize = size_of::<u64>();

/// Words of the longest frames that are packed: a bit of a word for each.
const MOST: usize = u64::BITS as usize;

/// Nothing is packed where reading a frame's words is watched.
const WATCHED: bool = cfg!(any(miri, feature = "sanitizer", feature = "valgrind"));

/// The shapes of one stack's frames, by their words less one; none where there were no such
/// frames.
#[derive(Default)]
pub(super) struct Shapes(Vec<Option<Shape>>);

/// What frames of one length have in common.
#[derive(Clone)]
pub(super) struct Shape {
    pattern: Box<[u64]>,
    /// All bits of the words in which no frames have differed, none of the others.
    common: Box<[u64]>,
    /// The others: a bit for each, from the lowest on, and their places.
    differing: u64,
    places: Vec<u8>,
}

impl Shapes {
    /// The shape of frames, which they have now; nothing if packing them would not make
    /// them smaller.
    ///
    /// # Safety
    ///
    /// - `len` bytes lie at `from`, at rest.
    #[inline]
    pub(super) unsafe fn of(&mut self, from: *const u8, len: usize) -> Option<&Shape> {
        let words = len / WORD;
        let fits = len <= MOST * WORD && len % WORD == 0 && from.cast::<u64>().is_aligned();
        if WATCHED || !fits {
            return None;
        }
        if self.0.get(words - 1).is_none_or(Option::is_none) {
            // SAFETY: forwarded.
            unsafe { self.begin(from, words) };
        }
        let shape = self.0[words - 1].as_mut()?;
        // SAFETY: forwarded; the shape has as many words.
        if shape.packs() && unsafe { shape.is_unlike(from) } {
            // SAFETY: as above.
            unsafe { shape.learn(from) };
        }
        shape.packs().then_some(shape)
    }

    /// Puts packed frames of `len` bytes back.
    ///
    /// # Safety
    ///
    /// - They lie at `from`, and were packed with a shape of these.
    /// - `to` has room for them, elsewhere.
    #[inline]
    pub(super) unsafe fn unpack(&self, from: *const u8, len: usize, to: *mut u8) {
        let shape = self.0[len / WORD - 1].as_ref();
        // SAFETY: forwarded.
        unsafe { shape.expect("packed with it").unpack(from, to) };
    }

    /// # Safety
    ///
    /// - So many words lie at `from`, at rest.
    #[cold]
    #[inline(never)]
    unsafe fn begin(&mut self, from: *const u8, words: usize) {
        if self.0.len() < words {
            self.0.resize(words, None);
        }
        let mut pattern = vec![0; words];
        // SAFETY: the caller's words; the copy is ours.
        unsafe { copy::copy(from, pattern.as_mut_ptr().cast(), words * WORD) };
        self.0[words - 1] = Some(Shape {
            pattern: pattern.into(),
            common: vec![!0; words].into(),
            differing: 0,
            places: Vec::new(),
        });
    }
}

impl Shape {
    /// Bytes of packed frames.
    #[inline]
    pub(super) fn packed_bytes(&self) -> usize {
        WORD * (1 + self.places.len())
    }

    #[inline]
    fn packs(&self) -> bool {
        1 + self.places.len() < self.pattern.len()
    }

    /// Whether frames differ from the pattern elsewhere than others have.
    ///
    /// # Safety
    ///
    /// - They lie at `from`, aligned to a word, at rest, and are as long as the pattern.
    #[inline]
    unsafe fn is_unlike(&self, from: *const u8) -> bool {
        // To the language some of the bytes may mean nothing; this says that they do.
        //
        // SAFETY: no instruction.
        unsafe { asm!("/* {0} */", in(reg) from, options(nostack, preserves_flags)) };
        let from = from.cast::<u64>();
        let common = self.pattern.iter().zip(&self.common).enumerate();
        let unlike = common.fold(0, |sum, (at, (word, mask))| {
            // SAFETY: one of the caller's words.
            sum | (unsafe { from.add(at).read() } ^ word) & mask
        });
        unlike != 0
    }

    /// Notes in which further places frames differ.
    ///
    /// # Safety
    ///
    /// - As [`Shape::is_unlike`].
    #[cold]
    #[inline(never)]
    unsafe fn learn(&mut self, from: *const u8) {
        for (at, mask) in self.common.iter_mut().enumerate() {
            // SAFETY: the caller's words; `is_unlike` says why they mean something.
            let word = unsafe { from.cast::<u64>().add(at).read() };
            if word != self.pattern[at] {
                *mask = 0;
                self.differing |= 1 << at;
            }
        }
        let places = (0..self.pattern.len() as u8).filter(|at| self.differing >> at & 1 != 0);
        self.places = places.collect();
    }

    /// # Safety
    ///
    /// - [`Shapes::of`] gave this shape for the frames at `from`, just now.
    /// - `to` has room for [packed ones](Self::packed_bytes), elsewhere, aligned to a word.
    #[inline]
    pub(super) unsafe fn pack(&self, from: *const u8, to: *mut u8) {
        let (from, to) = (from.cast::<u64>(), to.cast::<u64>());
        // SAFETY: a word for the bits, then one for each place, which is one of the frames'.
        unsafe {
            to.write(self.differing);
            for (at, &place) in self.places.iter().enumerate() {
                ptr::copy_nonoverlapping(from.add(place.into()), to.add(1 + at), 1);
            }
        }
    }

    /// # Safety
    ///
    /// - As [`Shapes::unpack`]; they were packed with this one.
    #[inline]
    unsafe fn unpack(&self, from: *const u8, to: *mut u8) {
        let (from, words) = (from.cast::<u64>(), to.cast::<u64>());
        // SAFETY: `pack` has written the bits, and a word for each.
        unsafe {
            copy::copy(self.pattern.as_ptr().cast(), to, self.pattern.len() * WORD);
            let packed = from.read();
            if packed != self.differing {
                return unpack_few(packed, from.add(1), words);
            }
            for (at, &place) in self.places.iter().enumerate() {
                ptr::copy_nonoverlapping(from.add(1 + at), words.add(place.into()), 1);
            }
        }
    }
}

/// Puts words to the places of `bits`: those of frames that were packed while fewer places
/// were known.
///
/// # Safety
///
/// - There is a word for each bit at `from`, and room at its place from `to` on.
#[cold]
unsafe fn unpack_few(mut bits: u64, mut from: *const u64, to: *mut u64) {
    while bits != 0 {
        // SAFETY: the caller's words.
        unsafe {
            ptr::copy_nonoverlapping(from, to.add(bits.trailing_zeros() as usize), 1);
            from = from.add(1);
        }
        bits &= bits - 1;
    }
}

#[cfg(all(test, not(any(miri, feature = "sanitizer", feature = "valgrind"))))]
mod tests {
    use super::*;
    use crate::util::fuzz::Random;

    fn bytes(words: &[u64]) -> *const u8 {
        words.as_ptr().cast()
    }

    /// Some are packed before all places are known, and come back after.
    #[test]
    fn what_is_packed_comes_back() {
        let mut random = Random::new(7);
        let mut shapes = Shapes::default();
        let mut kept = Vec::new();
        for round in 0..2_000 {
            let length = 1 + round % MOST;
            let mut frames: Vec<u64> = (1..=length as u64).collect();
            for word in frames.iter_mut().filter(|word| **word % 3 == 0) {
                *word ^= u64::from(random.next() % 4 == 0) << (round % 64);
            }
            // SAFETY: vectors of so many words.
            unsafe {
                if let Some(shape) = shapes.of(bytes(&frames), length * WORD) {
                    let mut packed = vec![0_u64; shape.packed_bytes() / WORD];
                    shape.pack(bytes(&frames), packed.as_mut_ptr().cast());
                    kept.push((frames, packed));
                }
            }
        }
        assert!(kept.len() > 1_900, "{}", kept.len());
        for (frames, packed) in kept {
            let mut back = vec![!0_u64; frames.len()];
            // SAFETY: as above.
            unsafe {
                let to = back.as_mut_ptr().cast();
                shapes.unpack(bytes(&packed), frames.len() * WORD, to);
            }
            assert_eq!(back, frames);
        }
    }

    #[test]
    fn frames_are_packed_if_that_makes_them_smaller() {
        let mut shapes = Shapes::default();
        let mut packed = |words: &[u64]| {
            // SAFETY: so many words.
            let shape = unsafe { shapes.of(bytes(words), words.len() * WORD) };
            shape.map(|shape| shape.packed_bytes() / WORD)
        };
        assert_eq!(packed(&[1, 2, 3, 4]), Some(1), "the pattern itself");
        assert_eq!(packed(&[1, 7, 3, 4]), Some(2));
        assert_eq!(packed(&[1, 2, 3, 7]), Some(3), "two places by now");
        assert_eq!(packed(&[5, 6, 7]), Some(1), "another length");
        assert_eq!(packed(&[1, 2, 3, 4]), Some(3));
        assert_eq!(packed(&[1, 2, 7, 4]), None, "too many places");
        assert_eq!(packed(&[1, 2, 3, 4]), None);
        assert_eq!(packed(&[0]), None, "no shorter than its bits");
        assert_eq!(packed(&[0; MOST]), Some(1));
        assert_eq!(packed(&[0; MOST + 1]), None, "too long");
    }
}
