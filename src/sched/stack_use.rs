//! How much of their stacks coroutines have used, by the place where they were spawned:
//! kept by each worker's handle, where it is measured at all.

use std::collections::{BTreeMap, HashMap};
use std::panic::Location;

/// Of one worker.
#[derive(Default)]
pub(crate) struct StackUses(HashMap<(usize, usize), SpawnPlace>);

/// Of those that were spawned at one place, with stacks of one size.
pub(crate) struct SpawnPlace {
    pub(crate) location: &'static Location<'static>,
    pub(crate) stack_size: usize,
    /// How many have used so many KiB, or a part of the last.
    pub(crate) kilobytes: BTreeMap<usize, u64>,
}

impl StackUses {
    pub(super) fn add(
        &mut self,
        location: &'static Location<'static>,
        stack_size: usize,
        used: usize,
    ) {
        let key = (std::ptr::from_ref(location).addr(), stack_size);
        let place = self.0.entry(key).or_insert_with(|| SpawnPlace {
            location,
            stack_size,
            kilobytes: BTreeMap::new(),
        });
        *place.kilobytes.entry(used.div_ceil(1024)).or_default() += 1;
    }

    pub(crate) fn places(&self) -> impl Iterator<Item = &SpawnPlace> {
        self.0.values()
    }
}
