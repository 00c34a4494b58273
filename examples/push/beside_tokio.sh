#!/bin/bash
# The push service, on stacks of both kinds, beside its core on tokio and tokio-tungstenite
# (benches/push), by turns, under the same load, which checks every message. Prints the
# load's results, a line each, which target/push.jsonl has too, and the medians with what
# they are of tokio's.
#
#   examples/push/beside_tokio.sh                       1 000 channels, 10 subscribers each
#   ROUNDS=9 SECONDS_EACH=10 examples/push/beside_tokio.sh
#   CONNECTIONS="100 1000 10000" examples/push/beside_tokio.sh plots
#                                                       so many subscribers, 10 a channel; then
#                                                       docs/plots/push_*.svg
#   IDLE=19000 SETTLE=15 examples/push/beside_tokio.sh  memory of so many idle connections
#
# Each connection takes a descriptor here and one there: see `ulimit -n`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
rounds=${ROUNDS:-3}
workers=${WORKERS:-2}
# What crore is compared with is built without it.
cargo build -q --release -p crore-push
cargo build -q --release -p crore-push-peer
bin=${CARGO_TARGET_DIR:-target}/release
port=${PORT:-7795}
results=target/push.jsonl
server=
finish() { [ -z "$server" ] || kill -9 "$server" 2>/dev/null || true; }
trap finish EXIT
mkdir -p target
: >"$results"

# How many connections, the server's name, and its command.
measure() {
    local count=$1 name=$2 load
    shift 2
    if [ -n "${IDLE-}" ]; then
        load=(--channels 1000 --seconds 0 --settle "${SETTLE:-15}")
    else
        load=(--channels $((count / 10)) --seconds "${SECONDS_EACH:-5}")
    fi
    "$@" --listen "127.0.0.1:$port" --workers "$workers" >/dev/null &
    server=$!
    until (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do sleep 0.05; done
    local line
    line=$("$bin/push_load" --to "127.0.0.1:$port" --pid "$server" --connections "$count" \
        "${load[@]}")
    echo "{\"name\":\"$name\",${line#\{}" | tee -a "$results"
    kill -9 "$server"
    wait "$server" 2>/dev/null || true
    server=
}

# crore's service with its connections on stacks of this kind.
measure_crore() {
    measure "$1" "$2" "$bin/push" --stacks "$3" --admin "127.0.0.1:$((port + 1))" \
        --rate 1000000 --burst 1000000
}

for ((round = 0; round < rounds; round++)); do
    for count in ${IDLE:-${CONNECTIONS:-10000}}; do
        measure_crore "$count" crore-shared shared
        measure_crore "$count" crore own
        measure "$count" tokio "$bin/push_tokio"
    done
done
python3 - "$results" <<'END'
import collections, json, os, statistics, sys
figures = ["deliveries_per_second", "p50_us", "p99_us", "server_cpu_us_per_delivery"]
if os.environ.get("IDLE"):
    figures = ["user_bytes_per_connection"]
found = collections.defaultdict(list)
for line in open(sys.argv[1]):
    one = json.loads(line)
    found[one["connections"], one["name"]].append(one)
for figure in figures:
    for (count, name), all in found.items():
        values = [(one[figure], its[figure]) for one, its in zip(all, found[count, "tokio"])]
        ratios = [one / its for one, its in values]
        print(f"{figure}, {count} connections: {name} {statistics.median(v for v, _ in values):.6g}, "
              f"of tokio's {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")
END
if [ "${1-}" = plots ]; then
    cargo build -q --release -p crore-peers --bin peers
    "$bin/peers" push --plots docs/plots
fi
