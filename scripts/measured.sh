#!/bin/bash
# Writes docs/MEASURED.md, the one place of all figures, in its parts:
#
#   scripts/measured.sh              measures anew: growth kinds examples
#   scripts/measured.sh kinds growth these parts; the others stay as they are
#
# `examples` opens a million connections (11 GB); `clients` wants the servers that .ci/run
# installs; `peers` is what scripts/peers.sh has measured last. All of it, on a machine that does nothing else:
#
#   scripts/peers.sh && scripts/measured.sh growth kinds examples clients peers
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
page=docs/MEASURED.md
[ $# -gt 0 ] || set -- growth kinds examples
asked=" $* "
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

clients() {
    local tests=(redis hiredis mysql libpq ureq curl tls websocket)
    echo '```text'
    cargo test -q --release -p crore-clients "${tests[@]/#/--test=}" -- --nocapture --test-threads=1 2>/dev/null |
        grep -oE '[^ ]+: [0-9]+ waits of .* took .*'
    echo '```'
    echo
    load
}

peers() {
    cargo build -q --release -p crore-benches --bin subject_crore -p crore-peers --bins
    target/release/peers tables
}

load() {
    echo "Load average when it ended: $(cut -d' ' -f1-3 /proc/loadavg)."
}

# A part between its marks: measured if it was asked for, else as the page has it.
part() {
    echo "<!-- $1 -->"
    echo
    if [[ $asked == *" $1 "* ]]; then
        "$1"
    else
        sed -n "/^<!-- $1 -->$/,/^<!-- end -->$/p" "$page" | sed '1,2d;$d' | sed '$d'
    fi
    echo
    echo "<!-- end -->"
}

{
    cat <<'EOF'
# Measured

Written by `scripts/measured.sh`; other pages quote this one. Processor time rather
than time on the wall, but for requests a second and latencies: it does not depend on
how busy the machine is. `N: M (L–H)` is the median N, and how many times that of the
yardstick of the same round it was: median M, least L and most H.

`docs/plots` shows the last part as pictures.

## As there are more

`cargo run --release -p crore-benches --bin growth`: the least of several runs,
and in brackets how many times that of a thousand. *Resume* is from the worker's
loop into the coroutine and back until it has parked again; *fired* is a sleeper's
wake-up at its deadline, the resume included.

EOF
    part growth
    cat <<'EOF'

On stacks of their own each coroutine has a page of its own, a line of the page
table and several lines of cache: above some ten thousand, resuming one misses
all of them. A million is what 4 GB hold; ten million are on shared stacks.
How echo servers grow with their connections is below.

## The kinds of coroutine

`cargo run --release -p crore-benches --bin kinds`: processor time, the best of seven
turns in which the kinds follow each other; memory with page tables.

EOF
    part kinds
    cat <<'EOF'

## The examples

EOF
    part examples
    cat <<'EOF'

## Clients

A thousand waits of 0.1 s, which one after the other take 100 s: in coroutines of one
kernel thread, connections, handshakes, and where it says so both sides included.
`cargo test --release -p crore-clients -- --nocapture --test-threads=1` prints them.

EOF
    part clients
    cat <<'EOF'

## Beside others

`scripts/peers.sh`: each contender in a process of its own, all of them in turn in
every round. `crore-shared` is on shared stacks, `crore-2` and `tokio-2` have two
workers (processor time of both), `corosensei` is the switch without a
scheduler, `epoll` a minimal edge-triggered loop. Yardsticks are `crore` and, for
echo, `epoll`; that of the 99th percentile is `tokio`. The threads yield on one
processor. Kernel memory is in no figure: a thread has 16 KiB of stack there.
may's and Photon's stacks and threads take two memory mappings each, of which a
process may have 65 530, so there are fewer.

`libco` is Tencent's, on stacks of its default of 128 KiB, `libco-shared` the same on
one shared stack, `photon` Alibaba's PhotonLibOS with its epoll engine and stacks of
64 KiB; they take part where `LIBCO` and `PHOTON` name their subjects. libco has no queue
of those that can run: its yields and spawns are resumed in turns from outside, as
those of `corosensei` are. Neither has channels.

Of the echo servers, *busy* is the processors' share that the server used: processor
time a request times requests a second. A server on one thread that is less than 0.95
busy waited for its clients, which share the machine: its requests a second and its
latencies are then the clients', and only its processor time can be compared. That is
so for the fastest servers, `epoll` among them, from 1 000 connections on.

EOF
    part peers
} >"$new"
cp "$new" "$page"
