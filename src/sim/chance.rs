//! Chance: a stream of numbers that its seed alone decides (SplitMix64, of Steele, Lea and
//! Flood: a counter that is stirred). Each part of a simulation has a stream of its own,
//! split off, so that what one draws moves no other.

/// What the counter goes on by: odd, so that it meets every number.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub(crate) struct Chance {
    counter: u64,
}

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            counter: stir(seed),
        }
    }

    /// Another stream, independent of what this one draws from here on.
    pub(crate) fn split(&mut self) -> Self {
        Self::new(self.draw())
    }

    /// Any number.
    pub(crate) fn draw(&mut self) -> u64 {
        self.counter = self.counter.wrapping_add(STEP);
        stir(self.counter)
    }

    /// A number below `n`; 0 if there is none.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        // The high half of the product; its bias is n in 2^64.
        ((u128::from(self.draw()) * u128::from(n)) >> 64) as u64
    }

    /// True so often: never at 0, always at 1. Draws in any case.
    pub(crate) fn happens(&mut self, probability: f64) -> bool {
        // 53 bits, all that a float has.
        let drawn = (self.draw() >> 11) as f64 / (1_u64 << 53) as f64;
        drawn < probability
    }
}

/// Mixes a number so that neighbours become strangers; one-to-one.
fn stir(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_splitmix64s() {
        // As the reference prints them for the counter 0.
        let mut chance = Chance { counter: 0 };
        let first = [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4];
        assert_eq!([chance.draw(), chance.draw()], first);
    }

    #[test]
    fn what_is_drawn_is_in_bounds_and_even() {
        let mut chance = Chance::new(1);
        let mut seen = [0_u32; 10];
        for _ in 0..100_000 {
            seen[chance.below(10) as usize] += 1;
        }
        assert!(
            seen.iter().all(|count| (9_500..10_500).contains(count)),
            "{seen:?}"
        );
        assert_eq!((chance.below(0), chance.below(1)), (0, 0));
        let often = (0..100_000).filter(|_| chance.happens(0.25)).count();
        assert!((24_000..26_000).contains(&often), "{often}");
        assert!((0..1000).all(|_| !chance.happens(0.0) && chance.happens(1.0)));
    }

    #[test]
    fn a_stream_is_its_seeds_and_those_split_off_are_others() {
        let drawn = |mut chance: Chance| (0..100).map(|_| chance.draw()).collect::<Vec<_>>();
        assert_eq!(drawn(Chance::new(7)), drawn(Chance::new(7)));
        assert_ne!(drawn(Chance::new(7)), drawn(Chance::new(8)));
        let mut whole = Chance::new(7);
        let (one, two) = (whole.split(), whole.split());
        assert_ne!(drawn(one.clone()), drawn(two));
        assert_ne!(drawn(one), drawn(whole));
    }
}
