#!/usr/bin/env bash
# Builds the EMQX plugin: lwm2m_gateway-<version>.tar.gz.
#
#   package.sh [--library FILE] [--output FOLDER]
#
#   --library FILE    the native library (liblwm2m_gateway_nif.so); default: built here, optimized
#   --output FOLDER   where the package goes; default: the current folder
#
# Needs Erlang/OTP not newer than the broker's (EMQX 5.8: OTP 26) and Rust.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
nif=$here/..
library=
output=$PWD

while [ $# -gt 0 ]; do
    case $1 in
        --library) library=$2; shift 2 ;;
        --output) mkdir -p "$2"; output=$(cd "$2" && pwd); shift 2 ;;
        *) sed -n '2,9p' "$0"; exit 2 ;;
    esac
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if [ -z "$library" ]; then
    target=${CARGO_TARGET_DIR:-$nif/../target}
    (cd "$nif/.." && cargo build --release -p lwm2m-gateway-nif)
    library=$target/release/liblwm2m_gateway_nif.so
fi

version=$(sed -n 's/.*{vsn, *"\([^"]*\)"}.*/\1/p' "$nif/src/lwm2m_gateway.app.src")
name=lwm2m_gateway-$version
app=$work/$name/$name
mkdir -p "$app/ebin" "$app/priv/lwm2m_xml"

erlc -Wall +debug_info -o "$app/ebin" "$nif"/src/*.erl "$here"/src/*.erl

# One application: EMQX looks for the plugin's files in the one whose name starts like the plugin's.
APP_SRC=$nif/src/lwm2m_gateway.app.src EBIN=$app/ebin erl -noshell -eval '
    {ok, [{application, Name, Keys}]} = file:consult(os:getenv("APP_SRC")),
    Ebin = os:getenv("EBIN"),
    Modules = [list_to_atom(filename:basename(F, ".beam"))
               || F <- filelib:wildcard(filename:join(Ebin, "*.beam"))],
    Applications = proplists:get_value(applications, Keys),
    New = [{mod, {lwm2m_gateway_emqx_app, []}},
           {modules, Modules},
           {applications, Applications ++ [emqx, emqx_gateway]}],
    App = {application, Name, New ++ [Key || {K, _} = Key <- Keys, not lists:keymember(K, 1, New)]},
    File = filename:join(Ebin, atom_to_list(Name) ++ ".app"),
    ok = file:write_file(File, io_lib:format("~p.~n", [App])),
    halt().'

cp "$library" "$app/priv/lwm2m_gateway_nif.so"
cp "$here"/priv/config_schema.avsc "$here"/priv/config_i18n.json "$here"/priv/config.hocon "$app/priv/"
cp -r "$here/priv/ui" "$app/priv/"
cp "$nif"/../priv/lwm2m_xml/*.xml "$app/priv/lwm2m_xml/"
cp "$here/README.md" "$work/$name/README.md"
commit=$(git -C "$here" rev-parse HEAD 2>/dev/null || echo unknown)
otp=$(erl -noshell -eval 'io:put_chars(erlang:system_info(otp_release)), halt().')
# What it says when it cannot be loaded. GLIBC_2.34 is the newest part of the C library that it needs.
glibc=$(readelf -V "$library" | grep -o 'GLIBC_[0-9.]*' | sort -Vu | tail -n 1 || true)
printf 'OTP %s or later and glibc %s or later' "$otp" "${glibc#GLIBC_}" >"$app/priv/made_for"
sed -e "s/@VERSION@/$version/g" -e "s/@COMMIT@/$commit/g" -e "s/@OTP@/$otp/g" \
    -e "s/@DATE@/$(date -u +%Y-%m-%d)/g" "$here/release.json.in" >"$work/$name/release.json"

tar -C "$work" --owner=0 --group=0 -czf "$output/$name.tar.gz" "$name"
echo "$output/$name.tar.gz"
