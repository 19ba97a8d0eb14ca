#!/bin/bash
# Installs what building packages needs, from apt and below target/tools: tools.sh amd64|arm64 [deb] [rpm]
set -euo pipefail
cd "$(dirname "$0")/.."
arch=$1 kinds=" ${*:2} "

missing=()
# need PROGRAM PACKAGE...
need() { command -v "$1" >/dev/null || missing+=("${@:2}"); }
need readelf binutils
need go-md2man go-md2man
need jq jq
[[ $kinds != *" rpm "* ]] || need rpmbuild rpm
if [ "$arch" = arm64 ] && [ "$(uname -m)" != aarch64 ]; then
  need aarch64-linux-gnu-gcc gcc-aarch64-linux-gnu libc6-dev-arm64-cross
fi
if [ ${#missing[@]} -gt 0 ]; then
  apt-get update -qq
  apt-get install -qqy --no-install-recommends "${missing[@]}" >/dev/null
fi
[[ $kinds != *" deb "* ]] || [ -x target/tools/bin/cargo-deb ] ||
  cargo install --quiet --locked --root target/tools cargo-deb@3.8.0
