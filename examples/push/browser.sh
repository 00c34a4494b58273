#!/bin/bash
# The page in a real browser (chromium; redis-server and haproxy are needed as well, all
# from Debian): two windows chat through a cluster, one loses its connection, a node dies.
# With a folder as argument it writes pictures there:
#
#   examples/push/browser.sh docs/plots
set -euo pipefail
folder=$(realpath "${1:-.}")
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
[ $# -eq 0 ] || export CRORE_PUSH_PICTURES=$folder
exec cargo test -p crore-push --test browser -- --ignored --nocapture
