//! Spawn locations, interned: a slot names the line that spawned it in two bytes.

use std::collections::HashMap;
use std::panic::Location;

/// The spawn locations that a worker has seen.
#[derive(Debug, Default)]
pub(crate) struct SpawnLocations {
    all: Vec<&'static Location<'static>>,
    /// Keyed by the address of the `Location`: one line of code may have
    /// several (one for each inlining), which costs an entry, no more.
    index: HashMap<usize, u16>,
    /// The answer of the last look-up: spawns come in runs.
    last: (usize, u16),
}

impl SpawnLocations {
    /// Every location past this many shares the last number.
    const MOST: usize = u16::MAX as usize;

    /// The number of a location, the same each time.
    #[inline]
    pub(crate) fn intern(&mut self, location: &'static Location<'static>) -> u16 {
        let key = std::ptr::from_ref(location).addr();
        if self.last.0 != key {
            self.last = (key, self.look_up(key, location));
        }
        self.last.1
    }

    /// The location behind a number that [`SpawnLocations::intern`] gave.
    pub(crate) fn get(&self, number: u16) -> &'static Location<'static> {
        self.all[usize::from(number)]
    }

    /// As [`SpawnLocations::get`], for a number that may be none.
    pub(crate) fn find(&self, number: u16) -> Option<&'static Location<'static>> {
        self.all.get(usize::from(number)).copied()
    }

    fn look_up(&mut self, key: usize, location: &'static Location<'static>) -> u16 {
        if self.all.len() >= Self::MOST {
            return self.index.get(&key).copied().unwrap_or(u16::MAX - 1);
        }
        *self.index.entry(key).or_insert_with(|| {
            self.all.push(location);
            (self.all.len() - 1) as u16
        })
    }
}
