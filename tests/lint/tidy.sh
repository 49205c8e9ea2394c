#!/bin/sh
# SPDX-License-Identifier: MIT
# usage: tidy.sh BUILD_DIR [FILE...]
# clang-tidy over the library and the examples, as far as BUILD_DIR/compile_commands.json has them.
# A file that was clean is not looked at again until it, a header or .clang-tidy changes.
set -eu
build=$(cd "$1" && pwd)
shift
cd "$(dirname "$0")/../.."
tool=
for candidate in clang-tidy-14 clang-tidy; do
    if command -v "$candidate" > /dev/null; then
        tool=$candidate
        break
    fi
done
if [ -z "$tool" ]; then
    echo "SKIP: clang-tidy is not installed"
    exit 77
fi
[ -f "$build/compile_commands.json" ] || { echo "no compile_commands.json in the build folder"; exit 1; }

cache=$build/tidy
mkdir -p "$cache"
# A file that several targets compile would be looked at once for each, in one process, in which
# clang 14 takes the second va_start() of a place for none.
python3 - "$build" "$cache" << 'EOF'
import json, sys
build, cache = sys.argv[1:]
with open(build + "/compile_commands.json") as file:
    commands = json.load(file)
first = {}
for command in commands:
    first.setdefault(command["file"], command)
with open(cache + "/compile_commands.json", "w") as file:
    json.dump(list(first.values()), file, indent=1)
EOF
shared=$( (cat .clang-tidy "$cache/compile_commands.json"; "$tool" --version
    find include runtime examples -name '*.h' | sort | xargs cat) | cksum)
if [ $# -eq 0 ]; then
    # shellcheck disable=SC2046 # no file of ours has a blank in its name
    set -- $(sed -n 's|^ *"file": ".*/\(runtime/.*\.c\)".*|\1|p; s|^ *"file": ".*/\(examples/.*\.c\)".*|\1|p' \
        "$build/compile_commands.json" | sort -u)
fi
[ $# -gt 0 ] || { echo "no source files"; exit 1; }

export tool build cache shared
# shellcheck disable=SC2016 # expanded by the inner shell
printf '%s\n' "$@" | xargs -P "$(nproc)" -n 1 sh -c '
    [ -f "$1" ] || exit 0
    mark=$cache/$(printf %s "$1" | tr / _)
    now="$shared $(cksum < "$1")"
    [ "$now" != "$(cat "$mark" 2> /dev/null)" ] || exit 0
    rm -f "$mark"
    # Our findings go to standard output; what goes to the other is a count of hidden warnings.
    "$tool" --quiet -p "$cache" "$1" 2> "$mark.log" || { cat "$mark.log"; exit 1; }
    printf "%s\n" "$now" > "$mark"' sh
echo "clang-tidy: $# files clean"
