#!/bin/sh
# SPDX-License-Identifier: MIT
# Every shell script passes shellcheck.
set -eu
cd "$(dirname "$0")/../.."
if ! command -v shellcheck > /dev/null; then
    echo "SKIP: shellcheck is not installed"
    exit 77
fi
scripts=$(find .ci examples tests -type f ! -name '*.py' ! -name '*.c' ! -name '*.h' -exec grep -lE '^#!/bin/(ba)?sh' {} + | sort)
echo "$scripts" | xargs shellcheck
echo "shellcheck: $(echo "$scripts" | wc -l) scripts clean"
