#!/bin/bash
# Runs tests with generations of three bits, so that each slot and each provisional id is
# used up after eight tasks, which else takes 67 million: what a stale address finds then.
#
#   scripts/narrow.sh [WORD…]    what `cargo test` is asked for; else the parts below
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export RUSTFLAGS="--cfg narrow" CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/narrow
if [ $# -gt 0 ]; then
    exec cargo test "$@"
fi
cargo test --lib -- task:: sched:: runtime::
# That one holds that entries are used again, of which each has had its eight.
cargo test --test models --test runtime -- \
    --skip an_id_that_was_asked_for_before_the_end_takes_no_room_after_it
