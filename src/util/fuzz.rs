//! Helpers of the fuzz targets and of their models, for `cargo fuzz` and `cargo
//! test` alike: how an input is read, random bytes, and where the inputs are
//! that the fuzzer found worth keeping.
//!
//! An input is a sequence of operations of four bytes each: what, a small
//! argument, a large one. Every input is valid.

/// One decoded operation.
pub(crate) struct Op {
    pub(crate) what: u8,
    pub(crate) small: u8,
    pub(crate) large: usize,
}

pub(crate) fn ops(input: &[u8]) -> impl Iterator<Item = Op> {
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

    /// A number below `bound`, which is small beside 2⁶⁴.
    #[cfg(test)]
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }
}

/// Runs inputs made of random bytes.
#[cfg(test)]
pub(crate) fn seeds(run: impl Fn(&[u8])) {
    let (seeds, len) = if cfg!(miri) { (2, 400) } else { (60, 12_000) };
    for seed in 1..=seeds {
        run(&Random::new(seed).bytes(len));
    }
}

/// Runs the inputs that the fuzzer found worth keeping.
#[cfg(test)]
pub(crate) fn corpus(target: &str, run: impl Fn(&[u8])) {
    let dir = format!("{}/tests/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
    let mut files = 0;
    for entry in std::fs::read_dir(&dir).expect("the corpus is in the repository") {
        run(&std::fs::read(entry.unwrap().path()).unwrap());
        files += 1;
    }
    assert!(files > 10, "{dir} has only {files} files");
}
