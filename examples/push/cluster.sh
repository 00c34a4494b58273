#!/bin/bash
# A whole cluster on this machine: Redis (and NATS), three nodes of the push service,
# haproxy before them. Arguments are the nodes' settings. Ctrl-C ends all of it.
#
#   examples/push/cluster.sh                          clients connect to 127.0.0.1:7780
#   PORT=9000 examples/push/cluster.sh --workers 1    to 127.0.0.1:9000; admin pages at
#                                                     9011 to 9013, nodes at 9001 to 9003
#   DIR=/var/lib/push examples/push/cluster.sh        what Redis has is kept there
#   FANOUT=nats examples/push/cluster.sh              NATS tells the nodes of messages
set -euo pipefail
port=${PORT:-7780}
dir=${DIR:-$(mktemp -d)}
dir=$(mkdir -p "$dir" && realpath "$dir")
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
PATH=$PATH:/usr/sbin
programs=(redis-server haproxy)
fanout=redis
if [ "${FANOUT:-redis}" = nats ]; then
    programs+=(nats-server)
    fanout=nats://127.0.0.1:$((port + 21))
fi
for program in "${programs[@]}"; do
    command -v "$program" >/dev/null || { echo "$program is missing; Debian has it" >&2; exit 1; }
done
cargo build -q --release -p crore-push
push=${CARGO_TARGET_DIR:-target}/release/push

children=()
finish() {
    trap - EXIT INT TERM
    # The newest first: Redis is the last.
    for child in "${children[@]}"; do
        kill "$child" 2>/dev/null || true
        wait "$child" 2>/dev/null || true
    done
    [ -n "${DIR-}" ] || rm -rf "$dir"
}
trap finish EXIT
trap 'exit 0' INT TERM

# Each in a group of its own, so that Ctrl-C comes here alone.
start() {
    setsid "$@" &
    children=($! "${children[@]}")
}

start redis-server --bind 127.0.0.1 --port $((port + 20)) --save '' --dir "$dir" \
    --appendonly yes --appendfsync always --logfile "$dir/redis.log"
[ "$fanout" = redis ] || start nats-server -a 127.0.0.1 -p $((port + 21)) -l "$dir/nats.log"
for i in 1 2 3; do
    start "$push" --bus "redis://127.0.0.1:$((port + 20))" --fanout "$fanout" --node "node-$i" \
        --listen "127.0.0.1:$((port + i))" --admin "127.0.0.1:$((port + 10 + i))" "$@"
done
cat >"$dir/haproxy.cfg" <<END
global
    stats socket $dir/haproxy.sock
defaults
    mode tcp
    timeout connect 2s
    timeout client 1h
    timeout server 1h
listen push
    bind 127.0.0.1:$port
    balance leastconn
    option httpchk GET /health
    default-server check inter 500 fall 2 rise 1
$(for i in 1 2 3; do
    echo "    server node-$i 127.0.0.1:$((port + i)) port $((port + 10 + i))"
done)
END
start haproxy -db -q -f "$dir/haproxy.cfg"
balancer=${children[0]}
# Whether the page comes through the balancer.
answers() {
    exec 3<>"/dev/tcp/127.0.0.1/$port" || return 1
    printf 'GET / HTTP/1.0\r\n\r\n' >&3
    head -c 15 <&3 | grep -q ' 200 '
}
until (answers) 2>/dev/null; do
    kill -0 "$balancer" || exit 1
    sleep 0.1
done
echo "open http://127.0.0.1:$port/?room=lobby; Ctrl-C ends"
wait
