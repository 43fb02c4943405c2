#!/bin/bash
# Registered and observed DTLS devices with connection ids: resident memory of each, and a restart by
# kill -9, after which none makes a handshake. Build first: cargo build --release
#   benches/dtls_restart.sh [DEVICES [SECONDS]]
# Devices are simulated by a second process on the same machine, with a socket each.
set -euo pipefail
cd "$(dirname "$0")/.."
devices=${1:-20000}
seconds=${2:-120}
gateway_program=${GATEWAY:-${CARGO_TARGET_DIR:-target}/release/lwm2m-gateway}
port=${PORT:-17783}
url=http://127.0.0.1:$((port + 2))/metrics
dir=$(mktemp -d)
gateway='' swarms=()
trap 'kill -9 $gateway "${swarms[@]}" 2>/dev/null || true; rm -rf "$dir"' EXIT
echo "fleet:000102030405060708090a0b0c0d0e0f" >"$dir/psk"
chmod 600 "$dir/psk"

start() {
    "$gateway_program" run --dtls "127.0.0.1:$port" --mqtt "127.0.0.1:$((port + 1))" \
        --http "127.0.0.1:$((port + 2))" --psk-file "$dir/psk" --store "$dir/store" --log error \
        --set listeners.dtls.default.identity_separator=# \
        --set 'auto_observe=["/3303/0/5700"]' &
    gateway=$!
    until curl -fs "$url" >/dev/null; do kill -0 "$gateway" && sleep 0.2; done
}

# The value of a counter.
counter() { curl -fs "$url" | awk -v name="$1" '$1 == name { print $2 }'; }
resident() { awk '/^VmRSS/ { print $2 }' "/proc/$gateway/status"; }
# Waits until a counter has a value.
reach() {
    for _ in $(seq "$3"); do
        [ "$(counter "$1")" -ge "$2" ] && return
        sleep 1
    done
    echo "$1 is $(counter "$1"), not $2" >&2
    exit 1
}

start
before=$(resident)
each=5000
for ((from = 0; from < devices; from += each)); do
    count=$((devices - from < each ? devices - from : each))
    (
        ulimit -n 16384
        exec "$gateway_program" simulate --server "coaps://127.0.0.1:$port" --devices $count \
            --endpoint-prefix "d$((from / each))-" --psk-identity "fleet#$((from / each))-{}" \
            --psk-key 000102030405060708090a0b0c0d0e0f --lifetime 3600 --objects 1,3,3303 \
            --notify-every 20 --duration "$seconds"
    ) >"$dir/swarm-$((from / each))" 2>&1 &
    swarms+=($!)
    reach lwm2m_dtls_sessions $((from + count)) 120
done
reach lwm2m_observations "$devices" 60
after=$(resident)
echo "$devices devices registered and observed: $(counter lwm2m_dtls_handshakes_completed_total) handshakes," \
    "$(((after - before) * 1024 / devices)) B resident each (${before} and ${after} kB)"

sleep 3
kill -9 "$gateway"
wait "$gateway" 2>/dev/null || true
start
reach lwm2m_observations "$devices" 60
# Every device has something to say meanwhile, twice.
sleep 45
echo "after kill -9: $(counter lwm2m_dtls_sessions_restored_total) sessions restored," \
    "$(counter lwm2m_dtls_handshakes_started_total) handshakes begun," \
    "$(counter lwm2m_notifications_total) notifications," \
    "$(counter lwm2m_dtls_records_dropped_total) records dropped," \
    "$((($(resident) - before) * 1024 / devices)) B resident each"
wait "${swarms[@]}" || true
grep -h "handshakes" "$dir"/swarm-* || true
echo "in the end: $(counter lwm2m_dtls_handshakes_started_total) handshakes begun since the restart"
