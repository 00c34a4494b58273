#!/bin/bash
# Checks licences, bans and sources of the dependencies against deny.toml.
# Installs cargo-deny where it is missing: a minute and a half of processor time, once.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# It runs for a second: to optimise it takes longer than that saves.
command -v cargo-deny >/dev/null || cargo install -q cargo-deny --locked --debug
cargo deny --workspace check licenses bans sources
