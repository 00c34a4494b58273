//! The timer wheel against a sorted map.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| crore::__fuzz::wheel(input));
