//! What the connections send: one random table, read round and round.
//!
//! ```text
//!   table    |.......................................|.....
//!                 ^ connection 0    ^ connection 1   ^ repeats its first bytes,
//!                                                      so that no message wraps
//! ```
//!
//! Each connection starts at a place of its own and goes on where its last
//! message ended, so a byte that is lost, doubled, changed or delivered to
//! another connection differs from what is expected there. Keeping a position
//! instead of a copy, a connection costs the driver no buffer.

/// Bytes until a stream repeats; also the longest message.
pub(crate) const PERIOD: usize = 1 << 20;

/// The table, long enough for messages of one size from every position.
pub(crate) struct Pattern {
    table: Vec<u8>,
    size: usize,
}

impl Pattern {
    /// The pattern for messages of `size` bytes, 1 to [`PERIOD`].
    pub(crate) fn new(size: usize) -> Self {
        assert!(
            (1..=PERIOD).contains(&size),
            "messages have 1 to {PERIOD} bytes, not {size}"
        );
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut table = Vec::with_capacity(PERIOD + size);
        for _ in 0..PERIOD / 8 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            table.extend(state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes());
        }
        table.extend_from_within(..size);
        Self { table, size }
    }

    /// Bytes in a message.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Where the stream of connection number `index` starts.
    pub(crate) fn start(index: usize) -> usize {
        // The odd factor spreads neighbours and keeps 2^20 starts distinct.
        index.wrapping_mul(0x9_E377) % PERIOD
    }

    /// The message at a position of the stream.
    pub(crate) fn message(&self, at: usize) -> &[u8] {
        &self.table[at..at + self.size]
    }

    /// The position after the message at `at`.
    pub(crate) fn after(&self, at: usize) -> usize {
        (at + self.size) % PERIOD
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_follow_one_another_round_the_table() {
        for size in [1, 7, 4096, PERIOD] {
            let pattern = Pattern::new(size);
            let mut at = PERIOD - 3;
            for byte in 0..3 * size.min(10_000) {
                let expected = pattern.table[(PERIOD - 3 + byte) % PERIOD];
                assert_eq!(
                    pattern.message(at)[byte % size],
                    expected,
                    "size {size}, byte {byte}"
                );
                if byte % size == size - 1 {
                    at = pattern.after(at);
                }
            }
        }
    }

    #[test]
    fn connections_start_apart() {
        let mut starts: Vec<_> = (0..100_000).map(Pattern::start).collect();
        starts.sort_unstable();
        starts.dedup();
        assert_eq!(starts.len(), 100_000);
    }

    #[test]
    fn neighbours_send_different_bytes() {
        let pattern = Pattern::new(8);
        let mut first: Vec<_> = (0..20_000)
            .map(|i| pattern.message(Pattern::start(i)))
            .collect();
        first.sort_unstable();
        first.dedup();
        assert_eq!(first.len(), 20_000);
    }
}
