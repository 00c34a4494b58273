//! LinkTable between nodes: how long what is sent travels, and whether it arrives. One for
//! each pair and way, with chance of its own, so that one link's traffic changes nothing
//! on another. Pure: times are numbers.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::sim::chance::Chance;

/// Virtual time in nanoseconds.
pub(crate) type Nanos = u64;

/// Bytes of a packet's headers, which take bandwidth, too.
const HEADERS: u64 = 40;

/// How a link treats what is sent over it, one way. What goes from a node to itself
/// takes no time and is never lost.
///
/// ```
/// use std::time::Duration;
/// use crore::sim::{Link, Sim};
///
/// let far = Link { latency: Duration::from_millis(150), loss: 0.01, ..Link::default() };
/// Sim::new(1).link(far).client("one", || {}).run();
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Link {
    /// How long each packet travels.
    pub latency: Duration,
    /// How much longer at most, by chance.
    pub jitter: Duration,
    /// How many packets are lost, of 1. TCP sends them again, later and later.
    pub loss: f64,
    /// How many datagrams arrive twice, of 1.
    pub duplicate: f64,
    /// How many datagrams take a way that is several times as long, of 1.
    pub reorder: f64,
    /// Bytes a second; `None`: any number at once.
    pub bandwidth: Option<u64>,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            latency: Duration::from_millis(1),
            jitter: Duration::from_micros(500),
            loss: 0.0,
            duplicate: 0.0,
            reorder: 0.0,
            bandwidth: None,
        }
    }
}

/// The links of all pairs.
pub(super) struct LinkTable {
    seed: u64,
    pairs: BTreeMap<(usize, usize), Pair>,
}

struct Pair {
    link: Link,
    chance: Chance,
    /// Since when nothing arrives.
    cut_since: Option<Nanos>,
    /// When what is being sent is out.
    free_at: Nanos,
}

impl LinkTable {
    pub(super) fn new(seed: u64) -> Self {
        let pairs = BTreeMap::new();
        Self { seed, pairs }
    }

    fn pair(&mut self, from: usize, to: usize) -> &mut Pair {
        let seed = self.seed;
        self.pairs.entry((from, to)).or_insert_with(|| {
            let number = ((from as u64) << 32) | to as u64;
            let chance = Chance::new(seed ^ Chance::new(number).draw());
            Pair {
                link: Link::default(),
                chance,
                cut_since: None,
                free_at: 0,
            }
        })
    }

    pub(super) fn set(&mut self, from: usize, to: usize, link: Link) {
        self.pair(from, to).link = link;
    }

    pub(super) fn cut(&mut self, now: Nanos, from: usize, to: usize, cut: bool) {
        let pair = self.pair(from, to);
        pair.cut_since = cut.then(|| pair.cut_since.unwrap_or(now));
    }

    pub(super) fn cut_since(&mut self, from: usize, to: usize) -> Option<Nanos> {
        if from == to {
            return None;
        }
        self.pair(from, to).cut_since
    }

    /// Whether a packet that is sent now never arrives.
    pub(super) fn loses(&mut self, from: usize, to: usize) -> bool {
        if from == to {
            return false;
        }
        let pair = self.pair(from, to);
        // Drawn in any case: a cut changes nothing that comes later.
        let lost = pair.chance.happens(pair.link.loss);
        lost || pair.cut_since.is_some()
    }

    /// When so many bytes that are sent now arrive.
    pub(super) fn arrival(&mut self, now: Nanos, from: usize, to: usize, bytes: usize) -> Nanos {
        if from == to {
            return now;
        }
        let pair = self.pair(from, to);
        let jitter = nanos(pair.link.jitter);
        let late = pair.chance.below(jitter.saturating_add(1));
        let sent = match pair.link.bandwidth {
            None => now,
            Some(rate) => {
                let bits = u128::from(bytes as u64 + HEADERS) * 1_000_000_000;
                let takes = (bits / u128::from(rate.max(1))).min(u128::from(FOREVER)) as u64;
                pair.free_at = pair.free_at.max(now).saturating_add(takes);
                pair.free_at
            }
        };
        sent.saturating_add(nanos(pair.link.latency))
            .saturating_add(late)
    }

    /// When a datagram arrives: never, once, or twice.
    pub(super) fn arrivals(
        &mut self,
        now: Nanos,
        from: usize,
        to: usize,
        bytes: usize,
    ) -> Vec<Nanos> {
        if from == to {
            return vec![now];
        }
        let pair = self.pair(from, to);
        let twice = pair.chance.happens(pair.link.duplicate);
        let mut found = Vec::new();
        for _ in 0..=usize::from(twice) {
            let lost = self.loses(from, to);
            let at = self.arrival(now, from, to, bytes);
            let pair = self.pair(from, to);
            let astray = pair.chance.happens(pair.link.reorder);
            let detour = nanos(pair.link.latency + pair.link.jitter).saturating_mul(4);
            let detour = pair.chance.below(detour.saturating_add(1));
            if !lost {
                found.push(at.saturating_add(if astray { detour } else { 0 }));
            }
        }
        found
    }
}

/// About a hundred years.
const FOREVER: Nanos = 1 << 61;

/// A duration as virtual time.
pub(super) fn nanos(duration: Duration) -> Nanos {
    u64::try_from(duration.as_nanos()).map_or(FOREVER, |nanos| nanos.min(FOREVER))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Nanos = 1_000_000;

    #[test]
    fn packets_take_latency_and_at_most_the_jitter_more() {
        let mut links = LinkTable::new(1);
        let arrivals: Vec<_> = (0..1000).map(|_| links.arrival(7, 0, 1, 100)).collect();
        let bounds = 7 + MS..=7 + MS + MS / 2;
        assert!(arrivals.iter().all(|at| bounds.contains(at)));
        let spread = arrivals.iter().max().unwrap() - arrivals.iter().min().unwrap();
        assert!(spread > MS / 4, "{spread}");
        assert_eq!(links.arrival(7, 1, 1, 1 << 20), 7);
    }

    #[test]
    fn bandwidth_is_shared_by_what_is_sent() {
        let mut links = LinkTable::new(1);
        let link = Link {
            jitter: Duration::ZERO,
            bandwidth: Some(1_000_000),
            ..Link::default()
        };
        links.set(0, 1, link);
        // 1 000 bytes a millisecond.
        assert_eq!(links.arrival(0, 0, 1, 960), 2 * MS);
        assert_eq!(links.arrival(0, 0, 1, 960), 3 * MS);
        assert_eq!(links.arrival(10 * MS, 0, 1, 960), 12 * MS);
    }

    #[test]
    fn packets_are_lost_as_often_as_the_link_says_and_always_when_it_is_cut() {
        let mut links = LinkTable::new(3);
        let link = Link {
            loss: 0.1,
            duplicate: 0.2,
            ..Link::default()
        };
        links.set(0, 1, link);
        let lost = (0..10_000).filter(|_| links.loses(0, 1)).count();
        assert!((900..1100).contains(&lost), "{lost}");
        let arrived: usize = (0..10_000).map(|_| links.arrivals(0, 0, 1, 9).len()).sum();
        assert!((10_500..11_100).contains(&arrived), "{arrived}");
        links.cut(5, 0, 1, true);
        links.cut(6, 0, 1, true);
        assert_eq!(
            (links.cut_since(0, 1), links.cut_since(1, 0)),
            (Some(5), None)
        );
        assert!((0..100).all(|_| links.loses(0, 1) && !links.loses(1, 0) && !links.loses(0, 0)));
        links.cut(7, 0, 1, false);
        assert!((0..1000).any(|_| !links.loses(0, 1)));
    }
}
