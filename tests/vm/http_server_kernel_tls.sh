#!/bin/sh
# SPDX-License-Identifier: MIT
# usage: http_server_kernel_tls.sh HTTP_SERVER CURL OPENSSL
# In a guest whose kernel has kTLS: http_server hands sending over to it, the bytes stay what they
# are, and the kernel's own counters say that it was the kernel.
set -u
program=$1
curl=$2
openssl=$3
work=$(mktemp -d) || exit 1
fail() {
    echo "FAILED: $*"
    cat "$work"/ready "$work"/errors "$work"/curl
    exit 1
}
[ -e /proc/net/tls_stat ] || fail "the kernel has no TLS"

mkdir "$work/pages"
head -c 300000 /dev/urandom > "$work/pages/page.bin"
printf '[req]\ndistinguished_name = name\n[name]\n' > "$work/openssl.cnf"
"$openssl" req -config "$work/openssl.cnf" -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 \
    -nodes -keyout "$work/key" -out "$work/certificate" -days 2 -subj /CN=localhost 2> "$work/curl" ||
    fail "no certificate"

for backend in io_uring epoll; do
    before=$(awk '/^TlsTxSw/ { print $2 }' /proc/net/tls_stat)
    "$program" --listen 127.0.0.1:0 --backend "$backend" --root "$work/pages" \
        --tls-cert "$work/certificate" --tls-key "$work/key" > "$work/ready" 2> "$work/errors" &
    server=$!
    for _ in $(seq 300); do
        grep -q ready "$work/ready" && break
        kill -0 "$server" 2> /dev/null || fail "http_server did not start on $backend"
        sleep 0.2
    done
    port=$(sed 's/.*://' "$work/ready")
    for cipher in TLS_AES_128_GCM_SHA256 TLS_AES_256_GCM_SHA384; do
        "$curl" -sS -k --tls13-ciphers "$cipher" -o "$work/got" "https://127.0.0.1:$port/page.bin" \
            2> "$work/curl" || fail "no page by $cipher on $backend"
        cmp "$work/got" "$work/pages/page.bin" || fail "other bytes by $cipher on $backend"
    done
    "$curl" -sS -k "https://127.0.0.1:$port/metrics" > "$work/metrics" 2> "$work/curl" || fail "no metrics"
    counted=$(sed -n 's/^[a-z_]*tls_kernel_sending_total //p' "$work/metrics")
    after=$(awk '/^TlsTxSw/ { print $2 }' /proc/net/tls_stat)
    [ "${counted:-0}" -ge 2 ] || fail "the server counts ${counted:-nothing} on $backend"
    [ $((after - before)) -ge 2 ] || fail "the kernel counts $((after - before)) on $backend"
    kill "$server"
    wait "$server" || fail "http_server ended with $? on $backend"
done
echo "the kernel sent"
