#!/bin/bash
# Runs programs as Debian has them, by themselves and under `crore run`, and compares what
# they say and how they end. Prints a table; fails if one differs that docs/RUN.md does not
# name.
#
#   scripts/programs.sh            all; gets those that are missing from Debian
#   scripts/programs.sh NAME...    these
#
#   WORKERS=2   with so many workers (1)
#   ROUNDS=3    each so often (1)
#   PROFILE=dev with what is built for tests (release)
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null; rm -rf "$work"' EXIT

packages=(apache2-utils bc curl dnsmasq-base ffmpeg git haproxy ldap-utils lbzip2
    libmemcached-tools libpython3.11-testsuite mariadb-client mariadb-server memcached mosquitto
    mosquitto-clients nginx-light openjdk-17-jdk-headless openssl pbzip2 pigz python3 python3-flask
    python3-waitress redis-server redis-tools slapd stress-ng stunnel4 sysbench varnish wrk xz-utils
    zstd)

get_packages() {
    local missing=() package
    for package in "${packages[@]}"; do
        dpkg-query -W -f '${Status}\n' "$package" 2>/dev/null | grep -q 'ok installed' ||
            missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return
    local root=()
    [ "$(id -u)" -eq 0 ] || root=(sudo)
    "${root[@]}" apt-get update -q >&2
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -qy --no-install-recommends "${missing[@]}" >&2
}

# The program under test: `run PROGRAM ARGS...`, plainly or not.
under=()
run() { timeout --kill-after=5 "${limit:-120}" "${under[@]}" "$@"; }

# These differ; docs/RUN.md says why.
known=" python_threading "

# Until a port answers.
listens() {
    local i
    for ((i = 0; i < 200; i++)); do
        (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null && return
        sleep 0.05
    done
    echo "nobody listens at $1"
}

# `served PORT CLIENT... -- SERVER...`: what the client says while the server runs, and how
# the server ends when it is asked to.
served() {
    local port=$1 client=()
    shift
    while [ "$1" != -- ]; do
        client+=("$1")
        shift
    done
    shift
    # (Not by `run`: the signal is for `timeout`, which hands it on, to the server only.)
    timeout --foreground --kill-after=5 120 "${under[@]}" "$@" >"$folder/server" 2>&1 &
    local server=$!
    listens "$port"
    "${client[@]}"
    echo "client: $?"
    kill -TERM "$server"
    wait "$server"
    echo "server: $?"
}

# Answers of a web server to many at once, without what differs from run to run.
ab_text() {
    ab -q -n 500 -c 4 "$1" 2>&1 |
        grep -E '^(Complete|Failed|Non-2xx|Document Length|HTML transferred|Server Port)'
}

sample() {
    [ -e "$work/sample" ] ||
        python3 -c 'import random, sys
r = random.Random(1)
sys.stdout.buffer.write(b"".join(r.choice(w) for w in [[b"alpha ", b"beta ", b"gamma\n", bytes([r.randrange(256)])] * 300000]))' >"$work/sample"
    echo "$work/sample"
}

case_xz() { run xz -T4 -1 --block-size=256KiB -kc "$(sample)" | sha256sum; }
case_zstd() { run zstd -T4 -5 -qkc "$(sample)" | sha256sum; }
case_pigz() { run pigz -p 4 -nkc "$(sample)" | sha256sum; }
case_lbzip2() { run lbzip2 -n 4 -kc "$(sample)" | sha256sum; }
case_pbzip2() { run pbzip2 -p4 -b2 -kc "$(sample)" | sha256sum; }
case_git() {
    git init -q "$folder/repo" && cd "$folder/repo" || return
    git config user.name a && git config user.email a@b && git config pack.threads 4
    split -b 20000 "$(sample)" part-
    git add . && GIT_AUTHOR_DATE=@0 GIT_COMMITTER_DATE=@0 git commit -qm a
    run git repack -adqf --threads=4 --window=20
    echo "$? $(git count-objects -v | grep in-pack)"
    run git index-pack --threads=4 .git/objects/pack/*.pack | wc -c
    git fsck --strict 2>&1 | tail -1
}
case_ffmpeg() {
    run ffmpeg -v error -threads 4 -f lavfi -i testsrc=s=160x120:d=2 -c:v mpeg4 -f md5 - 
}
case_sysbench_threads() {
    run sysbench threads --threads=64 --events=500 --time=0 run | grep -E 'total number|Number of'
}
case_sysbench_mutex() {
    run sysbench mutex --threads=32 --mutex-locks=2000 --mutex-loops=100 run |
        grep -E 'total number|Number of'
}
# (Says 3, now and then, where other work keeps its threads from starting: once more.)
stress() {
    local try said
    for try in $(seq 20); do
        said=$(stress_once "$@")
        [[ $said == *3 ]] || break
    done
    echo "$said"
}
stress_once() {
    run stress-ng --quiet --no-rand-seed --metrics-brief "--$1" 2 "--$1-ops" "$2" 2>&1 |
        grep -ciE 'error|fail'
    echo "${PIPESTATUS[0]}"
}
case_stress_pthread() { stress pthread 200; }
case_stress_mutex() { stress mutex 2000; }
case_stress_futex() { stress futex 2000; }
case_curl() {
    mkdir "$folder/www"
    local i urls=()
    for i in $(seq 40); do
        seq "$i" 5000 >"$folder/www/$i"
        urls+=("http://127.0.0.1:7811/$i")
    done
    python3 -m http.server -b 127.0.0.1 -d "$folder/www" 7811 >/dev/null 2>&1 &
    local server=$!
    listens 7811
    cd "$folder" && run curl -s --parallel --remote-name-all "${urls[@]}" 2>/dev/null
    echo "$? $(cat "$folder"/[0-9]* | sha256sum)"
    kill "$server"
}
case_wrk() {
    mkdir "$folder/www" && seq 1000 >"$folder/www/a"
    python3 -m http.server -b 127.0.0.1 -d "$folder/www" 7812 >/dev/null 2>&1 &
    local server=$!
    listens 7812
    run wrk -t4 -c20 -d1s http://127.0.0.1:7812/a | grep -oE 'Running 1s|4 threads and 20|Non-2xx'
    kill "$server"
}
case_http_server() {
    mkdir "$folder/www" && seq 1000 >"$folder/www/a"
    served 7813 ab_text http://127.0.0.1:7813/a -- \
        python3 -m http.server -b 127.0.0.1 -d "$folder/www" 7813
}
case_memcached() {
    served 7815 python3 -c '
import socket, threading
def client(n):
    f = socket.create_connection(("127.0.0.1", 7815)).makefile("rwb")
    for i in range(200):
        f.write(b"set %d-%d 0 0 5\r\nhello\r\nget %d-%d\r\n" % (n, i, n, i)); f.flush()
        assert [f.readline() for _ in range(4)][2] == b"hello\r\n"
all = [threading.Thread(target=client, args=(n,)) for n in range(50)]
for t in all: t.start()
for t in all: t.join()
print("right")' -- memcached -l 127.0.0.1 -p 7815 -U 0 -t 4 -u nobody
}
case_redis() {
    cd "$folder" && served 7816 redis-benchmark -p 7816 -n 5000 -c 50 -q -t ping --csv -- \
        redis-server --port 7816 --save "" | sed -E 's/"[0-9.]+"/N/g'
}
case_mosquitto() {
    cat >"$folder/client" <<'SH'
mosquitto_sub -p 7817 -t a -C 100 >"$1/got" & sleep 0.5
seq 100 | mosquitto_pub -p 7817 -t a -l -q 1
wait; sort -n "$1/got" | sha256sum
SH
    served 7817 bash "$folder/client" "$folder" -- mosquitto -p 7817
}
case_stunnel() {
    openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=a -keyout "$folder/key" \
        -out "$folder/cert" 2>/dev/null
    mkdir "$folder/www" && seq 2000 >"$folder/www/a"
    python3 -m http.server -b 127.0.0.1 -d "$folder/www" 7818 >/dev/null 2>&1 &
    local web=$!
    listens 7818
    printf '%s\n' foreground=yes pid= "cert=$folder/cert" "key=$folder/key" '[web]' \
        accept=127.0.0.1:7819 connect=127.0.0.1:7818 >"$folder/conf"
    served 7819 ab_text https://127.0.0.1:7819/a -- stunnel4 "$folder/conf"
    kill "$web"
}
case_haproxy() {
    mkdir "$folder/www" && seq 2000 >"$folder/www/a"
    python3 -m http.server -b 127.0.0.1 -d "$folder/www" 7820 >/dev/null 2>&1 &
    local web=$!
    listens 7820
    printf '%s\n' global 'nbthread 4' defaults 'mode http' 'timeout client 9s' \
        'timeout server 9s' 'timeout connect 9s' 'listen a' 'bind 127.0.0.1:7821' \
        'server b 127.0.0.1:7820' >"$folder/conf"
    served 7821 ab_text http://127.0.0.1:7821/a -- haproxy -db -f "$folder/conf"
    kill "$web"
}
case_nginx() {
    mkdir "$folder/www" && seq 2000 >"$folder/www/a"
    cat >"$folder/conf" <<CONF
daemon off; master_process off; pid $folder/pid; error_log $folder/log;
thread_pool p threads=8;
events {}
http { access_log off; aio threads=p; server { listen 127.0.0.1:7822; root $folder/www; } }
CONF
    served 7822 ab_text http://127.0.0.1:7822/a -- nginx -c "$folder/conf" -e "$folder/log"
}
case_dnsmasq() {
    cat >"$folder/client" <<'PY'
import socket, struct

question = b"".join(bytes([len(part)]) + part for part in [b"x", b"a", b"test", b""])
server = socket.create_connection(("127.0.0.1", 7823)).makefile("rwb")
for number in range(50):
    ask = struct.pack(">6H", number, 0x100, 1, 0, 0, 0) + question + b"\0\1\0\1"
    server.write(struct.pack(">H", len(ask)) + ask)
    server.flush()
    answer = server.read(*struct.unpack(">H", server.read(2)))
    assert answer[:2] == ask[:2] and answer[-4:] == bytes([10, 0, 0, 1]), answer
print("right")
PY
    served 7823 python3 "$folder/client" -- dnsmasq -k --no-resolv --no-hosts --port=7823 --listen-address=127.0.0.1 \
        --bind-interfaces --user="$(id -un)" --address=/a.test/10.0.0.1
}
case_ab() {
    mkdir "$folder/www" && seq 1000 >"$folder/www/a"
    python3 -m http.server -b 127.0.0.1 -d "$folder/www" 7824 >/dev/null 2>&1 &
    local server=$!
    listens 7824
    run ab -q -n 500 -c 20 http://127.0.0.1:7824/a 2>&1 | grep -E '^(Complete|Failed)'
    kill "$server"
}
case_memcached_load() {
    served 7825 bash -c 'memcaslap -s 127.0.0.1:7825 -T 2 -c 50 -x 20000 -v 1.0 |
        grep -E "^(cmd_|get_misses|verify_)"' -- memcached -l 127.0.0.1 -p 7825 -U 0 -t 4 -u nobody
}
# The answers to many at once, and what the application has counted.
web() {
    cat >"$folder/client" <<'SH'
ab -q -n 400 -c 16 "$1/" 2>&1 | grep -E '^(Complete|Failed|Non-2xx|Document L|HTML transferred)'
curl -s "$1/count"
SH
    served "$2" bash "$folder/client" "http://127.0.0.1:$2" -- \
        /usr/bin/python3 scripts/programs/web.py "$1" "$2"
}
case_flask() { web flask 7826; }
case_waitress() { web waitress 7827; }
case_slapd() {
    mkdir "$folder/data"
    cat >"$folder/conf" <<CONF
include /etc/ldap/schema/core.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile $folder/pid
threads 8
database mdb
suffix dc=a
rootdn cn=root,dc=a
rootpw secret
directory $folder/data
index cn eq
CONF
    cat >"$folder/client" <<'SH'
url=ldap://127.0.0.1:7828
as_root() { "$1" -x -H "$url" -D cn=root,dc=a -w secret; }
printf '%s\n' 'dn: dc=a' 'objectClass: organization' 'objectClass: dcObject' \
    'dc: a' 'o: a' | as_root ldapadd | sort
person() { printf '%s\n' "dn: cn=$1,dc=a" 'objectClass: person' "cn: $1" "sn: of $1" ''; }
for client in 1 2 3 4; do
    for i in $(seq 50); do person "$client-$i"; done | as_root ldapadd >"$1/added$client" &
done
wait
cat "$1"/added* | sort | sha256sum
for client in $(seq 8); do
    for i in 1 2 3 4 5; do
        ldapsearch -x -LLL -H "$url" -b dc=a "(cn=*-$client*)" sn | sort
        ldapsearch -x -LLL -H "$url" -b dc=a "(cn=2-$i)"
    done >"$1/found$client" &
done
wait
cat "$1"/found* | sha256sum
wc -l <"$1/found1"
SH
    served 7828 bash "$folder/client" "$folder" -- \
        slapd -h ldap://127.0.0.1:7828 -f "$folder/conf" -d 0
}
# (The process that answers is a fork of the one that starts, so plain: docs/RUN.md.)
case_varnish() {
    mkdir "$folder/www" && seq 2000 >"$folder/www/a"
    python3 -m http.server -b 127.0.0.1 -d "$folder/www" 7829 >/dev/null 2>&1 &
    local web=$!
    listens 7829
    served 7830 ab_text http://127.0.0.1:7830/a -- \
        varnishd -F -a 127.0.0.1:7830 -b 127.0.0.1:7829 -n "$folder/varnish" -s malloc,8m
    kill "$web"
}
case_java() {
    cp scripts/programs/Threads.java "$folder"
    cd "$folder" && run java Threads.java
    echo "$?"
}

# A database of its own in $folder, which answers at its socket.
mariadb_start() {
    local options=(--no-defaults "--datadir=$folder/data" "--tmpdir=$folder/tmp"
        "--socket=$folder/socket" "--pid-file=$folder/pid" "--log-error=$folder/log.err"
        --skip-networking --skip-grant-tables --user=root) i
    mkdir -p "$folder/data" "$folder/tmp"
    "${under[@]}" mariadbd "${options[@]}" >/dev/null 2>&1 &
    database=$!
    for ((i = 0; i < 1800; i++)); do
        ask "select 1" >/dev/null 2>&1 && return
        kill -0 "$database" 2>/dev/null || break
        sleep 0.05
    done
    echo "MariaDB does not start: $(tail -n 20 "$folder/log.err")"
    exit 1
}
ask() { mariadb --no-defaults --batch --skip-column-names "--socket=$folder/socket" -e "$1"; }
mariadb_end() {
    kill -TERM "$database"
    wait "$database"
    echo "server: $?"
}
# `load WHAT ACTION OPTIONS...`: sysbench against it.
load() {
    local tables=()
    [[ $1 != oltp* ]] || tables=(--tables=2 --table-size=2000)
    sysbench "$1" "--mysql-socket=$folder/socket" --mysql-user=root --mysql-db=d --time=0 \
        --report-interval=0 "${tables[@]}" "${@:3}" "$2" 2>&1
}
# Whether the tables are whole, with as many rows and as much money as there has to be.
right() {
    ask "check table d.sbtest1, d.sbtest2, d.account extended;
        select (select count(*) from d.sbtest1) + (select count(*) from d.sbtest2);
        select count(*), sum(money) from d.account"
}
case_mariadb_sysbench() {
    mariadb_start
    ask "create database d"
    load oltp_read_write prepare | grep -c Creating
    load scripts/programs/transfer.lua prepare | grep FATAL
    load oltp_read_write run --threads=16 --events=1000 --mysql-ignore-errors=1213,1205,1062 |
        grep -E 'total number of events|FATAL'
    load oltp_insert run --threads=16 --events=500 | grep -E 'total number of events|FATAL'
    load scripts/programs/transfer.lua run --threads=32 --events=2000 |
        grep -E 'total number of events|FATAL'
    right
    mariadb_end
}
case_mariadb_kill() {
    mariadb_start
    ask "create database d"
    load oltp_read_write prepare | grep -c Creating
    load scripts/programs/transfer.lua prepare | grep FATAL
    # (What it makes at its first start it does not recover.)
    mariadb_end
    mariadb_start
    local round
    for round in 1 2 3; do
        load oltp_read_write run --threads=16 --time=60 --events=0 >/dev/null &
        load scripts/programs/transfer.lua run --threads=16 --time=60 --events=0 >/dev/null &
        sleep 2
        # Under `crore run` it is the same process.
        kill -KILL "$database"
        wait 2>/dev/null
        mariadb_start
        grep -c 'Starting crash recovery' "$folder/log.err"
        right
    done
    mariadb_end
}

# CPython's own tests: how many ran, and which failed.
cpython() {
    local limit=900
    cd "$folder" && run /usr/bin/python3 -m test -v "$@" >"$folder/said" 2>&1
    echo "$?"
    grep -E '^(FAIL|ERROR):|^Total tests:' "$folder/said"
}
case_python_queue() { cpython test_queue; }
case_python_threading() { cpython test_threading test_threading_local; }
# (VSOCK's waits for a host that may not be there.)
case_python_socket() { cpython test_socket -i 'test.test_socket.ThreadedVSOCKSocketStreamTest.*'; }
# The one left out has a thread that computes for ever: docs/RUN.md.
case_python_futures() { cpython test_concurrent_futures -i test_hang_global_shutdown_lock; }

get_packages
profile=${PROFILE:-release}
cargo build -q -p crore-run --profile "$profile" &&
    cargo build -q --manifest-path crates/run/preload/Cargo.toml --profile "$profile" || exit 1
crore=$(realpath -m "${CARGO_TARGET_DIR:-target}")/${profile/dev/debug}/crore
names=("$@")
if [ $# -eq 0 ]; then
    while read -r name; do names+=("${name#case_}"); done < <(compgen -A function case_)
fi

# What a case says, and in how many seconds.
told() {
    folder=$work/$RANDOM-$RANDOM
    mkdir "$folder"
    local begun=$EPOCHREALTIME
    (set +m; "case_$1" 2>&1)
    rm -rf "$folder"
    echo "seconds: $(echo "$EPOCHREALTIME - $begun" | bc)" >"$work/seconds"
}

failed=0
printf '| program | plain, s | crore run, s | |\n|---|---|---|---|\n'
for name in "${names[@]}"; do
    under=()
    told "$name" >"$work/plain"
    plain=$(sed 's/seconds: //' "$work/seconds")
    verdict="the same"
    for ((round = 0; round < ${ROUNDS:-1}; round++)); do
        under=("$crore" run --workers "${WORKERS:-1}" --)
        told "$name" >"$work/ours"
        ours=$(sed 's/seconds: //' "$work/seconds")
        if ! diff "$work/plain" "$work/ours" >"$work/difference"; then
            verdict="differs"
            [[ $known == *" $name "* ]] || failed=1
            sed "s/^/$name: /" "$work/difference" >&2
        fi
    done
    printf '| %s | %.2f | %.2f | %s |\n' "$name" "$plain" "$ours" "$verdict"
done
exit "$failed"
