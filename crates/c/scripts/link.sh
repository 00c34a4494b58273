#!/bin/bash
# Makes the libraries that C programs link with from what cargo has built.
#
#   crates/c/scripts/link.sh BUILT OUT    BUILT has libcrore_c.a and libcrore_c.so
#
# rustc gives a cdylib a version script of its own and no soname, and its archive shows
# all of Rust's symbols. So the archive becomes one object (a program that uses any of it
# gets all hooks) of which only the functions of the headers and the hooks can be seen.
set -euo pipefail
built=$1 out=$2
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$out"
nm -D --defined-only "$built/libcrore_c.so" | awk '{ print $3 }' | sort >"$work/exports"
grep -q '^crore_run$' "$work/exports"
grep -q '^read$' "$work/exports"
ld -r --whole-archive "$built/libcrore_c.a" -o "$work/all.o"
# (std's bitcode, joined, is none any more.)
objcopy --remove-section=.llvmbc --remove-section=.llvmcmd \
    --keep-global-symbols="$work/exports" "$work/all.o" "$work/crore.o"
rm -f "$out/libcrore.a"
ar rcs "$out/libcrore.a" "$work/crore.o"
# Where a sanitizer is told of switches it stands before us, for what we call, too.
symbolic=-Wl,-Bsymbolic
nm -u "$work/crore.o" >"$work/undefined"
! grep -q __sanitizer_ "$work/undefined" || symbolic=
cc -shared -o "$out/libcrore.so.0" "$work/crore.o" \
    -Wl,--version-script="$here/crore.map" -Wl,-soname,libcrore.so.0 ${symbolic:+"$symbolic"} \
    -Wl,--gc-sections -lgcc_s -lpthread -ldl -lm
ln -sf libcrore.so.0 "$out/libcrore.so"
