//! Hooked calls against a byte-exact oracle, over random operations and the
//! inputs that the fuzzer found worth keeping.
use crate::hook_ops;
use std::path::Path;

struct Random(u64);

impl Random {
    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut byte = || {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 32) as u8
        };
        (0..len).map(|_| byte()).collect()
    }
}

#[test]
fn random_operations() {
    let mut bytes = 0;
    for seed in 1..=32_u64 {
        let mut input = Random(seed * 0x9e37_79b9).bytes(601);
        // Every kind of pair, with a storm and without.
        input[0] = (seed % 4) as u8 | ((seed % 3 == 0) as u8) << 7;
        bytes += hook_ops::run(&input);
    }
    // An oracle that sees nothing should fail.
    assert!(bytes > 1 << 20, "only {bytes} bytes were compared");
}

#[test]
fn the_corpus() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/hooks");
    let mut files = 0;
    for entry in std::fs::read_dir(dir).expect("the corpus is in the repository") {
        hook_ops::run(&std::fs::read(entry.unwrap().path()).unwrap());
        files += 1;
    }
    assert!(files > 10, "only {files} files");
}
