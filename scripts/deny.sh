#!/bin/bash
# Checks licences, bans and sources of the dependencies against deny.toml.
# Installs cargo-deny where it is missing: about four minutes of processor time, once.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
command -v cargo-deny >/dev/null || cargo install -q cargo-deny --locked
cargo deny --workspace check licenses bans sources
