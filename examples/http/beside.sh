#!/bin/bash
# The HTTP service beside hyper and may_minihttp (benches/http), by turns: wrk with 64
# connections, each server on the first processor alone, wrk on the others. Prints medians
# of requests a second and of the server's processor time a request, and their ratio to
# crore's; `busy` is the server's share of its processor.
#
#   examples/http/beside.sh                 /plaintext, one request at a time and 16
#   ROUNDS=9 SECONDS_EACH=5 examples/http/beside.sh
#
# Wants wrk and two processors.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
command -v wrk >/dev/null || { echo "wrk is missing; Debian has it" >&2; exit 1; }
# What crore is compared with is built without it.
cargo build -q --release -p crore-http
cargo build -q --release -p crore-http-peers
bin=${CARGO_TARGET_DIR:-target}/release
work=$(mktemp -d)
server=
finish() {
    [ -z "$server" ] || kill -9 "$server" 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT
cat >"$work/pipelined.lua" <<'END'
init = function()
    local one = wrk.format("GET", "/plaintext")
    all = string.rep(one, 16)
end
request = function() return all end
END
port=${PORT:-7890}
others=1-$(($(nproc) - 1))

# Seconds of processor time that a process has had.
spent() { awk -v tick="$(getconf CLK_TCK)" '{ print ($14 + $15) / tick }' "/proc/$1/stat"; }

# What is measured, the server's name and its command.
measure() {
    local what=$1 name=$2 before after options=()
    shift 2
    [ "$what" = one ] || options=(-s "$work/pipelined.lua")
    taskset -c 0 "$@" >/dev/null &
    server=$!
    until (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do sleep 0.05; done
    before=$(spent "$server")
    taskset -c "$others" wrk -t 1 -c 64 -d "${SECONDS_EACH:-3}" "${options[@]}" \
        "http://127.0.0.1:$port/plaintext" >"$work/said"
    after=$(spent "$server")
    kill -9 "$server"
    wait "$server" 2>/dev/null || true
    server=
    if grep -qE 'Socket errors|Non-2xx' "$work/said"; then
        cat "$work/said" >&2
        exit 1
    fi
    awk -v what="$what" -v name="$name" -v cpu="$after" -v before="$before" '
        /requests in/ { requests = $1; seconds = $4 + 0 }
        END { print what, name, requests / seconds, (cpu - before) / requests * 1e6, (cpu - before) / seconds }
    ' "$work/said" >>"$work/results"
}

for ((round = 0; round < ${ROUNDS:-5}; round++)); do
    for what in one pipelined; do
        measure "$what" crore "$bin/crore-http" --listen "127.0.0.1:$port"
        measure "$what" hyper "$bin/http_hyper" "127.0.0.1:$port"
        measure "$what" may_minihttp "$bin/http_may" "127.0.0.1:$port"
    done
done
python3 - "$work/results" <<'END'
import collections, statistics, sys
found = collections.defaultdict(list)
for line in open(sys.argv[1]):
    what, name, *numbers = line.split()
    found[what, name].append([float(number) for number in numbers])
print("| /plaintext | | requests/s | µs of processor time a request | of crore's (least to most) | busy |")
print("|---|---|---|---|---|---|")
for (what, name), rows in found.items():
    ratios = [row[1] / ours[1] for row, ours in zip(rows, found[what, "crore"])]
    rate, cpu, busy = (statistics.median(column) for column in zip(*rows))
    spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    print(f"| {what} | {name} | {rate:.0f} | {cpu:.2f} | {spread} | {busy:.2f} |")
END
