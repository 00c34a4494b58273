#!/bin/bash
# Checks the library with the oldest Rust that Cargo.toml claims (`rust-version`).
#
# Takes that toolchain from rustup if it is there, else Debian's rustc-web of the
# same version, unpacked under target/msrv (about 90 MB once), not installed.
# Dev-dependencies may ask for a newer Rust, so examples and tests are not built.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
version=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
work=$PWD/target/msrv
root=$work/$version

from_rustup() {
    local toolchain
    toolchain=$(rustup toolchain list 2>/dev/null | grep -m1 -oE "^$version(\.[0-9]+)?-\S+") || return 1
    rustup which --toolchain "$toolchain" rustc
}

debian_version() {
    apt-cache madison rustc-web | awk '{print $3}' | grep -m1 "^$version\."
}

# Prints the path of a rustc that finds the libraries of its own package.
from_debian() {
    if [ ! -x "$root/rustc" ]; then
        local full package
        full=$(debian_version || { apt-get update -q >&2 && debian_version; }) || return 1
        rm -rf "$root" && mkdir -p "$root/packages"
        (
            cd "$root/packages"
            apt-get download -q "rustc-web=$full" "libstd-rust-web-dev=$full" \
                "libstd-rust-web-$version=$full" \
                "$(apt-cache depends "rustc-web=$full" "libstd-rust-web-$version=$full" | grep -m1 -oE 'libllvm[0-9]+')"
        ) >&2
        for package in "$root"/packages/*.deb; do
            dpkg-deb -x "$package" "$root"
        done
        rm -r "$root/packages"
        {
            echo '#!/bin/sh'
            echo "LD_LIBRARY_PATH='$root/usr/lib/x86_64-linux-gnu' exec '$root/usr/bin/rustc' \"\$@\""
        } >"$root/rustc"
        chmod +x "$root/rustc"
    fi
    echo "$root/rustc"
}

RUSTC=$(from_rustup || from_debian) || {
    echo "no Rust $version: neither rustup nor Debian's rustc-web has it" >&2
    exit 1
}
export RUSTC CARGO_TARGET_DIR=$work/build RUSTFLAGS="-D warnings"
"$RUSTC" --version
cargo check --lib
cargo check --lib --no-default-features
