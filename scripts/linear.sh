#!/bin/bash
# Counts what each public operation costs with so many, twice and four times as many
# of what it deals with, and fails where the cost grows faster than the number: no
# clock, so a busy machine changes nothing. From 2n to 4n a linear cost grows by twice
# what it grows by from n to 2n, n² by four times; the bar (MOST) leaves room for
# `n log n`, and for steps of malloc's. n² is seen where it is a thirteenth of the cost of n.
#
#   scripts/linear.sh              all; prints a table
#   scripts/linear.sh PART TIMES   those with that part in their names, with so many
#                                  times as many of each
#
# Wants valgrind.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[ $# -le 2 ] || { echo "usage: scripts/linear.sh [PART [TIMES]]" >&2; exit 2; }
export CARGO_PROFILE_RELEASE_CODEGEN_UNITS=1 CARGO_TARGET_DIR=target/callgrind
cargo build -q --release -p crore-counted --bin linear
counts=$(mktemp -d)
trap 'rm -rf "$counts"' EXIT

# Prints the table of those with PART in their names, so many TIMES as many of each;
# writes the names of those that grow faster to $counts/worse.
look() {
    rm -rf "$counts"/*
    # A part is written at each call of crore_count, four for each operation: warm, and
    # after each number.
    timeout 300 valgrind -q --tool=callgrind --callgrind-out-file="$counts/part" \
        --dump-before=crore_count target/callgrind/release/linear "$1" "$2" >"$counts/operations"
    python3 - "$counts" <<'PYTHON'
import re, sys

MOST = 2.4
folder = sys.argv[1]

def total(part):
    text = open(f"{folder}/part.{part}").read()
    return int(re.search(r"^totals: (\d+)$", text, re.MULTILINE)[1])

lines = open(f"{folder}/operations").read().splitlines()
assert lines, "nothing was counted"
worse = []
print(f"{'n':>6}  {'n to 2n':>9}  {'2n to 4n':>9}  {'growth':>6}   instructions for each more")
for at, line in enumerate(lines):
    n, name = line.split("\t")
    once, twice, four = (total(4 * at + part) for part in (2, 3, 4))
    first, second = twice - once, four - twice
    growth = second / max(first, 1)
    print(f"{n:>6}  {first / int(n):9.0f}  {second / int(n) / 2:9.0f}  {growth:6.2f}   {name}")
    if growth > MOST:
        worse.append(name)
open(f"{folder}/worse", "w").write("".join(f"{name}\n" for name in worse))
PYTHON
}

look "${1-}" "${2-1}"
# A single step of malloc's is little beside four times as many, n² is more.
mapfile -t worse <"$counts/worse"
for name in ${worse[@]+"${worse[@]}"}; do
    echo "once more: $name"
    look "$name" $((4 * ${2-1}))
    if grep -qxF "$name" "$counts/worse"; then
        echo "grows faster than its number: $name" >&2
        exit 1
    fi
done
