#!/bin/bash
# Builds the packages of a commit twice and fails unless they are the same, byte by byte: reproducible.sh [COMMIT]
#
# Twice from nothing, the compiling too: in two directories of different names and depths, with another time zone,
# language and umask. Takes two release builds. What was built stays below target/reproducible.
set -euo pipefail
cd "$(dirname "$0")/../.."
commit=$(git rev-parse "${1:-HEAD}")
work=$PWD/target/reproducible
one=$work/one two=$work/another/directory
rm -rf "$work"

# build DIR: all packages of the commit, there
build() {
  git clone -q --no-checkout . "$1"
  git -C "$1" checkout -q "$commit"
  mkdir -p "$1/target"
  [ ! -d target/tools ] || cp -r target/tools "$1/target/tools"
  "$1/packaging/build.sh" deb rpm
}
(umask 022; export TZ=UTC LC_ALL=C; build "$one")
(umask 027; export TZ=Asia/Tokyo LC_ALL=C.UTF-8; build "$two")

status=0
for file in "$one"/target/*-linux-gnu/release/crio "$one"/target/*.deb "$one"/target/*.rpm; do
  name=${file#"$one/"}
  if cmp "$file" "$two/$name"; then
    printf 'the same: %s %s\n' "$(sha256sum <"$file" | cut -c1-16)" "$name"
  else
    status=1
  fi
done
if grep -aqF -e "$work" -e "${CARGO_HOME:-$HOME/.cargo}" "$one"/target/*-linux-gnu/release/crio; then
  echo "the program holds paths of this machine" >&2
  status=1
fi
exit $status
