#!/usr/bin/env bash
# Writes the program's bill of materials, as CycloneDX: lwm2m-gateway-VERSION.cdx.json.
#
#   packaging/sbom.sh FOLDER
#
# Needs cargo-cyclonedx (RELEASING.md).
set -euo pipefail
mkdir -p "$1"
output=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
name=lwm2m-gateway-$version.cdx
# The tool writes a file next to each Cargo.toml of the workspace.
trap 'rm -f "$name.json" "erlang_nif/native/$name.json"' EXIT
cargo cyclonedx --format json --spec-version 1.5 --target "$(rustc -vV | sed -n 's/^host: //p')" \
    --override-filename "$name"
mv "$name.json" "$output/"
echo "$output/$name.json"
