//! Descriptors that end under their waiters against a model, over random
//! operations and the inputs that the fuzzer found worth keeping.
use crate::fd_ops;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The operations use fixed numbers, so the tests take turns.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

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
    let _turn = turn();
    let answers: usize = (1..=30_u64)
        .map(|seed| fd_ops::run(&Random(seed * 0x9e37_79b9).bytes(600)))
        .sum();
    // A model that judges nothing should fail.
    assert!(answers > 30 * 20, "only {answers} answers");
}

#[test]
fn the_corpus() {
    let _turn = turn();
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/descriptors");
    let mut files = 0;
    for entry in std::fs::read_dir(dir).expect("the corpus is in the repository") {
        fd_ops::run(&std::fs::read(entry.unwrap().path()).unwrap());
        files += 1;
    }
    assert!(files > 10, "only {files} files");
}
