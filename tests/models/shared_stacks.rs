//! Coroutines on shared stacks against a model, over random operations and
//! the inputs that the fuzzer found worth keeping.

use crate::shared_ops;
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

fn seeds(count: u64, len: usize, check: bool) {
    let before = shared_ops::LOOKS.get();
    for seed in 1..=count {
        shared_ops::run(&Random(seed * 0x9e37_79b9).bytes(len), check);
    }
    let looks = shared_ops::LOOKS.get() - before;
    assert!(
        looks > count * len as u64 / 6,
        "only {looks} looks at frames"
    );
}

#[test]
fn random_operations() {
    seeds(100, 3001, false);
}

#[test]
fn random_operations_in_check_mode() {
    seeds(20, 3001, true);
}

#[test]
fn the_corpus() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/switching");
    let mut files = 0;
    for entry in std::fs::read_dir(dir).expect("the corpus is in the repository") {
        shared_ops::run(&std::fs::read(entry.unwrap().path()).unwrap(), false);
        files += 1;
    }
    assert!(files > 10, "only {files} files");
}
