#!/bin/bash
# The tests under AddressSanitizer, leaks included. Any toolchain will do: the
# stable one is told to accept the flag.
#
#   scripts/asan.sh         stacks, switches, copies, and what suspends often
#   scripts/asan.sh --all   everything but the tests listed below
#   scripts/asan.sh ARGS    `cargo test ARGS`, less those tests
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export RUSTC_BOOTSTRAP=1
export RUSTFLAGS="-Zsanitizer=address"
# Frames that the sanitizer moves to the heap would not be where we copy.
options=detect_stack_use_after_return=0
# Faults and their stacks are ours: the tests of overflows read our report.
options+=:use_sigaltstack=0:handle_segv=0:handle_sigbus=0
export ASAN_OPTIONS=$options
export LSAN_OPTIONS="suppressions=$PWD/scripts/lsan.supp:print_suppressions=0"
export CARGO_TARGET_DIR=target/asan
target=$(rustc -vV | sed -n 's/^host: //p')

# What the sanitizer itself makes impossible.
skipped=(
    a_worker_without_memory_is_an_error_of_the_run         # its own memory is above the limit
    a_limit_of_address_space_leaves_room_for_shared_stacks # the same
    memory_is_given_back_after_a_spike                     # counts its shadow as well
    locked_memory_gets_guards_by_mprotect                  # it makes `mlock` do nothing
    the_mapping_limit_is_named                             # takes for ever with 65 000 mappings
    a_child_ends_when_the_coroutine_that_forked_returns    # the leaks of a child change its exit code
    who_is_parked_says_where_and_how_long                  # under it a trace ends at the coroutine's trampoline
    a_cancellation_finds_c_below_its_generator             # the same
    ordinary_frames_are_one_chain                          # the same
    who_was_deep_and_waits_gives_memory_back               # the same: nothing is trimmed
    frames_below_a_second_stack_are_kept                   # the same
    a_fault_of_others_is_handed_on_with_little_stack       # its red zones take what is little
    a_handler_of_the_programs_needs_little_more_stack      # the same
    the_handler_needs_little_stack                         # the same
    who_has_not_begun_is_dropped_and_who_waits_is_left_as_it_is # a driven worker lives for ever
    sys::tls::                                             # own thread-locals are refused under it
)
skips=()
for name in "${skipped[@]}"; do
    skips+=(--skip "$name")
done

asan() {
    cargo test --features sanitizer --target "$target" "$@"
}

case ${1-} in
'')
    asan --lib -- "${skips[@]}"
    asan --test models --test shared --test runtime --test ending -- "${skips[@]}" \
        shared_stacks:: frames:: waits:: hooks:: spawn_join:: coroutine_locals:: end_of_run::
    exit
    ;;
# Of the tests, not those that are about own thread-locals.
--all)
    tests=()
    for file in tests/*.rs tests/*/main.rs; do
        name=${file#tests/}
        name=${name%.rs}
        name=${name%/main}
        case $name in own_locals) ;; *) tests+=(--test "$name") ;; esac
    done
    set -- --no-fail-fast --lib "${tests[@]}"
    ;;
esac
asan "$@" -- "${skips[@]}"
