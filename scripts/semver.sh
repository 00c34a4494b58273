#!/bin/bash
# Compares the public API with that of the last release (the newest tag v*), and
# fails where the version in Cargo.toml promises more than the change keeps.
# Installs cargo-semver-checks where it is missing: about ten minutes of processor
# time, so this is a step of a release (docs/RELEASE.md), not of .ci/run.
#
#   scripts/semver.sh          against the newest tag
#   scripts/semver.sh COMMIT   against any commit
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
baseline=${1-$(git tag --list 'v*' --sort=-version:refname | head -n 1)}
if [ -z "$baseline" ]; then
    echo "no release to compare with: there is no tag v*" >&2
    exit 1
fi
command -v cargo-semver-checks >/dev/null || cargo install -q cargo-semver-checks --locked
echo "against $baseline"
cargo semver-checks --package crore --baseline-rev "$baseline"
