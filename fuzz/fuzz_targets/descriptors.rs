//! Descriptors that are closed and replaced under their waiters, with a model.
#![no_main]

#[path = "../../tests/models/fd_ops/mod.rs"]
mod ops;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    ops::run(input);
});
