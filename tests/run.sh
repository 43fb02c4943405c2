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

title() { printf '\n== %s\n' "$*"; }

step() {
    local name=$1
    shift
    title "$name"
    "$@" || failed+=("$name")
}

# Installs the Debian packages of programs that are not there yet.
packages() {
    local wanted=() root=()
    command -v curl >/dev/null || wanted+=(curl)
    python3 -c 'import ensurepip, venv' 2>/dev/null || wanted+=(python3-venv)
    command -v cc >/dev/null || wanted+=(build-essential)
    command -v coap-client-notls >/dev/null || wanted+=(libcoap3-bin)
    command -v mosquitto >/dev/null || wanted+=(mosquitto)
    command -v mosquitto_pub >/dev/null || wanted+=(mosquitto-clients)
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
    # Debian starts the broker; the tests run their own.
    if command -v systemctl >/dev/null && [[ " ${wanted[*]} " == *" mosquitto "* ]]; then
        "${root[@]}" systemctl disable --now mosquitto >/dev/null 2>&1 || true
    fi
}

python_packages() {
    local stamp=$cache/venv/.requirements
    if ! cmp -s tests/e2e/requirements.txt "$stamp"; then
        python3 -m venv --clear "$cache/venv"
        "$cache/venv/bin/pip" install -q --disable-pip-version-check -r tests/e2e/requirements.txt
        cp tests/e2e/requirements.txt "$stamp"
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

step "cargo fmt" cargo fmt --check
step "cargo clippy" cargo clippy --all-targets -- -D warnings
step "cargo build" cargo build
step "cargo test" cargo test
step "end to end" end_to_end
if command -v mosquitto >/dev/null; then
    step "end to end, in Mosquitto" end_to_end --host mosquitto
fi

title "summary"
if [ ${#failed[@]} -gt 0 ]; then
    printf 'FAILED: %s\n' "${failed[@]}"
    exit 1
fi
echo "all tests passed"
