#!/bin/bash
# Installs what building the package needs, below target/tools and from apt: tools.sh
set -euo pipefail
cd "$(dirname "$0")/.."
missing=()
command -v go-md2man >/dev/null || missing+=(go-md2man)
command -v jq >/dev/null || missing+=(jq)
if [ ${#missing[@]} -gt 0 ]; then
  apt-get update -qq
  apt-get install -qqy --no-install-recommends "${missing[@]}" >/dev/null
fi
[ -x target/tools/bin/cargo-deb ] || cargo install --quiet --locked --root target/tools cargo-deb@3.8.0
