#!/bin/sh
# SPDX-License-Identifier: MIT
# usage: kv_server_under_drift.sh KV_SERVER
# In a guest with several nodes, as root: kv_server in hard mode, in a cgroup of its own, while a
# client asks all the time. The cpuset loses a PU and a node and gets them back, a PU goes offline
# and comes back, a worker's thread is let loose. Each is counted as a drift, and every question is
# answered, and answered right, meanwhile and afterwards.
set -u
program=$1
work=$(mktemp -d) || exit 1
group=/sys/fs/cgroup/kv.$$
fail() {
    echo "FAILED: $*"
    touch "$work/end"
    cat "$work"/errors "$work"/info "$work"/wrong 2> /dev/null
    exit 1
}
# ask REQUEST: one connection, plain lines; the answers go to standard output.
ask() {
    printf '%s\r\nQUIT\r\n' "$1" | nc 127.0.0.1 "$port" | tr -d '\r'
}
violations() {
    ask INFO > "$work/info"
    sed -n 's/^violations://p' "$work/info"
}
# All keys, in one connection; one line a turn goes to "turns", what is not right to "wrong".
client() {
    while [ ! -e "$work/end" ]; do
        {
            for i in $(seq 40); do
                printf 'GET key:%d\r\n' "$i"
            done
            printf 'QUIT\r\n'
        } | nc 127.0.0.1 "$port" | tr -d '\r' | grep '^value-' > "$work/answers"
        cmp -s "$work/answers" "$work/expected" || {
            echo "wrong answers:"
            cat "$work/answers"
        } >> "$work/wrong"
        echo >> "$work/turns"
    done
}
# expect_drift WHAT: reported within two intervals, which are 5 s each, or six on a slow machine;
# and the client has had its answers three times since.
expect_drift() {
    turns=$(wc -l < "$work/turns")
    for _ in $(seq 60); do
        now=$(violations)
        [ "${now:-0}" -gt "$before" ] && break
        sleep 0.5
    done
    [ "${now:-0}" -gt "$before" ] || fail "$1 is not reported"
    expect_answers "$1"
    echo "$1: $((now - before)) reported"
}
expect_answers() {
    for _ in $(seq 300); do
        [ "$(wc -l < "$work/turns")" -gt $((turns + 3)) ] && break
        sleep 0.2
    done
    [ "$(wc -l < "$work/turns")" -gt $((turns + 3)) ] || fail "$1: the client gets no answers"
    [ ! -s "$work/wrong" ] || fail "$1: wrong answers"
}

[ "$(id -u)" = 0 ] || {
    echo "SKIP: only root makes cgroups and switches PUs off"
    exit 77
}
all_cpus=$(cat /sys/fs/cgroup/cpuset.cpus.effective)
all_mems=$(cat /sys/fs/cgroup/cpuset.mems.effective)
last_cpu=${all_cpus##*[-,]}
last_mem=${all_mems##*[-,]}
mkdir "$group" || exit 1
echo "$all_cpus" > "$group/cpuset.cpus" || exit 1
echo "$all_mems" > "$group/cpuset.mems" || exit 1

sh -c 'echo 0 > "$1/cgroup.procs" && exec "$2" --listen 127.0.0.1:0 --mode hard --waive-privileges' \
    sh "$group" "$program" > "$work/ready" 2> "$work/errors" &
server=$!
for _ in $(seq 300); do
    grep -q ready "$work/ready" && break
    kill -0 "$server" 2> /dev/null || fail "kv_server did not start"
    sleep 0.2
done
port=$(sed 's/.*://' "$work/ready")
for i in $(seq 40); do
    echo "value-$i" >> "$work/expected"
    printf 'SET key:%d value-%d\r\n' "$i" "$i"
done > "$work/keys"
[ "$(printf '%s\r\nQUIT\r\n' "$(cat "$work/keys")" | nc 127.0.0.1 "$port" | grep -c '^+OK')" = 41 ] ||
    fail "not every SET was answered"
: > "$work/turns"
client &
client=$!

before=$(violations)
[ "$before" = 0 ] || fail "drifted before anything was done"
echo "0-$((last_cpu - 1))" > "$group/cpuset.cpus" || fail "cpuset.cpus"
expect_drift "a cpuset without PU $last_cpu"
echo "$all_cpus" > "$group/cpuset.cpus" || fail "cpuset.cpus"
turns=$(wc -l < "$work/turns")
expect_answers "the cpuset grown back"

before=$(violations)
echo "${all_mems%[-,]*}" > "$group/cpuset.mems" || fail "cpuset.mems"
expect_drift "a cpuset without node $last_mem"
echo "$all_mems" > "$group/cpuset.mems" || fail "cpuset.mems"
turns=$(wc -l < "$work/turns")
expect_answers "the node given back"

before=$(violations)
online=/sys/devices/system/cpu/cpu$last_cpu/online
echo 0 > "$online" || fail "PU $last_cpu does not go offline"
expect_drift "PU $last_cpu offline"
echo 1 > "$online" || fail "PU $last_cpu does not come back"
turns=$(wc -l < "$work/turns")
expect_answers "PU $last_cpu online again"

# Where the affinity had been lost already, it is set first and seen to be in order.
thread=$(sed -n 's/^worker0:.*thread=\([0-9]*\),.*/\1/p' "$work/info")
own=$(sed -n 's/^worker0:.*pu=\([0-9]*\),.*/\1/p' "$work/info")
taskset -pc "$own" "$thread" > /dev/null || fail "taskset"
sleep 11
before=$(violations)
taskset -pc "0-$last_cpu" "$thread" > /dev/null || fail "taskset"
expect_drift "worker 0 let loose"

touch "$work/end"
wait "$client"
[ ! -s "$work/wrong" ] || fail "wrong answers"
kill -TERM "$server"
wait "$server" || fail "exit code $?"
rmdir "$group" || fail "something of kv_server is left in its cgroup"
echo "kv_server: $(wc -l < "$work/turns") times 40 right answers under drift: ok"
rm -rf "$work"
