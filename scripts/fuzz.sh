#!/bin/bash
# Runs every fuzz target for a while: scripts/fuzz.sh [SECONDS each, default 60].
# Installs cargo-fuzz if it is missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
seconds=${1:-60}
command -v cargo-fuzz >/dev/null || cargo install cargo-fuzz --locked
export RUSTC_BOOTSTRAP=1
for target in pool shared_bytes wheel reactor scheduler hooks descriptors push_frames; do
    echo "==> $target"
    cargo fuzz run -s none -a "$target" "tests/corpus/$target" -- -max_total_time="$seconds"
done
echo "==> switching"
ASAN_OPTIONS=detect_stack_use_after_return=0 \
    cargo fuzz run switching --features sanitizer tests/corpus/switching -- -max_total_time="$seconds"
