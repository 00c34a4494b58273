#!/bin/bash
# The quick checks, before a commit: format, lints, the shape of the sources, the
# documentation and its examples. About a minute when little has changed; .ci/run does
# the rest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
set -x
cargo fmt --all --check
cargo clippy -q --all-targets -- -D warnings
cargo clippy -q --all-targets --no-default-features -- -D warnings
cargo test -q --test tidy
RUSTDOCFLAGS="-D warnings" cargo doc -q --no-deps
cargo test -q --doc
