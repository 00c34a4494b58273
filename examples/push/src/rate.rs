//! Rate limit of one client: a bucket that fills by time and is emptied by messages.

use std::time::Instant;

/// Messages that it may still send.
pub struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    /// A full one.
    pub fn new(burst: u32, now: Instant) -> Self {
        Self {
            tokens: burst.into(),
            at: now,
        }
    }

    /// Takes one. Whether there was one.
    pub fn take(&mut self, rate: u32, burst: u32, now: Instant) -> bool {
        let filled = now.saturating_duration_since(self.at).as_secs_f64() * f64::from(rate);
        self.tokens = (self.tokens + filled).min(burst.into());
        self.at = now;
        let any = self.tokens >= 1.0;
        if any {
            self.tokens -= 1.0;
        }
        any
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_burst_and_then_so_many_a_second() {
        let mut now = Instant::now();
        let mut bucket = Bucket::new(5, now);
        let taken = |bucket: &mut Bucket, now| (0..100).filter(|_| bucket.take(10, 5, now)).count();
        assert_eq!(taken(&mut bucket, now), 5);
        now += Duration::from_millis(250);
        assert_eq!(taken(&mut bucket, now), 2);
        now += Duration::from_secs(3600);
        assert_eq!(taken(&mut bucket, now), 5);
    }
}
