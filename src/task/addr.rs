//! Task addresses: one integer that any thread may keep for ever.

use std::fmt;

/// Where a task lives: `{worker: 10, generation: 26, slot: 28}` bits.
///
/// Workers count from 1; worker 0 stands for the table of
/// [provisional ids](super::provisional_id), whose generations count from 1, so that no address
/// is zero. A stale address is recognised by its generation; after 2^26 reuses
/// of one slot it may name another task, which then sees one spurious wake-up,
/// which every wait of ours tolerates.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Addr(u64);

const SLOT_BITS: u32 = 28;
const GENERATION_BITS: u32 = 26;

impl Addr {
    /// Slots that a worker can have.
    pub(crate) const MAX_SLOTS: u32 = 1 << SLOT_BITS;
    /// Workers that a process can have at one time (index 0 is not used).
    pub(crate) const MAX_WORKERS: u32 = 1 << (64 - SLOT_BITS - GENERATION_BITS);

    #[inline(always)]
    pub(crate) fn new(worker: u32, generation: u32, slot: u32) -> Self {
        debug_assert!(worker > 0 && worker < Self::MAX_WORKERS && slot < Self::MAX_SLOTS);
        let generation = Self::generation_bits(generation);
        Self(
            (u64::from(worker) << (SLOT_BITS + GENERATION_BITS))
                | (u64::from(generation) << SLOT_BITS)
                | u64::from(slot),
        )
    }

    /// Entry `index` of the table of provisional ids.
    pub(crate) fn provisional(generation: u32, index: u32) -> Self {
        let generation = Self::generation_bits(generation);
        Self((u64::from(generation) << SLOT_BITS) | u64::from(index))
    }

    #[inline(always)]
    pub(crate) fn worker(self) -> u32 {
        (self.0 >> (SLOT_BITS + GENERATION_BITS)) as u32
    }

    #[inline(always)]
    pub(crate) fn generation(self) -> u32 {
        Self::generation_bits((self.0 >> SLOT_BITS) as u32)
    }

    #[inline(always)]
    pub(crate) fn slot(self) -> u32 {
        self.0 as u32 & (Self::MAX_SLOTS - 1)
    }

    /// As many bits of a slot's generation as an address carries.
    #[inline(always)]
    pub(crate) fn generation_bits(generation: u32) -> u32 {
        generation & ((1 << GENERATION_BITS) - 1)
    }

    pub(crate) fn to_bits(self) -> u64 {
        self.0
    }

    pub(crate) const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.worker(), self.slot(), self.generation())
    }
}

impl fmt::Debug for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Addr({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_back() {
        let largest = (
            Addr::MAX_WORKERS - 1,
            (1 << GENERATION_BITS) - 1,
            Addr::MAX_SLOTS - 1,
        );
        for (worker, generation, slot) in [(1, 0, 0), (3, 77, 12), largest] {
            let addr = Addr::new(worker, generation, slot);
            assert_eq!(
                (addr.worker(), addr.generation(), addr.slot()),
                (worker, generation, slot)
            );
            assert_eq!(Addr::from_bits(addr.to_bits()), addr);
        }
    }

    #[test]
    fn a_generation_wraps_into_its_own_bits() {
        let addr = Addr::new(1, u32::MAX, 5);
        assert_eq!((addr.worker(), addr.slot()), (1, 5));
        assert_eq!(addr.generation(), Addr::generation_bits(u32::MAX));
    }
}
