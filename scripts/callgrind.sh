#!/bin/bash
# Counts the instructions of each key operation and compares them with
# benches/instructions.txt: no clock, so a busy machine changes nothing.
#
#   scripts/callgrind.sh            fails if one takes over 3 % more than recorded
#   scripts/callgrind.sh --record   writes the file anew
#
# Other compilers and C libraries make other code: if they are not those of the
# file, differences are told but are no failure. Wants valgrind.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
case ${1-} in
    '' | --record) ;;
    *) echo "usage: scripts/callgrind.sh [--record]" >&2; exit 2 ;;
esac
# One codegen unit: with more, each new file moves the borders between them, and
# with them what is inlined.
export CARGO_PROFILE_RELEASE_CODEGEN_UNITS=1 CARGO_TARGET_DIR=target/callgrind
cargo build -q --release -p crore-counted --bin operations
counts=$(mktemp -d)
trap 'rm -rf "$counts"' EXIT
# A part is written at each call of crore_count, three for each operation: warm,
# few, many.
timeout 300 valgrind -q --tool=callgrind --callgrind-out-file="$counts/part" \
    --dump-before=crore_count target/callgrind/release/operations >"$counts/operations"
tools="$(rustc --version), $(ldd --version | sed -n '1s/.*(\(.*\)).*/\1/p'), $(uname -m)"
TOOLS=$tools python3 - "$counts" "${1-}" <<'EOF'
import os, re, sys

MARGIN = 0.03
RECORD = "benches/instructions.txt"
folder, record = sys.argv[1], sys.argv[2] == "--record"
tools = os.environ["TOOLS"]

def total(part):
    text = open(f"{folder}/part.{part}").read()
    return int(re.search(r"^totals: (\d+)$", text, re.MULTILINE)[1])

counted = {}
for at, line in enumerate(open(f"{folder}/operations")):
    count, name = line.rstrip("\n").split("\t")
    counted[name] = (total(3 * at + 3) - total(3 * at + 2)) / int(count)
assert counted, "nothing was counted"

if record:
    with open(RECORD, "w") as out:
        out.write("# Instructions of an operation, by scripts/callgrind.sh --record.\n")
        out.write(f"# {tools}\n")
        for name, each in counted.items():
            out.write(f"{each:.1f}\t{name}\n")

lines = open(RECORD).read().splitlines()
recorded = {name: float(each) for each, name in (line.split("\t") for line in lines[2:])}
same_tools = lines[1] == f"# {tools}"
worse = []
print(f"{'instructions':>12}  {'recorded':>9}")
for name, each in counted.items():
    if name not in recorded:
        print(f"{each:12.1f}  {'-':>9}          {name}: not recorded")
        worse.append(name)
        continue
    change = each / recorded[name] - 1
    print(f"{each:12.1f}  {recorded[name]:9.1f}  {change:+6.1%}  {name}")
    if change > MARGIN:
        worse.append(name)
    elif change < -MARGIN:
        print(f"{'':31}fewer than recorded: record them, or they may come back")
for name in recorded.keys() - counted.keys():
    print(f"recorded but not counted: {name}")
    worse.append(name)
if worse and same_tools:
    sys.exit(f"more instructions than recorded: {', '.join(worse)}")
if worse:
    print(f"recorded with {lines[1][2:]}; here is {tools}: no failure")
EOF
