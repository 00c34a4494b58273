//! Random operations against naive models, for `cargo fuzz` and `cargo test`
//! alike.
//!
//! ```text
//! RUSTC_BOOTSTRAP=1 cargo fuzz run pool -- -max_len=128
//! RUSTC_BOOTSTRAP=1 cargo fuzz run shared_bytes -- -max_len=256
//! ```
//!
//! An input is a sequence of operations of four bytes each: what, a small
//! argument, a large one. Every input is valid. The model of the pool keeps a
//! whole copy of each frame; that of shared stacks, of each task's stack.

mod pool;
mod shared;

pub(crate) use self::pool::run as pool;
pub(crate) use self::shared::run as shared_bytes;

/// One decoded operation.
struct Op {
    what: u8,
    small: u8,
    large: usize,
}

fn ops(input: &[u8]) -> impl Iterator<Item = Op> {
    input.chunks_exact(4).map(|op| Op {
        what: op[0],
        small: op[1],
        large: usize::from(u16::from_le_bytes([op[2], op[3]])),
    })
}

/// Marsaglia's xorshift: bytes that differ from frame to frame.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seeds(run: impl Fn(&[u8])) {
        let (seeds, len) = if cfg!(miri) { (2, 400) } else { (60, 12_000) };
        for seed in 1..=seeds {
            run(&Random::new(seed).bytes(len));
        }
    }

    /// The inputs that the fuzzer found worth keeping.
    fn corpus(target: &str, run: impl Fn(&[u8])) {
        let dir = format!("{}/fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
        let mut files = 0;
        for entry in std::fs::read_dir(&dir).expect("the corpus is in the repository") {
            run(&std::fs::read(entry.unwrap().path()).unwrap());
            files += 1;
        }
        assert!(files > 10, "{dir} has only {files} files");
    }

    #[test]
    fn pool_equals_its_model_on_random_operations() {
        seeds(pool);
    }

    #[test]
    fn shared_stacks_equal_their_model_on_random_operations() {
        seeds(shared_bytes);
    }

    #[test]
    #[cfg_attr(miri, ignore = "reads files")]
    fn pool_equals_its_model_on_the_corpus() {
        corpus("pool", pool);
    }

    #[test]
    #[cfg_attr(miri, ignore = "reads files")]
    fn shared_stacks_equal_their_model_on_the_corpus() {
        corpus("shared_bytes", shared_bytes);
    }
}
