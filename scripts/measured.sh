#!/bin/bash
# Writes docs/MEASURED.md: the growth table, which this measures, and what
# scripts/peers.sh has measured last. With --keep the last growth table is kept.
# All of it, on a machine that does nothing else:
#
#   scripts/peers.sh && scripts/measured.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
growth=target/peers/growth.md
mkdir -p target/peers
if [ "${1-}" != --keep ]; then
    cargo build --release -p crore-benches --bin growth
    target/release/growth >"$growth.new"
    echo "load average when it ended: $(cut -d' ' -f1-3 /proc/loadavg)" >>"$growth.new"
    mv "$growth.new" "$growth"
fi
cargo build -q --release -p crore-benches --bin subject_crore -p crore-peers --bins
{
    cat <<'EOF'
# Measured

Written by `scripts/measured.sh`. Processor time rather than time on the wall,
but for requests a second and latencies: it does not depend on how busy the
machine is. `N: M (L–H)` is the median N, and how many times that of the
yardstick of the same round it was: median M, least L and most H.

## As there are more

`cargo run --release -p crore-benches --bin growth`: the least of several runs,
and in brackets how many times that of a thousand. *Resume* is from the worker's
loop into the coroutine and back until it has parked again; *fired* is a sleeper's
wake-up at its deadline, the resume included.

EOF
    cat "$growth"
    cat <<'EOF'

On stacks of their own each coroutine has a page of its own, a line of the page
table and several lines of cache: above some ten thousand, resuming one misses
all of them. A million is what 4 GB hold; ten million are on shared stacks.
How echo servers grow with their connections is below; `examples/million` has a
million of them.

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

EOF
    target/release/peers tables
} >docs/MEASURED.md
