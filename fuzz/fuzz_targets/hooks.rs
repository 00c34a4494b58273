//! Random traffic through hooked calls against a byte-exact oracle.
#![no_main]

#[path = "../../tests/models/hook_ops/mod.rs"]
mod ops;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    ops::run(input);
});
