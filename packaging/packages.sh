#!/usr/bin/env bash
# Makes the packages for Debian and Red Hat, and the archive of debug information, from the build.
#
#   packaging/packages.sh [--program FILE] [--library FILE] [--output FOLDER] [--version VERSION]
#
#   --program FILE      default: target/release/lwm2m-gateway
#   --library FILE      the plugin; default: target/host/release/liblwm2m_gateway.so
#   --output FOLDER     default: target/packages
#   --version VERSION   default: the version in Cargo.toml
#   --only KIND         deb or rpm
#   --fast              compress less, for tests
#
# Needs cargo-deb and cargo-generate-rpm (RELEASING.md), binutils, and dpkg-dev, which finds the
# libraries that the packages depend on.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-target}
program=$target/release/lwm2m-gateway
library=$target/host/release/liblwm2m_gateway.so
output=$target/packages
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
fast=
only=

while [ $# -gt 0 ]; do
    case $1 in
        --program) program=$2 ;;
        --library) library=$2 ;;
        --output) output=$2 ;;
        --version) version=$2 ;;
        --only) only=$2 ;;
        --fast) fast=--fast; shift; continue ;;
        *) sed -n '2,15p' "$0"; exit 2 ;;
    esac
    shift 2
done

mkdir -p "$output"
output=$(cd "$output" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The folder that the metadata in Cargo.toml calls target/release.
mkdir -p "$work/release"
for file in "$program" "$library"; do
    name=$(basename "$file")
    id=$(readelf -n "$file" | sed -n 's/.*Build ID: //p')
    debug=$work/debug/usr/lib/debug/.build-id/${id:0:2}
    mkdir -p "$debug"
    objcopy --only-keep-debug --compress-debug-sections "$file" "$debug/${id:2}.debug"
    objcopy --strip-unneeded "$file" "$work/release/$name"
    chmod --reference="$file" "$work/release/$name"
done
[ -z "$fast" ] || export XZ_OPT=-0
# A manual page for each command; the page of the program is written by hand.
"$program" man "$work/release/man"
rm "$work/release/man/lwm2m-gateway.1"
tar -C "$work/debug" --owner=0 --group=0 -cJf "$output/lwm2m-gateway-$version-debug.tar.xz" usr

# The tools read the metadata from a copy of Cargo.toml without the keys that older versions, such as
# those on PyPI, do not know. They compile nothing here.
mkdir "$work/tree"
ln -s "$PWD"/* "$work/tree/"
rm -f "$work/tree/Cargo.toml" "$work/tree/target"
ln -s "$work" "$work/tree/target"
sed -e 's/^edition = "2024"/edition = "2021"/' -e '/^debug = /d' Cargo.toml >"$work/tree/Cargo.toml"
cd "$work/tree"
export CARGO_TARGET_DIR=$work
# Older versions cannot mark configuration files that an upgrade must keep: do not use them for a release.
[ -z "$fast" ] || sed -i 's/config = "noreplace"/config = true/' Cargo.toml
# The scripts of a Red Hat package, as keys of its metadata.
scripts() {
    local key file
    while read -r key file; do
        [ ! -e "$1/$file" ] || printf "%s_script = '''\\n%s\\n'''\\n" "$key" "$(cat "$1/$file")"
    done <<<"post_install post.sh
pre_uninstall preun.sh
post_uninstall postun.sh"
}

for variant in "" mosquitto; do
    if [ "$only" != rpm ]; then
        cargo-deb --no-build --no-strip --quiet $fast --deb-version "$version" \
            ${variant:+--variant "$variant"} --output "$output"
    fi
    if [ "$only" != deb ]; then
        cargo-generate-rpm ${variant:+--variant "$variant"} ${fast:+--payload-compress gzip} \
            --set-metadata "version = '$version'
$(scripts "packaging${variant:+/$variant}/rpm")" --output "$output"
    fi
done
ls "$output"
