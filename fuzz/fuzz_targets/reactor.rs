//! The reactor over files in memory.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| crore::__fuzz::reactor(input));
