//! The bytes of shared stacks against a model that keeps each task's whole.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| crore::__fuzz::shared_bytes(input));
