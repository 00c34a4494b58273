#!/bin/bash
# Real coroutines on shared stacks, the copier and the pool, under
# AddressSanitizer. Any toolchain will do: the stable one is told to accept the
# flag. Arguments go to the test runner (default: the tests that switch).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export RUSTC_BOOTSTRAP=1
export RUSTFLAGS="-Zsanitizer=address --cfg asan"
# Frames that the sanitizer moves to the heap would not be where we copy.
export ASAN_OPTIONS=detect_stack_use_after_return=0
export CARGO_TARGET_DIR=target/asan
target=$(rustc -vV | sed -n 's/^host: //p')
if [ $# -eq 0 ]; then
    set -- --test shared_switching --test shared_frames
fi
exec cargo test --features sanitizer --target "$target" "$@"
