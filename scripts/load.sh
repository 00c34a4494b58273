#!/bin/bash
# Ten thousand echo connections that talk, pause, close, reset and come again;
# every byte is checked; errors must be 0, memory and descriptors flat:
# scripts/load.sh [SECONDS, default 600 [CONNECTIONS, default 10000]]
#
# What slow readers and a stopped client process cost all others:
# scripts/load.sh disturbed [SECONDS, default 120]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec cargo run --release -p crore-benches --bin load -- "$@"
