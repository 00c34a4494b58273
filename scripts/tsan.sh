#!/bin/bash
# What threads share, under ThreadSanitizer, which sees a race whatever the order in which
# things happened: the scheduler, tasks, reactors and everything of `crore::sync`, without
# hooks (the sanitizer has hooks of its own, and calls ours before it has begun). Any
# toolchain will do: the stable one is told to accept the flags. Some minutes on two cores.
#
#   scripts/tsan.sh          those tests
#   scripts/tsan.sh ARGS     `cargo test ARGS`
#
# Not: what unwinds a coroutine (with the sanitizer's landing pads every function is one
# that an unwind stops at), what faults on purpose, and more than 8 000 stacks.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
rustup component add rust-src 2>/dev/null
export RUSTC_BOOTSTRAP=1
export RUSTFLAGS="--cfg tsan -Zsanitizer=thread"
export CARGO_TARGET_DIR=target/tsan
target=$(rustc -vV | sed -n 's/^host: //p')

tsan() {
    cargo test -Zbuild-std --no-default-features --target "$target" "$@"
}

if [ $# -gt 0 ]; then
    tsan "$@"
    exit
fi
tsan --lib -- sched:: task:: driver:: sync:: util:: blocking::
tsan --test sync
