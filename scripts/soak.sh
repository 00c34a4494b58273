#!/bin/bash
# Random spawns, wakes, cancels and drops over four workers; then all counts
# must balance and memory must have stayed flat:
# scripts/soak.sh [SECONDS, default 600 [SEED, default 1]]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec cargo run --release -p crore-benches --bin soak -- "$@"
