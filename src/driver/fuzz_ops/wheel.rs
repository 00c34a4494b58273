//! The timer wheel against a sorted map.
//!
//! After each operation the wheel must have as many timers as the map, know
//! when the next is due, and wake for nothing only where a slot is crowded.

use std::collections::BTreeMap;

use crate::driver::wheel::{PEEK, TimerKey, Wheel};
use crate::util::fuzz::{Op, ops};

/// The end of time, where all is over, is left to the last step.
const LAST: u64 = u64::MAX - 5;

/// A wheel beside a map from (deadline, insertion number).
pub(in crate::driver) struct WheelPair {
    wheel: Wheel<u64>,
    model: BTreeMap<(u64, u64), TimerKey>,
    now: u64,
    count: u64,
}

impl WheelPair {
    pub(in crate::driver) fn new() -> Self {
        Self {
            wheel: Wheel::new(),
            model: BTreeMap::new(),
            now: 0,
            count: 0,
        }
    }

    pub(in crate::driver) fn insert(&mut self, deadline: u64) {
        let key = self.wheel.insert(deadline, self.count);
        self.model.insert((deadline.max(self.now), self.count), key);
        self.count += 1;
    }

    fn remove(&mut self, nth: usize) -> Option<TimerKey> {
        let nth = nth % self.model.len().max(1);
        let (&id, &key) = self.model.iter().nth(nth)?;
        self.model.remove(&id);
        assert_eq!(self.wheel.remove(key), Some(id.1));
        Some(key)
    }

    /// Both come to `now`; what they fire must be the same. Returns a key that
    /// is stale then.
    pub(in crate::driver) fn advance(&mut self, now: u64) -> Option<TimerKey> {
        self.now = self.now.max(now);
        let mut fired = Vec::new();
        self.wheel.advance(now, &mut |value| fired.push(value));
        let (mut expected, mut stale) = (Vec::new(), None);
        while let Some(entry) = self.model.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            let ((_, value), key) = entry.remove_entry();
            expected.push(value);
            stale = Some(key);
        }
        assert_eq!(fired, expected);
        stale
    }

    pub(in crate::driver) fn next_deadline(&self) -> Option<u64> {
        self.wheel.next_deadline()
    }

    pub(in crate::driver) fn check(&self) {
        assert_eq!(self.wheel.len(), self.model.len());
        let first = self.model.first_key_value();
        let earliest = first.map(|(&(deadline, _), _)| deadline);
        let next = self.next_deadline();
        assert_eq!(next.is_some(), earliest.is_some());
        if let (Some(next), Some(earliest)) = (next, earliest) {
            assert!(next <= earliest, "{next} is later than {earliest}");
            let on_time = next > self.now || next == earliest;
            assert!(on_time, "{next} wakes for nothing");
            assert!(next == earliest || self.model.len() > PEEK);
        }
    }
}

/// Spans of all magnitudes, often the same ones.
fn span(op: &Op) -> u64 {
    match op.small >> 6 {
        0 => op.large as u64 % 4,
        1 => op.large as u64 % 200,
        2 => 1 << (op.small % 64),
        _ => (op.large as u64) << (op.small % 49),
    }
}

/// Runs the operations of one input.
pub(crate) fn run(input: &[u8]) {
    let mut pair = WheelPair::new();
    let mut stale = Vec::new();
    for op in ops(input) {
        let (now, span) = (pair.now, span(&op));
        match op.what % 16 {
            0..=4 => pair.insert(now.saturating_add(span)),
            5 => pair.insert(now.saturating_sub(span)),
            6 => pair.insert(u64::MAX - span % 2),
            7..=9 => stale.extend(pair.remove(op.large)),
            10 => stale.extend(pair.advance(now.saturating_sub(span))),
            11..=12 => {
                if let Some(next) = pair.next_deadline() {
                    stale.extend(pair.advance(next.min(LAST)));
                }
            }
            13 => stale.extend(pair.advance(now.saturating_add(span % 100).min(LAST))),
            14 => stale.extend(pair.advance(now.saturating_add(span).min(LAST))),
            _ => {
                let nth = op.large % stale.len().max(1);
                if let Some(&key) = stale.get(nth) {
                    assert_eq!(pair.wheel.remove(key), None, "a key of old");
                }
            }
        }
        pair.check();
    }
    pair.advance(u64::MAX);
    pair.check();
    assert!(pair.model.is_empty());
    // Time has come to its end; what is due is due at once.
    pair.insert(u64::MAX);
    pair.insert(0);
    pair.check();
    pair.advance(0);
    assert_eq!(pair.wheel.len(), 0);
}
