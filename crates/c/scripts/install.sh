#!/bin/bash
# Builds the library for C and C++ and installs it: lib/libcrore.so.0, lib/libcrore.a,
# include/, lib/pkgconfig/crore.pc, lib/cmake/crore/.
#
#   crates/c/scripts/install.sh PREFIX [CARGO OPTIONS]
#   crates/c/scripts/install.sh /usr/local --features valgrind
set -euo pipefail
[ $# -ge 1 ] || { echo "usage: $0 PREFIX [CARGO OPTIONS]" >&2; exit 2; }
mkdir -p "$1"
prefix=$(cd "$1" && pwd)
shift
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$here"
built=${CRORE_C_BUILT:-}
if [ -z "$built" ]; then
    cargo build --release -p crore-c "$@"
    built=${CARGO_TARGET_DIR:-$here/../../target}/release
fi
scripts/link.sh "$built" "$prefix/lib"
mkdir -p "$prefix/include" "$prefix/lib/pkgconfig" "$prefix/lib/cmake/crore"
cp -r include/. "$prefix/include/"
cp croreConfig.cmake "$prefix/lib/cmake/crore/"
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
sed "s|@PREFIX@|$prefix|; s|@VERSION@|$version|" crore.pc.in >"$prefix/lib/pkgconfig/crore.pc"
