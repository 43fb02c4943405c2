#!/usr/bin/env bash
# What a registration costs on this side of EMQX: see cost.erl.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
library=$1
simulator=$2
export DEVICES=${3:-5000} PORT=${PORT:-8000}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$here/../package.sh" --library "$library" --output "$work" >/dev/null
tar -C "$work" -xzf "$work"/lwm2m_gateway-*.tar.gz
package=$(echo "$work"/lwm2m_gateway-*/)
app=$(echo "$package"lwm2m_gateway-*/)
mkdir "$work/test"
cp "$here/emqx_functions.eterm" "$work/test/"
erlc -o "$work/test" "$here"/*.erl "$here/../../test/device.erl"
mkfifo "$work/out"
PACKAGE=$package APP=$app erl -noshell -pa "$work/test" -pa "$app/ebin" -eval '
    logger:set_primary_config(level, none), cost:run().' >"$work/out" &
node=$!
exec 3<"$work/out"
read -r line <&3
[ "$line" = ready ] || { echo "$line"; exit 1; }
"$simulator" simulate --devices "$DEVICES" --server "coap://127.0.0.1:$PORT" >/dev/null 2>&1 &
devices=$!
cat <&3
wait $node || true
kill $devices 2>/dev/null || true
