#!/bin/sh
# SPDX-License-Identifier: MIT
# usage: run.sh BUILD_DIR
# Install, move the tree, and build and run consumers in C and C++: pkg-config and find_package,
# shared and static. CMAKE, CC, CXX, LIBDIR and VERSION come from the test's environment.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
build=$1
work=$(mktemp -d "${TMPDIR:-/tmp}/numaperf-install.XXXXXX")
trap 'rm -rf "$work"' EXIT

fail() {
    echo "FAILED: $*" >&2
    exit 1
}
# expect WHAT COMMAND...: the program's output is the version and two nodes.
expect() {
    what=$1
    shift
    out=$("$@") || fail "$what: exit status $?"
    [ "$out" = "$VERSION 2" ] || fail "$what: printed '$out', not '$VERSION 2'"
    echo "ok: $what"
}

DESTDIR='' "$CMAKE" --install "$build" --prefix "$work/first" > "$work/log" || fail "cmake --install: $(cat "$work/log")"
mv "$work/first" "$work/moved"
prefix=$work/moved
lib=$prefix/$LIBDIR
[ -L "$lib/libnumaperf.so" ] || fail "no libnumaperf.so link"
[ -f "$lib/libnumaperf.a" ] || fail "no libnumaperf.a"
[ -f "$prefix/share/numaperf/attestation.schema.json" ] || fail "no schema of the attestation"
if grep -rlF -e "$work/first" -e "$build" "$lib/cmake" "$lib/pkgconfig" "$prefix/include"; then
    fail "the files above hold the path they were installed to or built in"
fi
case $(objdump -p "$lib/libnumaperf.so") in
*RUNPATH* | *RPATH*) fail "the library has a run path" ;;
*"SONAME               libnumaperf.so.${VERSION%%.*}"*) ;;
*) fail "the SONAME is not libnumaperf.so.${VERSION%%.*}" ;;
esac

# ---- pkg-config ----

PKG_CONFIG_PATH=$lib/pkgconfig
export PKG_CONFIG_PATH
[ "$(pkg-config --modversion numaperf)" = "$VERSION" ] || fail "pkg-config --modversion"
for need in -luv -luring -lhwloc -ljansson; do
    case " $(pkg-config --libs numaperf) " in
    *" $need "*) fail "a user of the shared library is told to link $need" ;;
    esac
    case " $(pkg-config --static --libs numaperf) " in
    *" $need "*) ;;
    *) fail "pkg-config --static lacks $need" ;;
    esac
done
for kind in numaperf numaperf-static; do
    # A user's own strict warnings must not trip over our headers.
    # shellcheck disable=SC2046 # words are meant to split
    $CC -std=c11 -Wall -Wextra -Wpedantic -Werror -o "$work/c" "$here/consumer.c" $(pkg-config --cflags --libs $kind)
    # shellcheck disable=SC2046
    $CXX -std=c++11 -Wall -Wextra -Wpedantic -Werror -o "$work/cpp" "$here/consumer.cpp" $(pkg-config --cflags --libs $kind)
    if [ $kind = numaperf-static ]; then
        expect "$kind, C" "$work/c"
        expect "$kind, C++" "$work/cpp"
    else
        expect "$kind, C" env LD_LIBRARY_PATH="$lib" "$work/c"
        expect "$kind, C++" env LD_LIBRARY_PATH="$lib" "$work/cpp"
    fi
done

# ---- find_package ----

for kind in '' shared static; do
    dir=$work/cmake-${kind:-default}
    {
        "$CMAKE" -S "$here/consumer" -B "$dir" -DKIND="$kind" -DCMAKE_PREFIX_PATH="$prefix" \
            -DCMAKE_C_COMPILER="$CC" -DCMAKE_CXX_COMPILER="$CXX" &&
            "$CMAKE" --build "$dir" --verbose
    } > "$work/log" 2>&1 || fail "find_package ${kind:-default}: $(cat "$work/log")"
    if grep -q -e -Werror "$dir/CMakeCache.txt" "$work/log"; then
        fail "our warning flags reached a consumer"
    fi
    case $(objdump -p "$dir/consumer_c") in
    *"NEEDED               libnumaperf.so"*) [ "$kind" != static ] || fail "static consumer needs libnumaperf.so" ;;
    *) [ "$kind" = static ] || fail "shared consumer does not need libnumaperf.so" ;;
    esac
    expect "find_package ${kind:-default}, C" "$dir/consumer_c"
    expect "find_package ${kind:-default}, C++" "$dir/consumer_cpp"
done
if "$CMAKE" -S "$here/consumer" -B "$work/bad" -DKIND=nonsense -DCMAKE_PREFIX_PATH="$prefix" > "$work/log" 2>&1; then
    fail "find_package accepted a component that does not exist"
fi
echo "ok: an unknown component is refused"
