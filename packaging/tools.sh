#!/bin/bash
# Installs what building packages needs, below target/tools and from apt: tools.sh deb|rpm
set -euo pipefail
cd "$(dirname "$0")/.."
missing=()
command -v go-md2man >/dev/null || missing+=(go-md2man)
command -v jq >/dev/null || missing+=(jq)
[ "$1" = rpm ] && ! command -v rpm >/dev/null && missing+=(rpm)
if [ ${#missing[@]} -gt 0 ]; then
  apt-get update -qq
  apt-get install -qqy --no-install-recommends "${missing[@]}" >/dev/null
fi
# cargo_tool NAME VERSION
cargo_tool() {
  [ -x "target/tools/bin/$1" ] || cargo install --quiet --locked --root target/tools "$1@$2"
}
case $1 in
  deb) cargo_tool cargo-deb 3.8.0 ;;
  rpm) cargo_tool cargo-generate-rpm 0.21.1 ;;
esac
