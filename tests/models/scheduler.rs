//! The scheduler against a model, over random operations and the inputs that
//! the fuzzer found worth keeping.

use crate::sched_ops;
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
    let (count, len) = (60, 1501);
    let answers: usize = (1..=count)
        .map(|seed| sched_ops::run(&Random(seed * 0x9e37_79b9).bytes(len)))
        .sum();
    // A model that compares nothing should fail.
    let least = count as usize * len / 3 / 15;
    assert!(answers > least, "only {answers} answers, {least} expected");
}

#[test]
fn the_corpus() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/scheduler");
    let mut files = 0;
    for entry in std::fs::read_dir(dir).expect("the corpus is in the repository") {
        sched_ops::run(&std::fs::read(entry.unwrap().path()).unwrap());
        files += 1;
    }
    assert!(files > 10, "only {files} files");
}
