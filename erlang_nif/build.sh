#!/bin/sh
# Builds the native library into priv/. PROFILE=dev for a debug build. CARGO and CARGO_TARGET_DIR
# as usual.
set -eu
cd "$(dirname "$0")"
profile=${PROFILE:-release}
# By itself: together with other packages it would get their features too.
"${CARGO:-cargo}" build --quiet --manifest-path native/Cargo.toml --profile "$profile"
target=$("${CARGO:-cargo}" metadata --format-version 1 --no-deps --manifest-path native/Cargo.toml |
    sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
case $profile in dev) folder=debug ;; *) folder=$profile ;; esac
mkdir -p priv
# A rename, because a node may have the old file mapped.
cp "$target/$folder/liblwm2m_gateway_nif.so" priv/.lwm2m_gateway_nif.so
mv priv/.lwm2m_gateway_nif.so priv/lwm2m_gateway_nif.so
