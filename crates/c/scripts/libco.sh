#!/bin/bash
# Builds libco's own examples, unchanged, with crore and with libco itself, runs both, and
# compares what they print.
#
#   crates/c/scripts/libco.sh                  clones https://github.com/Tencent/libco
#   crates/c/scripts/libco.sh --libco FOLDER   takes a checkout
#   crates/c/scripts/libco.sh --keep FOLDER    leaves both builds there
#
# Examples that never end are stopped after some seconds, and compared by the lines that
# each prints, sorted, as far as both have come. Wants git, a C++ compiler and GNU make.
set -euo pipefail
checkout= keep=
while [ $# -gt 0 ]; do
    case $1 in
        --libco) checkout=$2; shift 2 ;;
        --keep) keep=$2; shift 2 ;;
        *) sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
    esac
done
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
[ -z "$keep" ] || { mkdir -p "$keep"; keep=$(cd "$keep" && pwd); }
if [ -n "$checkout" ]; then
    git clone -q "$checkout" "$work/libco"
else
    git clone -q --depth 1 https://github.com/Tencent/libco "$work/libco"
fi
"$here/scripts/install.sh" "$work/prefix" >&2

# libco itself, in its own way.
(cd "$work/libco" && make -s colib >/dev/null 2>&1)
mkdir "$work/theirs" "$work/ours" "$work/sources"
# Without libco's headers beside them, which their #include "" would find first; but for
# the one that has nothing to do with coroutines.
cp "$work/libco"/example_*.cpp "$work/libco/co_closure.h" "$work/sources/"
flags=(-g -O2 -w -fno-strict-aliasing -D_GNU_SOURCE)
for source in "$work/sources"/example_*.cpp; do
    name=$(basename "$source" .cpp)
    c++ "${flags[@]}" "$work/libco/$name.cpp" -o "$work/theirs/$name" \
        "$work/libco/lib/libcolib.a" -lpthread -ldl
    c++ "${flags[@]}" -I"$work/prefix/include/libco" "$source" -o "$work/ours/$name" \
        "$work/prefix/lib/libcrore.a" -lgcc_s -lpthread -ldl -lm
    echo "builds: $name"
done
if [ -n "$keep" ]; then
    cp -r "$work/theirs" "$work/ours" "$work/prefix" "$keep/"
fi

# What it prints in so many seconds. Addresses are of no interest.
printed() {
    local seconds=$1 code=0
    shift
    timeout "$seconds" stdbuf -oL "$@" 2>&1 || code=$?
    [ "$code" -eq 0 ] || [ "$code" -eq 124 ] || echo "exit code $code"
}
plain() { sed -E 's/0x[0-9a-f]{6,}|\(nil\)/ADDRESS/g; s/fd [0-9]+/fd N/g' | sort; }

# Both print the same lines; of what never ends as often, but for the last seconds.
failures=0
compare() {
    local how=$1 seconds=$2 name=$3
    shift 3
    printed "$seconds" "$work/theirs/$name" "$@" >"$work/theirs.raw" &
    printed "$seconds" "$work/ours/$name" "$@" >"$work/ours.raw"
    wait
    local side
    for side in theirs ours; do
        case $how in
            all) plain <"$work/$side.raw" >"$work/$side.txt" ;;
            kinds) plain <"$work/$side.raw" | sed -E 's/task [0-9]+/task N/' | uniq >"$work/$side.txt" ;;
        esac
    done
    if [ -s "$work/ours.txt" ] && diff "$work/theirs.txt" "$work/ours.txt" >"$work/diff"; then
        echo "same:   $name ($(wc -l <"$work/ours.raw") lines)"
    else
        echo "DIFFERS: $name"; cat "$work/diff"; failures=$((failures + 1))
    fi
}

compare all 20 example_closure
compare all 5 example_setenv
compare kinds 4 example_cond
compare kinds 4 example_specific
compare kinds 4 example_copystack

# Connections that are refused at once.
compare kinds 4 example_poll 127.0.0.1 1 127.0.0.1 2

# Threads with loops of their own print nothing: they must go on.
code=0
timeout 2 "$work/ours/example_thread" 4 || code=$?
if [ "$code" -eq 124 ]; then echo "same:   example_thread (goes on)"; else
    echo "DIFFERS: example_thread ends with $code"; failures=$((failures + 1))
fi

# Each server with each client.
port=$((20000 + RANDOM % 10000))
for pair in ours/theirs theirs/ours ours/ours; do
    port=$((port + 1))
    setsid "$work/${pair%/*}/example_echosvr" 127.0.0.1 "$port" 100 1 >"$work/server" 2>&1 &
    server=$!
    sleep 1
    # (Its first process ends at once; those that it forks are ended by their group.)
    setsid stdbuf -oL "$work/${pair#*/}/example_echocli" 127.0.0.1 "$port" 20 1 >"$work/client" 2>&1 &
    client=$!
    sleep 5
    kill -- -"$client" -"$server" 2>/dev/null || true
    answered=$(sed -n 's/.*Succ Cnt \([0-9]*\) Fail Cnt 0$/\1/p' "$work/client" | sort -n | tail -1)
    if [ "${answered:-0}" -gt 0 ]; then echo "same:   echo server/client $pair ($answered answers a second)"; else
        echo "DIFFERS: echo server/client $pair"; tail -3 "$work/client" "$work/server"; failures=$((failures + 1))
    fi
done
exit $((failures > 0))
