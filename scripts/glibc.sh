#!/bin/bash
# The tests with the libc of another release of the distribution, in a chroot. Where that
# libc is older than ours they are built inside, by our toolchain; where it is younger, the
# programs that are built here run there. Wants root, debootstrap, and every crate of
# Cargo.lock downloaded (`cargo fetch`).
#
#   scripts/glibc.sh                    Debian 11, 12, 13 and sid: glibc 2.31 to the youngest
#   scripts/glibc.sh SUITE              that one
#   scripts/glibc.sh SUITE ARGS...      `cargo test ARGS` in it
#   scripts/glibc.sh --or-skip SUITE ARGS...
#                                       where no chroot can be made says so, and does nothing
#
# MIRROR says where the packages come from, if not from where apt has its own.
# A test of what that libc lacks then returns, and says so ("skipped: …"): listed after each.
# About 10 minutes a release on two cores, a chroot one of them; one that is there is used again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
target=$(cargo metadata --format-version 1 --no-deps | python3 -c '
import json, sys
print(json.load(sys.stdin)["target_directory"])')
toolchain=$(rustc --print sysroot)
cargo_home=${CARGO_HOME-$HOME/.cargo}
# Names and lines are what is read of reports.
export CARGO_PROFILE_DEV_DEBUG=1 CARGO_INCREMENTAL=0

root_of() { echo "$target/glibc/$1"; }

# What a system lacks that can have no chroot; nothing if it can.
lacking() {
    if [ "$(id -u)" -ne 0 ]; then
        echo "not root"
    elif ! unshare --mount true 2>/dev/null; then
        echo "no mounts of one's own (unshare --mount)"
    elif ! command -v debootstrap >/dev/null; then
        echo "no debootstrap"
    fi
}

# Makes the chroot if it is not there. Where none can be made the status is 3.
make_root() {
    local suite=$1 root mirror lacking
    root=$(root_of "$suite")
    [ ! -d "$root" ] || return 0
    lacking=$(lacking)
    [ -z "$lacking" ] || { echo "no chroot of $suite: $lacking" >&2; return 3; }
    mirror=${MIRROR-$(apt-get indextargets --format '$(REPO_URI)' | grep -v security | head -n 1)}
    rm -rf "$root.new"
    mkdir -p "$(dirname "$root")"
    # The tests compile C, and look for hosts, users and services.
    if ! debootstrap --variant=minbase --include=gcc,libc6-dev,netbase \
        "$suite" "$root.new" "$mirror" >"$root.log" 2>&1; then
        tail -n 20 "$root.log" >&2
        grep -qE 'Failed getting release file|Couldn.t download' "$root.log" || return 1
        echo "no chroot of $suite: $mirror can't be reached" >&2
        return 3
    fi
    mv "$root.new" "$root"
}

# Runs a program in the chroot, where this folder, the toolchain and what is built are where
# they are here. The mounts end with it.
inside() {
    local root
    root=$(root_of "$1")
    shift
    # shellcheck disable=SC2016
    root=$root target=$target toolchain=$toolchain cargo_home=$cargo_home \
        unshare --mount bash -ec '
        bind() { mkdir -p "$root$1"; mount --rbind "$1" "$root$1"; }
        for folder in /proc /sys /dev; do bind "$folder"; done
        mount -t tmpfs none "$root/tmp"
        for folder in "$PWD" "$toolchain" "$cargo_home"; do bind "$folder"; done
        case $target/ in "$PWD"/*) ;; *) bind "$target" ;; esac
        printf "127.0.0.1 localhost\n::1 localhost\n" >"$root/etc/hosts"
        exec chroot "$root" /bin/sh -c "cd \"\$1\"; shift; exec \"\$@\"" sh "$PWD" "$@"
    ' bash "$@"
}

version_inside() {
    local said
    said=$(inside "$1" ldd --version)
    said=${said%%$'\n'*}
    echo "${said##* }"
}

# `cargo test` with its arguments, built in the chroot.
built_inside() {
    local suite=$1
    shift
    inside "$suite" env -i PATH="$toolchain/bin:/usr/bin:/bin" HOME=/root CARGO_HOME="$cargo_home" \
        CARGO_TARGET_DIR=/build CARGO_NET_OFFLINE=true RUST_BACKTRACE=1 \
        CARGO_PROFILE_DEV_DEBUG=$CARGO_PROFILE_DEV_DEBUG CARGO_INCREMENTAL=0 cargo test "$@"
}

# The same, built here: cargo runs each program by way of this script.
built_here() {
    local suite=$1 host
    shift
    host=$(rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')
    env "CARGO_TARGET_${host}_RUNNER=$PWD/scripts/glibc.sh --inside $suite" cargo test "$@"
}

test_in() {
    local suite=$1 version ours how what skip=()
    shift
    make_root "$suite" || return
    version=$(version_inside "$suite")
    ours=$(ldd --version | sed -n '1s/.* //p')
    how=built_here
    [ "$(printf '%s\n' "$version" "$ours" | sort -V | head -n 1)" = "$ours" ] || how=built_inside
    echo "$suite: glibc $version (ours is $ours), $how"
    if [ $# -gt 0 ]; then
        "$how" "$suite" "$@"
        return
    fi
    local tests=('--lib' '--test hook' '--test locks' '--test runtime' '--test faults')
    if [ "$(printf '%s\n' "$version" 2.34 | sort -V | head -n 1)" = 2.34 ]; then
        tests+=('--test own_locals' '--test threads')
    else
        skip=(--skip sys::tls::)
        echo "skipped: own_locals, threads, sys::tls: glibc $version, where own thread-locals are refused"
    fi
    for what in "${tests[@]}"; do
        # shellcheck disable=SC2086
        timeout 1800 bash "$0" "$suite" $what -- --nocapture "${skip[@]}" >"$said" 2>&1 || {
            grep -aE '^test .* FAILED' "$said" || tail -n 50 "$said"
            echo "$suite: cargo test $what: FAILED" >&2
            return 1
        }
        # (Its children say theirs before.)
        echo "$suite: cargo test $what: $(grep -aoE 'ok\. [0-9]+ passed.* ignored' "$said" | tail -n 1)"
        # (None is fine.)
        grep -aoE 'skipped: .*' "$said" | sort | uniq -c || true
    done
}

said=$(mktemp)
trap 'rm -f "$said"' EXIT
case ${1-} in
    '')
        for suite in bullseye bookworm trixie sid; do
            test_in "$suite"
        done
        ;;
    --inside) shift; inside "$@" ;;
    --or-skip)
        shift
        status=0
        make_root "$1" || status=$?
        [ "$status" -ne 3 ] || { echo "skipped: cargo test ${*:2} with the libc of $1"; exit 0; }
        [ "$status" -eq 0 ]
        test_in "$@"
        ;;
    *) test_in "$@" ;;
esac
