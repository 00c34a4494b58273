#!/bin/bash
# Runs the programs that once showed a fault (tests/cases, tests/loaded), each in a
# process of its own, in release as measured; with --debug in debug, too.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
case ${1-} in
    '') ;;
    --debug) timeout 1200 cargo test -p crore-cases -p crore-loaded ;;
    *) echo "usage: scripts/cases.sh [--debug]" >&2; exit 2 ;;
esac
timeout 1200 cargo test --release -p crore-cases -p crore-loaded
