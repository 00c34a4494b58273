#!/bin/bash
# Compiles everything for aarch64 and runs what concerns stacks, switches,
# scheduling and hooks under qemu-user.
#
# Wants: the target's std (`rustup target add aarch64-unknown-linux-gnu`), and
# from Debian gcc-aarch64-linux-gnu, libc6-dev-arm64-cross, qemu-user.
#
#   scripts/aarch64.sh          compile, run the short list
#   scripts/aarch64.sh --check  compile only, no warning passes, where the target's std is installed
#   scripts/aarch64.sh TEST…    these test files instead of the list
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
target=aarch64-unknown-linux-gnu
if [ ! -d "$(rustc --print target-libdir --target $target)" ]; then
    if [ "${1-}" = --check ]; then
        echo "not compiled for aarch64: its std is not installed (rustup target add $target)"
        exit
    fi
    rustup target add $target
fi
if [ "${1-}" = --check ]; then
    cargo clippy --target $target --all-targets -- -D warnings
    cargo clippy --target $target --all-targets --no-default-features -- -D warnings
    exit
fi

# qemu-user keeps a table of all address space that is reserved: with less of
# it to be had we reserve less. A test that starts its own binary again has to
# know by what.
runner="qemu-aarch64 -R 0x200000000 -L /usr/aarch64-linux-gnu"
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER=$runner
export CRORE_TEST_RUNNER=$runner

run() {
    # One at a time: each takes its share of the address space.
    timeout 900 cargo test --target $target "$@" --test-threads 1
}

if [ $# -gt 0 ]; then
    for test in "$@"; do
        run --test "$test" --
    done
    exit
fi
# Not: what takes minutes in an emulator, and what qemu does not emulate.
run --lib -- switch:: stack::shared stack::copy sched:: task::addr task::provisional_id
run --test shared -- frames:: waits::
run --test models -- shared_stacks::
run --test runtime -- park:: coroutine_locals:: --skip ten_thousand_sleepers
run --test ending -- cancel:: scope:: timeout::
run --test hook -- sockets::
