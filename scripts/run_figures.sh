#!/bin/bash
# Measures programs under `crore run` beside themselves, run plainly, in turn: writes
# target/run_figures.json and docs/plots/threads.svg, and prints the tables of
# docs/MEASURED.md.
#
#   scripts/run_figures.sh                      all parts, about 15 minutes
#   scripts/run_figures.sh sleepers echo        these: sleepers echo http memcached mariadb
#   ROUNDS=5 SECONDS_EACH=5 scripts/run_figures.sh   (3 rounds of 3 seconds)
#
# The server has the first processor and the load the second. *Busy* is the processors' share
# that the server used: where it is much less than 1 it waited for its clients, and where the
# machine has other work, only processor time is to be believed. Wants mariadb-server, sysbench,
# memcached, wrk and python3 where it measures those, and Go for its echo server: golang-go, which
# it gets itself if it may.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
unset CARGO_TARGET_DIR
work=target/run_figures
mkdir -p "$work"
cargo build -q --release -p crore-run --bin crore --example echo_linked
cargo build -q --release -p crore-benches --bin subject_crore -p crore-peers --bins
for program in sleepers echo load; do
    cc -Wall -O2 -pthread "crates/run/figures/$program.c" -o "$work/$program"
done
rustc --edition 2024 -O crates/run/figures/echo.rs -o "$work/echo_rust"
has_go() { command -v go >/dev/null; }
if ! has_go && [ "$(id -u)" -eq 0 ]; then
    apt-get update -q >&2 && apt-get install -qy --no-install-recommends golang-go >&2 || true
fi
rm -f "$work/echo_go"
if has_go; then
    go build -o "$work/echo_go" crates/run/figures/echo.go
else
    echo "Go is not measured: it is not there, and can't be installed" >&2
fi
python3 crates/run/figures/figures.py "$work" "$@"
target/release/peers threads --plots docs/plots
