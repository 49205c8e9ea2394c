#!/bin/sh
# SPDX-License-Identifier: MIT
# usage: kv_server_on_nodes.sh KV_SERVER
# In a guest with several nodes: kv_server in hard mode without any privilege. Keys land on every
# node, each worker runs where it says, and every page of its arena, stack and ring is on its node.
set -u
program=$1
work=$(mktemp -d) || exit 1
fail() {
    echo "FAILED: $*"
    cat "$work"/*
    exit 1
}
# ask REQUEST: one connection, plain lines; the answers go to standard output.
ask() {
    printf '%s\r\nQUIT\r\n' "$1" | nc 127.0.0.1 "$port" | tr -d '\r'
}

"$program" --listen 127.0.0.1:0 --mode hard --waive-privileges > "$work/ready" 2> "$work/errors" &
server=$!
for _ in $(seq 300); do
    grep -q ready "$work/ready" && break
    kill -0 "$server" 2> /dev/null || fail "kv_server did not start"
    sleep 0.2
done
port=$(sed 's/.*://' "$work/ready")

{
    for i in $(seq 300); do
        printf 'SET key:%d value-%d\r\nGET key:%d\r\n' "$i" "$i" "$i"
    done
    printf 'QUIT\r\n'
} | nc 127.0.0.1 "$port" | tr -d '\r' > "$work/answers"
[ "$(grep -c '^value-' "$work/answers")" = 300 ] || fail "not every value came back"
[ "$(grep -c '^+OK' "$work/answers")" = 301 ] || fail "not every SET was answered"
[ "$(grep '^value-' "$work/answers" | sed -n 250p)" = value-250 ] || fail "answers out of order"

ask INFO > "$work/info"
grep -q '^mode:hard' "$work/info" || fail "not in hard mode"
grep -q '^enforcement:strict' "$work/info" || fail "not strict"
nodes=$(sed -n 's/^nodes://p' "$work/info")
[ "$nodes" = "$(grep -c '^shard[0-9]*:' "$work/info")" ] || fail "not one shard a node"
grep '^shard[0-9]*:' "$work/info" | grep 'keys=0,' && fail "a node without keys"
workers=$(sed -n 's/^workers://p' "$work/info")
index=0
while [ "$index" -lt "$workers" ]; do
    line=$(grep "^worker$index:" "$work/info")
    node=$(echo "$line" | sed 's/.*:node=\([0-9]*\),.*/\1/')
    pu=$(echo "$line" | sed 's/.*pu=\([0-9]*\),.*/\1/')
    thread=$(echo "$line" | sed 's/.*thread=\([0-9]*\),.*/\1/')
    # What the kernel itself says about the thread, not the server.
    allowed=$(sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' "/proc/$server/task/$thread/status")
    [ "$allowed" = "$pu" ] || fail "worker $index is allowed on $allowed, not on PU $pu alone"
    [ -e "/sys/devices/system/node/node$node/cpu$pu" ] || fail "PU $pu is not on node $node"
    for part in arena stack ring; do
        pages=$(grep "^worker${index}_${part}_pages:" "$work/info" | sed 's/.*://')
        case $pages in
        unknown*UNSUPPORTED*) continue ;; # no ring on this kernel
        *" node$node="*) ;;
        *) fail "worker $index: $part: $pages" ;;
        esac
        strays=$(echo "$pages" | tr ' ' '\n' | grep '^node' | grep -v "^node$node=")
        [ -z "$strays" ] || fail "worker $index on node $node: $part has $strays"
    done
    index=$((index + 1))
done

kill -TERM "$server"
wait "$server" || fail "exit code $?"
echo "kv_server: $nodes nodes, $workers workers, hard mode without privileges: ok"
rm -rf "$work"
