//! Clients by chance; `fuzz/fuzz_targets/push_frames.rs` looks for worse ones.

#[path = "models/frames.rs"]
mod frames;

/// The same bytes each time.
fn bytes(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..count).map(|_| next()).collect()
}

#[test]
fn whatever_a_client_sends_the_node_stays_sound() {
    for seed in 1..=300 {
        frames::run(&bytes(seed, seed as usize % 120));
    }
}

#[test]
fn what_was_found_once_stays_found() {
    let folder = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/corpus/push_frames"
    );
    let mut count = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        frames::run(&std::fs::read(file.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count > 0);
}
