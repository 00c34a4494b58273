//! Task addresses: one integer that any thread may keep for ever.

use std::fmt;

/// Where a task lives: `{worker: 10, generation: 26, slot: 28}` bits.
///
/// Workers count from 1; worker 0 stands for the table of
/// [provisional ids](super::provisional_id), whose generations count from 1, so that no address
/// is zero. A stale address is recognised by its generation. No two tasks of a process
/// have the same address: a slot that has used up its generations is not used again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Addr(u64);

const SLOT_BITS: u32 = 28;
/// Few in tests of what happens when all have been used (`scripts/narrow.sh`).
const GENERATION_BITS: u32 = if cfg!(narrow) { 3 } else { 26 };
const WORKER_BITS: u32 = 10;

const _: () = assert!(WORKER_BITS + GENERATION_BITS + SLOT_BITS <= u64::BITS);

impl Addr {
    /// Slots that a worker can have.
    pub(crate) const MAX_SLOTS: u32 = 1 << SLOT_BITS;
    /// Workers that a process can have at one time (index 0 is not used).
    pub(crate) const MAX_WORKERS: u32 = 1 << WORKER_BITS;
    /// The last generation that a slot can have.
    pub(crate) const LAST_GENERATION: u32 = (1 << GENERATION_BITS) - 1;

    #[inline(always)]
    pub(crate) fn new(worker: u32, generation: u32, slot: u32) -> Self {
        debug_assert!(worker > 0 && worker < Self::MAX_WORKERS && slot < Self::MAX_SLOTS);
        debug_assert!(generation <= Self::LAST_GENERATION);
        Self(
            (u64::from(worker) << (SLOT_BITS + GENERATION_BITS))
                | (u64::from(generation) << SLOT_BITS)
                | u64::from(slot),
        )
    }

    /// Entry `index` of the table of provisional ids.
    pub(crate) fn provisional(generation: u32, index: u32) -> Self {
        debug_assert!(generation > 0 && generation <= Self::LAST_GENERATION);
        Self((u64::from(generation) << SLOT_BITS) | u64::from(index))
    }

    #[inline(always)]
    pub(crate) fn worker(self) -> u32 {
        (self.0 >> (SLOT_BITS + GENERATION_BITS)) as u32
    }

    #[inline(always)]
    pub(crate) fn generation(self) -> u32 {
        (self.0 >> SLOT_BITS) as u32 & Self::LAST_GENERATION
    }

    #[inline(always)]
    pub(crate) fn slot(self) -> u32 {
        self.0 as u32 & (Self::MAX_SLOTS - 1)
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
            Addr::LAST_GENERATION,
            Addr::MAX_SLOTS - 1,
        );
        for (worker, generation, slot) in [(1, 0, 0), (3, 7, 12), largest] {
            let addr = Addr::new(worker, generation, slot);
            assert_eq!(
                (addr.worker(), addr.generation(), addr.slot()),
                (worker, generation, slot)
            );
            assert_eq!(Addr::from_bits(addr.to_bits()), addr);
        }
    }
}
