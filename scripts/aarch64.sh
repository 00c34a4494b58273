#!/bin/bash
# Compiles everything for aarch64 and runs tests under qemu-user: of own thread-locals, and
# what concerns stacks, switches, scheduling and hooks.
#
# Wants: the target's std (`rustup target add aarch64-unknown-linux-gnu`), and
# from Debian gcc-aarch64-linux-gnu, libc6-dev-arm64-cross, qemu-user.
#
#   scripts/aarch64.sh          compile, run the short list
#   scripts/aarch64.sh --all    the suites of all kinds of coroutine instead of the list
#   scripts/aarch64.sh --check  compile only, no warning passes, where the target's std is installed
#   scripts/aarch64.sh TEST…    these test files instead of the list
#
# What is skipped is what an emulator can't show; `skips` says of each why.
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
# Each of malloc's arenas takes 128 MiB of it; and what is held for long is so by the emulator.
export GLIBC_TUNABLES=glibc.malloc.arena_max=1 CRORE_WATCHDOG=0
# What tests compile in C.
export CRORE_TEST_CC=aarch64-linux-gnu-gcc
# An emulator is slow; and optimised code is what keeps the address of a thread-local.
export CARGO_PROFILE_DEV_OPT_LEVEL=1

# The arguments that leave out what can't be shown here, for the tests of one file.
skips() {
    local reason names skip
    # shellcheck disable=SC2016
    while IFS=: read -r file reason names; do
        [ "$file" = "$1" ] || continue
        for skip in $names; do
            echo "skipped: ${skip//\//::}: $reason" >&2
            printf -- '--skip\n%s\n' "${skip//\//::}"
        done
    done <<'LIST'
lib:8 GiB of address space are all there is:stack/arena/tests/random_operations stack/arena/tests/sizes_are_limited
lib:qemu takes MADV_GUARD_INSTALL for a hint and does nothing:a_guard_of_the_best_kind_faults locked_memory_gets_guards a_signal_stack_has_a_guard stack/overflow/
lib:qemu takes MADV_HUGEPAGE for a hint and does nothing:only_a_class_of_several_chunks_gets_huge_pages
lib:qemu has no process_vm_readv:what_is_there_is_read_and_what_is_not
lib:qemu has no SO_COOKIE:sys/sockopt/tests/options_are_read
lib:/proc/self/task has the numbers of the calls of the processor that emulates:one_that_waits_says_in_which_call
own_locals:8 GiB of address space are all there is:many_at_a_time a_million_leave
own_locals:a forked child that starts threads makes qemu fail (qemu_plugin_vcpu_init_hook):libc/a_coroutine_forks user/in_a_forked_child
own_locals:qemu takes MADV_GUARD_INSTALL for a hint and does nothing:libc/an_overflow_names
own_locals:qemu has threads of its own, which libc does not know:user/and_every_thread
threads:8 GiB of address space are all there is:naps_are_taken many_threads_sleep
threads:a forked child that starts threads makes qemu fail (qemu_plugin_vcpu_init_hook):a_forked_child_starts
runtime:8 GiB of address space are all there is:ten_thousand_sleepers
LIST
}

run() {
    local file=$1 skip=()
    shift
    mapfile -t skip < <(skips "$file")
    local which=(--test "$file")
    [ "$file" != lib ] || which=(--lib)
    # One at a time: each takes its share of the address space.
    timeout 1800 cargo test --target $target "${which[@]}" -- --test-threads 1 "$@" "${skip[@]}"
}

if [ "${1-}" = --all ]; then
    failed=()
    run lib switch:: stack:: sched:: task:: sys:: || failed+=(lib)
    for file in own_locals threads selects shared models runtime sync ending; do
        run "$file" || failed+=("$file")
    done
    [ ${#failed[@]} -eq 0 ] || { echo "failed: ${failed[*]}" >&2; exit 1; }
    exit
fi
if [ $# -gt 0 ]; then
    for file in "$@"; do
        run "$file"
    done
    exit
fi
run lib switch:: stack::shared stack::copy sched:: task::addr task::provisional_id sys::tls sys::jump
run own_locals
run threads
run shared frames:: waits::
run models shared_stacks::
run runtime park:: coroutine_locals::
run ending cancel:: scope:: timeout::
run hook sockets::
