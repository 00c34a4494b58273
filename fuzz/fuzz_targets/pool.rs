//! The saved-frame pool against a model that keeps a copy of each frame.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| crore::__fuzz::pool(input));
