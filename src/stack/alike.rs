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
//! only be looked at for whether they differ elsewhere. Frames of the same length may be those
//! of other code: what is too unlike a pattern begins another one, up to [`FEW`].
//!
//! What it takes besides: of each stack, three times the length of each pattern.

use std::arch::asm;
use std::ptr;

use super::copy;
use super::frame_pool::GRANULE;

const WORD: usize = size_of::<u64>();

/// Words of the longest frames that are packed: a bit of a word for each.
const MOST: usize = u64::BITS as usize;

/// Nothing is packed where reading a frame's words is watched.
const WATCHED: bool = cfg!(any(miri, feature = "sanitizer", feature = "valgrind"));

/// Shapes of one length at the most.
const FEW: usize = 4;

/// The shapes of one stack's frames.
#[derive(Default)]
pub(super) struct Shapes {
    all: Vec<Shape>,
    /// By the frames' words less one: the number of the last shape that has so many.
    latest: Vec<Option<ShapeNumber>>,
}

/// Counts the shapes of a stack.
pub(super) type ShapeNumber = u8;

const _: () = assert!(FEW * MOST <= 1 << ShapeNumber::BITS);

/// What frames of one length have in common.
pub(super) struct Shape {
    pattern: Box<[u64]>,
    /// All bits of the words in which no frames have differed, none of the others.
    common: Box<[u64]>,
    /// The others: a bit for each, from the lowest on, and their places.
    differing: u64,
    places: Vec<u8>,
    /// Another one of that length.
    other: Option<ShapeNumber>,
}

impl Shapes {
    /// The shape of frames, which they have now, and its number; nothing if packing them would
    /// not make them much smaller.
    ///
    /// # Safety
    ///
    /// - `len` bytes lie at `from`, at rest.
    #[inline]
    pub(super) unsafe fn of(
        &mut self,
        from: *const u8,
        len: usize,
    ) -> Option<(ShapeNumber, &Shape)> {
        let words = len / WORD;
        let fits = (1..=MOST * WORD).contains(&len) && len % WORD == 0;
        if WATCHED || !fits || !from.cast::<u64>().is_aligned() || !saves(0, words) {
            return None;
        }
        // To the language some of the bytes may mean nothing; this says that they do.
        //
        // SAFETY: no instruction.
        unsafe { asm!("/* {0} */", in(reg) from, options(nostack, preserves_flags)) };
        let mut next = self.latest.get(words - 1).copied().flatten();
        let mut tried = 0;
        while let Some(number) = next {
            let shape = &mut self.all[usize::from(number)];
            // SAFETY: forwarded; the shape has as many words.
            if unsafe { !shape.is_unlike(from) || shape.learn(from) } {
                return Some((number, &self.all[usize::from(number)]));
            }
            (next, tried) = (shape.other, tried + 1);
        }
        // SAFETY: forwarded.
        (tried < FEW).then(|| unsafe { self.begin(from, words) })
    }

    /// Puts packed frames back.
    ///
    /// # Safety
    ///
    /// - They lie at `from`, and were packed with the shape of this number.
    /// - `to` has room for them, elsewhere.
    #[inline]
    pub(super) unsafe fn unpack(&self, number: ShapeNumber, from: *const u8, to: *mut u8) {
        // SAFETY: forwarded.
        unsafe { self.all[usize::from(number)].unpack(from, to) };
    }

    /// # Safety
    ///
    /// - So many words lie at `from`, at rest, and mean something.
    #[cold]
    #[inline(never)]
    unsafe fn begin(&mut self, from: *const u8, words: usize) -> (ShapeNumber, &Shape) {
        if self.latest.len() < words {
            self.latest.resize(words, None);
        }
        let mut pattern = vec![0; words];
        // SAFETY: the caller's words; the copy is ours.
        unsafe { copy::copy(from, pattern.as_mut_ptr().cast(), words * WORD) };
        let number = self.all.len() as ShapeNumber;
        let other = self.latest[words - 1].replace(number);
        self.all.push(Shape {
            pattern: pattern.into(),
            common: vec![!0; words].into(),
            differing: 0,
            places: Vec::new(),
            other,
        });
        (number, &self.all[usize::from(number)])
    }
}

/// Whether it is worth while to pack frames that differ in so many of their words.
fn saves(differing: usize, words: usize) -> bool {
    let packed = (WORD * (1 + differing)).next_multiple_of(GRANULE);
    4 * packed <= 3 * WORD * words
}

impl Shape {
    /// Bytes of packed frames.
    #[inline]
    pub(super) fn packed_bytes(&self) -> usize {
        WORD * (1 + self.places.len())
    }

    /// Whether frames differ from the pattern elsewhere than others have.
    ///
    /// # Safety
    ///
    /// - They lie at `from`, aligned to a word, at rest, are as long as the pattern, and mean
    ///   something.
    #[inline]
    unsafe fn is_unlike(&self, from: *const u8) -> bool {
        let from = from.cast::<u64>();
        let common = self.pattern.iter().zip(&self.common).enumerate();
        let unlike = common.fold(0, |sum, (at, (word, mask))| {
            // SAFETY: one of the caller's words.
            sum | (unsafe { from.add(at).read() } ^ word) & mask
        });
        unlike != 0
    }

    /// Notes in which further places frames differ, unless those are too many: then they are
    /// not of this shape.
    ///
    /// # Safety
    ///
    /// - As [`Shape::is_unlike`].
    #[cold]
    #[inline(never)]
    unsafe fn learn(&mut self, from: *const u8) -> bool {
        let mut differing = self.differing;
        for (at, pattern) in self.pattern.iter().enumerate() {
            // SAFETY: the caller's words.
            let word = unsafe { from.cast::<u64>().add(at).read() };
            differing |= u64::from(word != *pattern) << at;
        }
        if !saves(differing.count_ones() as usize, self.pattern.len()) {
            return false;
        }
        let differs = |at: usize| differing >> at & 1 != 0;
        let places = (0..self.pattern.len()).filter(|&at| differs(at));
        self.places = places.map(|at| at as u8).collect();
        for (at, mask) in self.common.iter_mut().enumerate() {
            *mask = if differs(at) { 0 } else { !0 };
        }
        self.differing = differing;
        true
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
        for round in 0..4_000 {
            let length = 1 + round % MOST;
            // Two kinds of frames of each length.
            let kind = (random.next() % 2) << 32;
            let mut frames: Vec<u64> = (1..=length as u64).map(|word| word | kind).collect();
            for word in frames.iter_mut().filter(|word| **word % 3 == 0) {
                *word ^= u64::from(random.next() % 4 == 0) << (round % 31);
            }
            // SAFETY: vectors of so many words.
            unsafe {
                if let Some((number, shape)) = shapes.of(bytes(&frames), length * WORD) {
                    let mut packed = vec![0_u64; shape.packed_bytes() / WORD];
                    shape.pack(bytes(&frames), packed.as_mut_ptr().cast());
                    kept.push((frames, number, packed));
                }
            }
        }
        assert!(kept.len() > 3_600, "{}", kept.len());
        for (frames, number, packed) in kept {
            let mut back = vec![!0_u64; frames.len()];
            // SAFETY: as above.
            unsafe { shapes.unpack(number, bytes(&packed), back.as_mut_ptr().cast()) };
            assert_eq!(back, frames);
        }
    }

    #[test]
    fn frames_are_packed_if_that_makes_them_much_smaller() {
        let mut shapes = Shapes::default();
        let mut packed = |words: &[u64]| {
            // SAFETY: so many words.
            let shape = unsafe { shapes.of(bytes(words), words.len() * WORD) };
            shape.map(|(number, shape)| (number, shape.packed_bytes() / WORD))
        };
        assert_eq!(
            packed(&[1, 2, 3, 4, 5, 6]),
            Some((0, 1)),
            "the pattern itself"
        );
        assert_eq!(packed(&[1, 7, 3, 4, 5, 6]), Some((0, 2)));
        assert_eq!(
            packed(&[1, 2, 3, 7, 5, 6]),
            Some((0, 3)),
            "two places by now"
        );
        assert_eq!(packed(&[5, 6, 7]), Some((1, 1)), "another length");
        assert_eq!(packed(&[1, 2, 3, 4, 8, 6]), Some((0, 4)));
        assert_eq!(packed(&[9, 2, 3, 4, 5, 6]), Some((2, 1)), "too many places");
        assert_eq!(packed(&[1, 2, 3, 4, 5, 6]), Some((2, 2)));
        assert_eq!(packed(&[1, 8, 3, 7, 5, 6]), Some((2, 4)));
        for kind in 0..2 {
            let frames = [10 + kind; 6];
            assert_eq!(packed(&frames), Some((3 + kind as u8, 1)), "other code's");
        }
        assert_eq!(packed(&[20; 6]), None, "too many kinds");
        assert_eq!(packed(&[10; 6]), Some((3, 1)));
        assert_eq!(packed(&[0; 2]), None, "no smaller than its block");
        assert_eq!(packed(&[0; MOST]), Some((5, 1)));
        assert_eq!(packed(&[0; MOST + 1]), None, "too long");
    }
}
