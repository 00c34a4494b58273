#!/bin/bash
# Shows that src/supported.rs refuses the systems that it should, and no other.
#
# It is compiled by itself, without even core, so no target's std has to be there:
# RUSTC_BOOTSTRAP lets a stable compiler declare `compile_error!` for that.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
{
    echo '#![feature(no_core, rustc_attrs)] #![no_core] #![allow(internal_features)]'
    echo '#[rustc_builtin_macro] macro_rules! compile_error { ($message:expr $(,)?) => {}; }'
    grep -v '^//!' src/supported.rs
} >"$work/alone.rs"

# What the compiler says of TARGET with the given options: "ok", or its sentence.
answer() {
    local target=$1
    shift
    if RUSTC_BOOTSTRAP=1 rustc --edition 2024 --crate-type lib --emit metadata --out-dir "$work" \
        --target "$target" "$@" "$work/alone.rs" 2>"$work/said"; then
        echo ok
    else
        grep -m1 '^error' "$work/said"
    fi
}

expect() {
    local wanted=$1 said
    shift
    said=$(answer "$@")
    case $said in
        *"$wanted"*) echo "$*: $said" ;;
        *) echo "$*: \"$said\" instead of \"$wanted\"" >&2 && cat "$work/said" >&2 && exit 1 ;;
    esac
}

hook='feature="hook"'
for target in x86_64-unknown-linux-gnu aarch64-unknown-linux-gnu; do
    expect ok "$target" --cfg "$hook"
    expect ok "$target"
done
expect ok x86_64-unknown-linux-musl
expect 'glibc' x86_64-unknown-linux-musl --cfg "$hook"
for target in x86_64-apple-darwin x86_64-pc-windows-gnu x86_64-unknown-freebsd \
    riscv64gc-unknown-linux-gnu i686-unknown-linux-gnu x86_64-unknown-linux-gnux32 aarch64-linux-android; do
    expect 'Linux only' "$target" --cfg "$hook"
done
