#!/bin/bash
# crore beside its peers, in one go: switches, spawns, messages, timers, memory,
# echo servers, one request at a time and many; then the plots. Writes target/peers/results.json and docs/plots.
# Arguments as in benches/peers/src/bin/peers/options.rs:
#
#   scripts/peers.sh                              all of it, about 25 minutes, 5 GB
#   scripts/peers.sh work --only yield            a part of it
#   scripts/peers.sh echo,plots --connections 100 other parts are kept from the last run
#
# Go takes part where `go` is there, system calls are counted where strace is.
# libco and Photon take part where their subjects are named: benches/cpp has the
# sources, to be built with the library's headers and linked with it.
#
#   LIBCO=subject_libco PHOTON=subject_photon scripts/peers.sh    half an hour, 13 GB
set -euo pipefail
[ -z "${LIBCO-}" ] || LIBCO=$(realpath "$LIBCO")
[ -z "${PHOTON-}" ] || PHOTON=$(realpath "$PHOTON")
cd "$(dirname "${BASH_SOURCE[0]}")/.."
mkdir -p target/peers
guests=()
if command -v go >/dev/null; then
    (cd benches/go && go build -o ../../target/peers/subject_go .)
    guests+=(--go target/peers/subject_go)
fi
[ -z "${LIBCO-}" ] || guests+=(--libco "$LIBCO")
[ -z "${PHOTON-}" ] || guests+=(--photon "$PHOTON")
# What crore is compared with is built without it; see benches/peers.
cargo build --release -p crore-benches --bin subject_crore -p crore-peers --bins
exec target/release/peers "$@" --plots docs/plots "${guests[@]}"
