#!/bin/bash
# The tests of hooks, locks, runtimes and faults with the libc of another release of the
# distribution: builds and runs them inside of a chroot with our toolchain. Wants
# root, debootstrap, and every crate of Cargo.lock downloaded (`cargo fetch`).
#
#   scripts/glibc.sh                    Debian 11, glibc 2.31
#   scripts/glibc.sh SUITE              another suite
#   scripts/glibc.sh SUITE ARGS...      `cargo test ARGS` in it
#
# MIRROR says where the packages come from, if not from where apt has its own.
# Not run: the tests of own thread-locals, which are refused before glibc 2.34.
# About 10 minutes on two cores; a chroot that is there is used again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
suite=${1-bullseye}
[ $# -eq 0 ] || shift
root=$PWD/target/glibc/$suite

make_root() {
    local mirror=${MIRROR-$(apt-get indextargets --format '$(REPO_URI)' | head -n 1)}
    rm -rf "$root.new"
    mkdir -p "$(dirname "$root")"
    # The tests compile C and C++, and look for hosts, users and services.
    debootstrap --variant=minbase --include=gcc,g++,libc6-dev,netbase \
        "$suite" "$root.new" "$mirror" > "$root.log" || { tail -n 20 "$root.log" >&2; exit 1; }
    mv "$root.new" "$root"
}

# Runs a command line in the chroot, with this folder as /crore. The mounts end with it.
inside() {
    local toolchain cargo_home
    toolchain=$(rustc --print sysroot)
    cargo_home=${CARGO_HOME-$HOME/.cargo}
    mkdir -p "$root"/{crore,toolchain,cargo,build}
    # shellcheck disable=SC2016
    root=$root toolchain=$toolchain cargo_home=$cargo_home unshare --mount bash -ec '
        for folder in proc sys dev; do mount --rbind "/$folder" "$root/$folder"; done
        mount -t tmpfs none "$root/tmp"
        mount --bind . "$root/crore"
        mount --bind "$toolchain" "$root/toolchain"
        mount --bind "$cargo_home" "$root/cargo"
        printf "127.0.0.1 localhost\n::1 localhost\n" > "$root/etc/hosts"
        exec chroot "$root" env -i PATH=/toolchain/bin:/usr/bin:/bin HOME=/root \
            CARGO_HOME=/cargo CARGO_TARGET_DIR=/build CARGO_NET_OFFLINE=true \
            RUST_BACKTRACE=1 sh -ec "cd /crore; $1"
    ' bash "$1"
}

[ -d "$root" ] || make_root
version=$(inside 'ldd --version')
echo "inside of $suite: ${version%%$'\n'*}"
if [ $# -gt 0 ]; then
    inside "cargo test $(printf '%q ' "$@")"
else
    for what in '--lib' '--test hook' '--test locks' '--test runtime' '--test faults'; do
        inside "timeout 1200 cargo test $what -- --skip sys::tls::"
        echo "inside of $suite: cargo test $what: passed"
    done
fi
