//! Real coroutines on shared stacks against a model.
//!
//! ```text
//! RUSTC_BOOTSTRAP=1 ASAN_OPTIONS=detect_stack_use_after_return=0 \
//!     cargo fuzz run switching --features sanitizer
//! ```
#![no_main]

#[path = "../../tests/models/shared_ops/mod.rs"]
mod ops;

libfuzzer_sys::fuzz_target!(|input: &[u8]| ops::run(input, false));
