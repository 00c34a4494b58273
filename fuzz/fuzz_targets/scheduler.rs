//! Lists of scheduler operations against a model that predicts every result.
#![no_main]

#[path = "../../tests/models/sched_ops/mod.rs"]
mod ops;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    ops::run(input);
});
