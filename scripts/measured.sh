#!/bin/bash
# Measures parts of docs/MEASURED.md, the one place of all figures, anew: what stands between
# the marks of each is replaced. The words around them are the page's own.
#
#   scripts/measured.sh              growth kinds inside examples
#   scripts/measured.sh PART...      these: also generators turns clients c libco threads peers
#
# `examples` opens a million connections (11 GB); `clients` wants the servers that .ci/run
# installs; `c` and `libco` are of crates/c, the latter clones libco; `threads` is
# scripts/run_figures.sh; `peers` is what scripts/peers.sh has measured last. All of it, on a
# machine that does nothing else.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
page=docs/MEASURED.md
parts=(growth kinds generators turns inside examples clients c libco threads peers)
[ $# -gt 0 ] || set -- growth kinds inside examples
for part; do
    [[ " ${parts[*]} " == *" $part "* ]] || { echo "no part $part; they are: ${parts[*]}" >&2; exit 2; }
done
new=$(mktemp)
trap 'rm -f "$new"' EXIT

growth() {
    cargo build -q --release -p crore-benches --bin growth
    target/release/growth
    load
}

kinds() {
    cargo build -q --release -p crore-benches --bin kinds
    echo '```text'
    target/release/kinds
    echo '```'
    echo
    load
}

generators() {
    cargo build -q --release -p crore-benches --bin generators
    echo '```text'
    target/release/generators
    echo '```'
    echo
    load
}

turns() {
    cargo build -q --release -p crore-benches --bin compare
    echo '```text'
    target/release/compare 5
    echo '```'
    echo
    load
}

# Runs an example with --json and prints a row for each format string: its name, what,
# and the figure, made of the keys of the last line.
example() {
    local name=$1 options=$2
    shift 2
    # shellcheck disable=SC2086
    "target/release/examples/$name" $options --json 2>/dev/null | tail -n 1 | python3 -c '
import json, sys
name, *rows = sys.argv[1:]
result = json.load(sys.stdin)
result["mib"] = result.get("rss_bytes", 0) / 2**20
for row in rows:
    what, figure = row.split("|")
    print(f"| `{name}` | {what} | {figure.format(**result)} |")
' "$name${options:+ $options}" "$@"
}

examples() {
    cargo build -q --release --example ten_million --example million --example echo
    echo "| example | what | figure |"
    echo "|---|---|---|"
    example ten_million "" "parked, 3 calls deep, each|{bytes_per_coroutine:.0f} bytes" \
        "the same, in all|{mib:.0f} MiB" \
        "resumed in order / at random|{resume_in_order_ns:.0f} / {resume_random_ns:.0f} ns"
    example echo "--connections 1000" "one thread, \`std::net\`|{requests_per_second:.0f} requests/s"
    example echo "" "10 000 connections, one thread, \`std::net\`|{requests_per_second:.0f} requests/s"
    example million "" "user memory of a connection|{user_bytes_per_connection} bytes" \
        "kernel memory of a connection, both ends|{kernel_bytes_per_connection} bytes" \
        "opened a second|{ramp_per_second:.0f}" \
        "processor of the quiet servers|{idle_cpu_percent:.3f} %" \
        "server processes|{server_processes}" \
        "a message among all, p50 / p99|{p50_us:.1f} / {p99_us:.1f} µs"
    example million --buffered "user memory of a connection|{user_bytes_per_connection} bytes"
    example million --dedicated "user memory of a connection|{user_bytes_per_connection} bytes"
    echo
    echo "\`cargo run --release --example NAME\` prints them."
    load
}

# Ten minutes of it are for false alarms.
inside() {
    cargo build -q --release -p crore-benches --bin inside
    echo '```text'
    target/release/inside 600 2>/dev/null
    echo '```'
    echo
    load
}

clients() {
    local tests=(redis hiredis mysql libpq ureq curl tls websocket)
    echo '```text'
    cargo test -q --release -p crore-clients "${tests[@]/#/--test=}" -- --nocapture --test-threads=1 2>/dev/null |
        grep -oE '[^ ]+: [0-9]+ waits of .* took .*'
    echo '```'
    echo
    load
}

c() {
    echo '```text'
    crates/c/scripts/costs.py
    echo '```'
}

# (LIBCO_SOURCE: a checkout of libco, in place of a clone.)
libco() {
    local builds
    builds=$(mktemp -d)
    crates/c/scripts/libco.sh ${LIBCO_SOURCE:+--libco "$LIBCO_SOURCE"} --keep "$builds" >/dev/null
    echo '```text'
    crates/c/scripts/echo_load.py "$builds"
    echo '```'
    rm -rf "$builds"
}

threads() {
    scripts/run_figures.sh 2>/dev/null
}

peers() {
    cargo build -q --release -p crore-benches --bin subject_crore -p crore-peers --bins
    target/release/peers tables
}

load() {
    echo "Load average when it ended: $(cut -d' ' -f1-3 /proc/loadavg)."
}

# Between its marks on the page.
replace() {
    awk -v mark="<!-- $1 -->" -v new="$new" '
        $0 == "<!-- end -->" { inside = 0 }
        !inside
        $0 == mark {
            inside = found = 1
            print ""
            while ((getline line <new) > 0) print line
            print ""
        }
        END { exit !found }' "$page" >"$new.page" || { echo "$page has no mark of $1" >&2; exit 1; }
    mv "$new.page" "$page"
}

for part; do
    "$part" >"$new"
    replace "$part"
done
