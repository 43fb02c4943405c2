#!/usr/bin/env bash
# Instructions of the server's side of a DTLS handshake with cookie, and of opening and sealing a record of
# 64 bytes, with this server and with OpenSSL as it is, counted by callgrind. They do not depend on what else
# the machine does. Callgrind's processor has no instructions for SHA-256 and none of AVX-512, whatever the
# real one has: hashes cost more there than they do otherwise.
#
#   benches/dtls_instructions.sh
#   BENCH=path/to/dtls benches/dtls_instructions.sh     with a benchmark that is built already
set -euo pipefail
cd "$(dirname "$0")/.."

built() {
    cargo bench -q --no-default-features --bench dtls --no-run --message-format=json |
        grep '"executable":"[^"]*/dtls-' | sed 's/.*"executable":"\([^"]*\)".*/\1/' | tail -n 1
}

counted() {
    valgrind --tool=callgrind --callgrind-out-file=/dev/null --toggle-collect='dtls::at_server*' \
        "$program" count "$1" "$2" 2>&1 | sed -n 's/.*Collected : \([0-9]*\).*/\1/p'
}

# What is done once for all is not counted.
per_event() {
    echo $((($(counted "$1" $((2 * $2))) - $(counted "$1" "$2")) / $2))
}

program=${BENCH:-$(built)}
for work in handshake:200 open:2000 seal:2000; do
    kind=${work%:*} times=${work#*:}
    raw=$(per_event "$kind-raw" "$times") ours=$(per_event "$kind-ours" "$times")
    ratio=$(awk -v a="$ours" -v b="$raw" 'BEGIN { printf "%.3f", a / b }')
    printf '%-10s raw OpenSSL %8d   ours %8d   ours to raw %s\n' "$kind" "$raw" "$ours" "$ratio"
done
