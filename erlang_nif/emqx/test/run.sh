#!/usr/bin/env bash
# Tests of the EMQX plugin: the package is built, unpacked and run against a stand-in for EMQX.
#
#   test/run.sh LIBRARY        LIBRARY is the native library, a debug build will do
#
# With EMQX_HOME, the folder of a real EMQX (with lib/), the functions that the plugin calls are
# looked for there too.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
library=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$here/../package.sh" --library "$library" --output "$work" >/dev/null
tar -C "$work" -xzf "$work"/lwm2m_gateway-*.tar.gz
package=$(echo "$work"/lwm2m_gateway-*/)
app=$(echo "$package"lwm2m_gateway-*/)
mkdir "$work/test"
cp "$here/emqx_functions.eterm" "$work/test/"
erlc -o "$work/test" "$here"/*.erl "$here/../../test/device.erl"
PACKAGE=$package APP=$app ERL_LIBS='' erl -noshell -pa "$work/test" -pa "$app/ebin" -eval '
    logger:set_primary_config(level, none),
    Modules = [list_to_atom(filename:basename(F, ".beam")) || F <- filelib:wildcard("'"$work"'/test/*_tests.beam")],
    halt(case eunit:test(Modules, [verbose]) of ok -> 0; _ -> 1 end).'
