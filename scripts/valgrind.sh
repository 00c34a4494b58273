#!/bin/bash
# Memcheck on the examples (scripts/valgrind.sh), and on tests that switch and
# copy as well (scripts/valgrind.sh --all). Wants valgrind.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# Valgrind keeps a table of all address space that is reserved: with less of it
# to be had we reserve less.
ulimit -S -v $((8 << 20))

memcheck() {
    echo "--> $*"
    # One thread at a time runs anyway; fair turns keep a busy one from
    # starving the others.
    timeout 600 valgrind --quiet --error-exitcode=99 --trace-children=yes --fair-sched=try "$@"
}

cargo build --release --features valgrind --examples
memcheck target/release/examples/ten_million --coroutines 2000 --rounds 2 --json | tail -n 1
memcheck target/release/examples/echo --connections 20 --seconds 1 --json | tail -n 1
# Programs in C and C++ with the library, libco's API among them.
cargo build --release --features valgrind -p crore-c
programs=$(mktemp -d)
trap 'rm -rf "$programs"' EXIT
crates/c/scripts/link.sh target/release "$programs"
for source in api.c exceptions.cpp libco.cpp hostile.c; do
    c++ -g -O1 -w -x "$([ "${source##*.}" = c ] && echo c || echo c++)" \
        -Icrates/c/include -Icrates/c/include/libco "crates/c/tests/c/$source" -x none \
        -o "$programs/program" "$programs/libcrore.a" -lgcc_s -lpthread -ldl -lm
    # (It asks for as many coroutines as there can be.)
    case $source in hostile.c) ulimit -S -v $((64 << 20)) ;; esac
    memcheck "$programs/program"
done
ulimit -S -v $((8 << 20))
[ "${1-}" = --all ] || exit 0

# Each is a binary of tests, the parts of it that are run, and what is left
# out: what counts on time or on memory that valgrind itself uses.
while read -r test parts; do
    binary=$(cargo test --release --features valgrind --no-run --message-format=json --test "$test" |
        python3 -c '
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("executable") and message["target"]["name"] == sys.argv[1]:
        print(message["executable"])
' "$test")
    # shellcheck disable=SC2086 # several words
    memcheck "$binary" --test-threads 1 $parts
done <<'END'
shared frames:: waits:: hooks::
models shared_stacks::
runtime spawn_join:: park:: coroutine_locals:: --skip a_hundred_thousand_live_at_once --skip ten_thousand_sleepers
ending cancel:: scope::
END
