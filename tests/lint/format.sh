#!/bin/sh
# SPDX-License-Identifier: MIT
# usage: format.sh [ROOT]
# Every C and C++ file is as clang-format 14 writes it. Other versions write a few things otherwise,
# so without that one this is skipped.
set -eu
cd "${1:-$(dirname "$0")/../..}"
tool=
for candidate in clang-format-14 clang-format; do
    if "$candidate" --version 2> /dev/null | grep -q 'version 14\.'; then
        tool=$candidate
        break
    fi
done
if [ -z "$tool" ]; then
    echo "SKIP: clang-format 14 is not installed"
    exit 77
fi
files=$(find include runtime examples tests -name '*.[ch]' -o -name '*.cpp' | sort)
[ -n "$files" ] || { echo "no source files"; exit 1; }
echo "$files" | xargs "$tool" --dry-run -Werror
echo "clang-format: $(echo "$files" | wc -l) files as they should be"
