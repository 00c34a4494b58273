#!/bin/bash
# The crate as it is published: packs it, unpacks it elsewhere, and runs those of
# its tests there that read files of the package (the corpora and the pages).
# scripts/package.sh --all runs all of them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
case ${1-} in
    '' | --all) ;;
    *) echo "usage: scripts/package.sh [--all]" >&2; exit 2 ;;
esac
target=$PWD/target/package-tests
CARGO_TARGET_DIR=$target cargo package -q --no-verify --allow-dirty
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
# Files as new as they are here: else cargo takes what an earlier run has built for theirs.
tar -xzmf "$target"/package/crore-*.crate -C "$folder" --strip-components 1
cd "$folder"
export CARGO_TARGET_DIR=$target
if [ "${1-}" = --all ]; then
    timeout 1200 cargo test
    exit
fi
timeout 600 cargo test -q --lib corpus
timeout 600 cargo test -q --test models
timeout 600 cargo test -q --doc
