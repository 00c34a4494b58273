#!/bin/bash
# The HTTP service beside others (benches/http), by turns. Prints medians of requests a
# second and of the server's processor time a request, and what they are of crore's
# in the same round; `busy` is how many processors the server had, `idle` how many
# of them all had nothing to do.
#
#   examples/http/beside.sh                 all three parts, about two minutes
#   examples/http/beside.sh one pipelined   /plaintext, one request at a time and 16: hyper
#                                           and may_minihttp beside, each server alone on the
#                                           first processor, wrk on the others
#   examples/http/beside.sh database        /db: threads that run the same code beside, with
#                                           a PostgreSQL of its own; nobody is bound
#   ROUNDS=9 SECONDS_EACH=5 CONNECTIONS=256 examples/http/beside.sh
#
# Wants wrk, postgresql for the database, and two processors.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
parts=("${@:-one pipelined database}")
command -v wrk >/dev/null || { echo "wrk is missing; Debian has it" >&2; exit 1; }
# What crore is compared with is built without it.
cargo build -q --release -p crore-http
cargo build -q --release -p crore-http-peers
bin=${CARGO_TARGET_DIR:-target}/release
work=$(mktemp -d)
chmod 711 "$work"
port=${PORT:-7890}
server=
postgres=()
finish() {
    [ -z "$server" ] || kill -9 "$server" 2>/dev/null || true
    [ ${#postgres[@]} -eq 0 ] || "${postgres[@]}" -m immediate stop >/dev/null || true
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

# Starts a PostgreSQL; it does not run as root.
start_postgres() {
    local programs data=$work/data as=()
    programs=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | tail -n 1)
    [ -n "$programs" ] || { echo "postgresql is missing; Debian has it" >&2; exit 1; }
    mkdir "$data"
    if [ "$(id -u)" -eq 0 ]; then
        chown postgres "$data"
        as=(setpriv --reuid=postgres --regid=postgres --clear-groups)
    fi
    "${as[@]}" "$programs/initdb" -D "$data" -A trust -U postgres --no-sync >/dev/null
    postgres=("${as[@]}" "$programs/pg_ctl" -D "$data")
    "${postgres[@]}" -w -l "$data/log" start >/dev/null -o "-p $((port + 1)) -N 40 \
        -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
}

# Seconds of processor time that a process has had; that all processors were idle.
spent() { awk -v tick="$(getconf CLK_TCK)" '{ print ($14 + $15) / tick }' "/proc/$1/stat"; }
idle() { awk -v tick="$(getconf CLK_TCK)" '/^cpu / { print ($5 + $6) / tick }' /proc/stat; }

# Runs wrk against a server: what is measured, the server's name and its command.
measure() {
    local what=$1 name=$2 path=plaintext place=(taskset -c 0) options=(-t 1)
    local load=(taskset -c "1-$(($(nproc) - 1))")
    shift 2
    case $what in
        pipelined) options+=(-s "$work/pipelined.lua") ;;
        database) path=db place=() load=() ;;
    esac
    "${place[@]}" "$@" >/dev/null &
    server=$!
    until (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do sleep 0.05; done
    local url=http://127.0.0.1:$port/$path before idle_before
    # The database's connections are made by the first requests.
    [ "$what" != database ] || wrk -t 1 -c 64 -d 1 "$url" >/dev/null
    before=$(spent "$server") idle_before=$(idle)
    "${load[@]}" wrk "${options[@]}" -c "${CONNECTIONS:-64}" -d "${SECONDS_EACH:-3}" "$url" \
        >"$work/said"
    local after idle_after
    after=$(spent "$server") idle_after=$(idle)
    kill -9 "$server"
    wait "$server" 2>/dev/null || true
    server=
    if grep -qE 'Socket errors|Non-2xx' "$work/said"; then
        cat "$work/said" >&2
        exit 1
    fi
    awk -v what="$what" -v name="$name" -v cpu="$after" -v before="$before" \
        -v idle="$idle_after" -v idle_before="$idle_before" '
        /requests in/ { requests = $1; seconds = $4 + 0 }
        END {
            cpu -= before
            print what, name, requests / seconds, cpu / requests * 1e6, cpu / seconds, (idle - idle_before) / seconds
        }' "$work/said" >>"$work/results"
}

# One round of a part.
round() {
    local address=127.0.0.1:$port
    if [ "$1" = database ]; then
        local database="host=127.0.0.1 port=$((port + 1)) user=postgres" pool=16
        if [ ${#postgres[@]} -eq 0 ]; then
            start_postgres
            "$bin/crore-http" --database "$database" --create
        fi
        measure "$1" crore "$bin/crore-http" --listen "$address" --workers "$(nproc)" \
            --database "$database" --pool "$pool"
        measure "$1" threads "$bin/http_threads" "$address" "$database" "$pool"
    else
        measure "$1" crore "$bin/crore-http" --listen "$address"
        measure "$1" hyper "$bin/http_hyper" "$address"
        measure "$1" may_minihttp "$bin/http_may" "$address"
    fi
}

for ((turn = 0; turn < ${ROUNDS:-5}; turn++)); do
    for part in ${parts[*]}; do
        round "$part"
    done
done
python3 - "$work/results" <<'END'
import collections, statistics, sys
found = collections.defaultdict(list)
for line in open(sys.argv[1]):
    what, name, *numbers = line.split()
    found[what, name].append([float(number) for number in numbers])

def ratio(rows, ours, column):
    ratios = [row[column] / one[column] for row, one in zip(rows, ours)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"

print("| | | requests/s | of crore's (least to most) | µs of processor time a request | of crore's | busy | idle |")
print("|---|---|---|---|---|---|---|---|")
for (what, name), rows in found.items():
    ours = found[what, "crore"]
    rate, cpu, busy, idle = (statistics.median(column) for column in zip(*rows))
    print(f"| {what} | {name} | {rate:.0f} | {ratio(rows, ours, 0)} | {cpu:.2f} | {ratio(rows, ours, 1)} | {busy:.2f} | {idle:.2f} |")
END
