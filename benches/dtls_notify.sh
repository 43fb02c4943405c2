#!/bin/bash
# CPU time of the gateway's process for a notification, over DTLS (PSK-AES128-CCM8, connection ids) and over
# plain UDP in turns, and their ratio: simulated devices, observed, and one MQTT client that subscribes to
# everything (mosquitto_sub). Build first: cargo build --release
#   benches/dtls_notify.sh [DEVICES [ROUNDS]]
# Each device notifies once a second. To wake up costs more than a notification, and happens the more often the
# more slowly devices send. So the gateway is stopped for most of each second (SIGSTOP) and finds what has come
# meanwhile together, over both transports.
set -euo pipefail
cd "$(dirname "$0")/.."
devices=${1:-3000}
rounds=${2:-3}
seconds=15
program=${GATEWAY:-${CARGO_TARGET_DIR:-target}/release/lwm2m-gateway}
port=${PORT:-17883}
url=http://127.0.0.1:$((port + 2))/metrics
dir=$(mktemp -d)
gateway='' swarm='' client=''
trap 'kill -9 $gateway $swarm $client 2>/dev/null || true; rm -rf "$dir"' EXIT
key=000102030405060708090a0b0c0d0e0f
echo "fleet:$key" >"$dir/psk"
chmod 600 "$dir/psk"
ulimit -n 16384

counter() { curl -fs "$url" | awk -v name="$1" '$1 == name { print $2 }'; }
# CPU time of all threads, in nanoseconds.
used() { cat /proc/$gateway/task/*/schedstat | awk '{ sum += $1 } END { printf "%.0f", sum }'; }
# Wake-ups so far.
woken() { cat /proc/$gateway/task/*/status | awk '/^voluntary/ { sum += $2 } END { print sum }'; }

declare -A times
for _ in $(seq "$rounds"); do
    for transport in udp dtls; do
        if [ $transport = udp ]; then
            listen=(--udp "127.0.0.1:$port")
            devices_of=(--server "coap://127.0.0.1:$port")
        else
            listen=(--dtls "127.0.0.1:$port" --psk-file "$dir/psk"
                --set "listeners.dtls.default.identity_separator=#")
            devices_of=(--server "coaps://127.0.0.1:$port" --psk-identity "fleet#{}" --psk-key $key)
        fi
        "$program" run "${listen[@]}" --mqtt "127.0.0.1:$((port + 1))" --log error \
            --http "127.0.0.1:$((port + 2))" --set 'auto_observe=["/3303/0/5700"]' &
        gateway=$!
        until curl -fs "$url" >/dev/null; do kill -0 $gateway && sleep 0.2; done
        mosquitto_sub -h 127.0.0.1 -p $((port + 1)) -t 'lwm2m/#' >/dev/null &
        client=$!
        "$program" simulate "${devices_of[@]}" --devices "$devices" --objects 1,3,3303 \
            --lifetime 3600 --notify-every 1 >"$dir/swarm" 2>&1 &
        swarm=$!
        for _ in $(seq 60); do
            [ "$(counter lwm2m_observations)" -ge "$devices" ] && break
            sleep 1
        done
        sleep 2
        count=$(counter lwm2m_notifications_total) time=$(used) wakes=$(woken)
        for _ in $(seq $seconds); do
            kill -STOP $gateway
            sleep 0.95
            kill -CONT $gateway
            sleep 0.05
        done
        sleep 0.5
        time=$(($(used) - time)) count=$(($(counter lwm2m_notifications_total) - count))
        wakes=$(($(woken) - wakes)) each=$((time / count))
        echo "$transport: $count notifications, $each ns each, $((wakes * 100 / count)) wake-ups for 100"
        times[$transport]+="$each "
        kill $swarm $gateway $client
        wait $swarm $gateway $client 2>/dev/null || true
    done
done
# Each round's ratio, since the machine may be another one a minute later.
ratios=$(paste <(tr ' ' '\n' <<<"${times[udp]}" | grep .) <(tr ' ' '\n' <<<"${times[dtls]}" | grep .) |
    awk '{ printf "%.2f\n", $2 / $1 }')
median=$(sort -n <<<"$ratios" | awk '{ a[NR] = $1 } END { print (a[int((NR + 1) / 2)] + a[int(NR / 2) + 1]) / 2 }')
echo "ratios: $(xargs <<<"$ratios"), median $median (must 1.10)"
