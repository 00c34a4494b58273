#!/bin/bash
# crore beside its peers, in one go: switches, spawns, messages, timers, memory,
# echo servers; then the plots. Writes target/peers/results.json and docs/plots.
# Arguments as in benches/peers/src/bin/peers/options.rs:
#
#   scripts/peers.sh                              all of it, about 20 minutes
#   scripts/peers.sh work --only yield            a part of it
#   scripts/peers.sh echo,plots --connections 100 other parts are kept from the last run
#
# Go takes part where `go` is there, system calls are counted where strace is.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
go=()
if command -v go >/dev/null; then
    mkdir -p target/peers
    (cd benches/go && go build -o ../../target/peers/subject_go .)
    go=(--go target/peers/subject_go)
fi
# What crore is compared with is built without it; see benches/peers.
cargo build --release -p crore-benches --bin subject_crore -p crore-peers --bins
exec target/release/peers "$@" --plots docs/plots "${go[@]}"
