#!/bin/bash
# The push service beside its core on tokio and tokio-tungstenite (benches/push), by turns,
# under the same load, which checks every message. Prints the load's results, a line each,
# and the medians with their ratio.
#
#   examples/push/beside_tokio.sh                       1 000 channels, 10 subscribers each
#   ROUNDS=9 SECONDS_EACH=10 examples/push/beside_tokio.sh
#   STACKS=own examples/push/beside_tokio.sh            crore's connections on own stacks
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
results=$(mktemp)
server=
finish() {
    [ -z "$server" ] || kill -9 "$server" 2>/dev/null || true
    rm -f "$results"
}
trap finish EXIT

if [ -n "${IDLE-}" ]; then
    load=(--connections "$IDLE" --channels 1000 --seconds 0 --settle "${SETTLE:-15}")
else
    load=(--connections 10000 --channels 1000 --seconds "${SECONDS_EACH:-5}")
fi

# The server's name, and its command.
measure() {
    local name=$1
    shift
    "$@" --listen "127.0.0.1:$port" --workers "$workers" >/dev/null &
    server=$!
    until (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do sleep 0.05; done
    local line
    line=$("$bin/push_load" --to "127.0.0.1:$port" --pid "$server" "${load[@]}")
    echo "$name $line" | tee -a "$results"
    kill -9 "$server"
    wait "$server" 2>/dev/null || true
    server=
}

for ((round = 0; round < rounds; round++)); do
    measure crore "$bin/push" --admin "127.0.0.1:$((port + 1))" --stacks "${STACKS:-shared}" \
        --rate 1000000 --burst 1000000
    measure tokio "$bin/push_tokio"
done
python3 - "$results" <<'END'
import json, statistics, sys
found = {"crore": [], "tokio": []}
for line in open(sys.argv[1]):
    name, text = line.split(" ", 1)
    found[name].append(json.loads(text))
for figure in ["user_bytes_per_connection", "deliveries_per_second", "p50_us", "p99_us",
               "server_cpu_us_per_delivery"]:
    values = {name: [one[figure] for one in all] for name, all in found.items()}
    if any(None in all for all in values.values()):
        continue
    crore, tokio = (statistics.median(values[name]) for name in ("crore", "tokio"))
    if tokio:
        print(f"{figure}: crore {crore:.6g}, tokio {tokio:.6g}, ratio {crore / tokio:.3f}")
END
