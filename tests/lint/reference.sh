#!/bin/sh
# SPDX-License-Identifier: MIT
# usage: reference.sh BUILD_DIRECTORY
# The reference is made from the headers without a warning.
set -eu
if ! command -v doxygen > /dev/null; then
    echo "SKIP: doxygen is not installed"
    exit 77
fi
cmake --build "$1" --target reference
pages=$(find "$1/reference/html" -name '*_8h.html' | wc -l)
[ "$pages" -gt 10 ] || { echo "only $pages headers have a page"; exit 1; }
grep -q 'numaperf_rt_start' "$1/reference/html/runtime_8h.html" || { echo "functions are missing"; exit 1; }
echo "the reference has the pages of $pages headers"
