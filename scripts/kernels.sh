#!/bin/bash
# The tests as if the kernel were older: a seccomp filter (tests/kernels) takes away the
# system calls and flags that came later. A run of a version is 5 minutes on two cores.
#
#   scripts/kernels.sh                      3.17, 4.4, 5.4 and 5.15
#   scripts/kernels.sh VERSION              that one
#   scripts/kernels.sh VERSION ARGS...      `cargo test ARGS` on it
#
# A test of what is not there then returns, and says so ("skipped: …"): listed at the end.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
cargo build -q -p crore-kernels
target=$(cargo metadata --format-version 1 --no-deps | python3 -c '
import json, sys
print(json.load(sys.stdin)["target_directory"])')
host=$(rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')
said=$(mktemp)
trap 'rm -f "$said"' EXIT

on() {
    local version=$1
    shift
    env "CARGO_TARGET_${host}_RUNNER=$target/debug/older_kernel $version" \
        timeout 1800 cargo test --no-fail-fast "$@"
}

case $# in
    0) versions=(3.17 4.4 5.4 5.15) ;;
    1) versions=("$1") ;;
    *) on "$@"; exit ;;
esac
for version in "${versions[@]}"; do
    on "$version" --lib --tests -- --nocapture >"$said" 2>&1 || {
        grep -aE '^test .* FAILED' "$said" || tail -n 50 "$said"
        echo "as if on Linux $version: FAILED" >&2
        exit 1
    }
    grep -ac '^test .* ok$' "$said" | sed "s/^/as if on Linux $version: passed: /"
    grep -aoE 'skipped: .*' "$said" | sort | uniq -c || true
done
