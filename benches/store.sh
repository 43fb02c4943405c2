#!/bin/bash
# What a store leaves of the rates of a whole gateway: registrations and notifications of 5000 devices with
# and without one, in turns. Build first:
#   cargo build --release && cargo build --release --no-default-features --example load
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}/release
port=${PORT:-17683}
ulimit -n 20000
store=$(mktemp -d)
trap 'rm -rf "$store"' EXIT
for round in 1 2 3; do
    for options in "" "--store $store/$round"; do
        # shellcheck disable=SC2086
        "$target/lwm2m-gateway" run --udp "127.0.0.1:$port" --mqtt "127.0.0.1:$((port + 1))" $options \
            --log error &
        gateway=$!
        sleep 2
        echo "== ${options:-in memory}"
        "$target/examples/load" --coap "127.0.0.1:$port" --mqtt "127.0.0.1:$((port + 1))" \
            --pid $gateway --devices 5000 --rate 0 --seconds 5
        kill $gateway
        wait $gateway || true
    done
done
