#!/bin/bash
# The lock suites, over and over, as they are built for debugging, for release,
# and with link-time optimisation of everything (hooks must bind there, too):
# scripts/locks.sh [ROUNDS, default 100]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

rounds=${1:-100}
suites=(--test locks --test locks_allocator)

repeat() {
    local name=$1
    shift
    "$@" --no-run
    for ((round = 1; round <= rounds; round++)); do
        # A lost wake-up is no failure but a test that never ends.
        if ! timeout 300 "$@" -q >"$log" 2>&1; then
            cat "$log"
            echo "FAILED: $name, round $round of $rounds" >&2
            exit 1
        fi
    done
    echo "$name: $rounds rounds passed"
}

log=$(mktemp)
trap 'rm -f "$log"' EXIT
repeat "debug" cargo test "${suites[@]}"
repeat "release" cargo test --release "${suites[@]}"
export CARGO_PROFILE_RELEASE_LTO=fat CARGO_PROFILE_RELEASE_CODEGEN_UNITS=1
repeat "release, fat LTO" cargo test --release --target-dir target/lto "${suites[@]}"
