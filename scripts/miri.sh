#!/bin/bash
# Miri on what needs no mapped memory: addresses, packets, waiters, channels,
# timers. Skips, and says so, where the toolchain has no Miri.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if ! cargo miri --version >/dev/null 2>&1; then
    echo "skipped: no Miri here (rustup +nightly component add miri)"
    exit 0
fi
export MIRIFLAGS="-Zmiri-disable-isolation"
cargo miri test --no-default-features --lib -- \
    driver::wheel sync:: task::addr task::cell util::
cargo miri test --no-default-features --test sync -- futures:: threads::
