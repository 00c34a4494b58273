//! Clients of the push service: handshakes, frames and requests of any kind.
#![no_main]

#[path = "../../examples/push/tests/models/frames.rs"]
mod frames;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    frames::run(input);
});
