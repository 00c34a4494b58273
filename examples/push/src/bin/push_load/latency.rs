//! Latencies: counted by size, each bucket 1/32 wide.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const SUB: u32 = 5;
const BUCKETS: usize = (64 << SUB) as usize;

/// How often each time was seen.
pub struct Latency(Box<[AtomicU64]>);

impl Default for Latency {
    fn default() -> Self {
        Self((0..BUCKETS).map(|_| AtomicU64::new(0)).collect())
    }
}

fn bucket(nanos: u64) -> usize {
    let nanos = nanos.max(1 << SUB);
    let shift = nanos.ilog2() - SUB;
    ((shift as usize) << SUB) + (nanos >> shift) as usize
}

/// The most that belongs to a bucket.
fn most(bucket: usize) -> u64 {
    let shift = (bucket >> SUB) - 1;
    let mantissa = (bucket - (shift << SUB)) as u64;
    ((mantissa + 1) << shift) - 1
}

impl Latency {
    pub fn add(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX >> 1);
        self.0[bucket(nanos)].fetch_add(1, Ordering::Relaxed);
    }

    /// What this part of all were no longer than. `None` if there were none.
    pub fn quantile(&self, part: f64) -> Option<Duration> {
        let counts = self.0.iter().map(|count| count.load(Ordering::Relaxed));
        let all: u64 = counts.clone().sum();
        let mut left = (all as f64 * part).ceil() as u64;
        for (bucket, count) in counts.enumerate() {
            if count >= left && count > 0 {
                return Some(Duration::from_nanos(most(bucket)));
            }
            left -= count;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_right_to_a_thirtieth() {
        let latency = Latency::default();
        assert_eq!(latency.quantile(0.5), None);
        for micros in 1..=1000 {
            latency.add(Duration::from_micros(micros));
        }
        for (part, micros) in [(0.5, 500.0), (0.99, 990.0), (1.0, 1000.0)] {
            let found = latency.quantile(part).unwrap().as_nanos() as f64 / 1000.0;
            assert!((0.97..1.04).contains(&(found / micros)), "{part}: {found}");
        }
    }

    #[test]
    fn each_time_is_in_its_bucket() {
        for nanos in [33, 63, 64, 1000, 123_456_789, u64::MAX >> 1] {
            let bucket = bucket(nanos);
            assert!(most(bucket) >= nanos && most(bucket - 1) < nanos, "{nanos}");
        }
    }
}
