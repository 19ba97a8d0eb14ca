#!/bin/bash
# Builds the packages of the last commit twice and fails unless they are the same: reproducible.sh [--no-build]
#
# Twice from nothing, the compiling too: in two directories of different names and depths, with another time zone,
# language and umask. Takes two release builds; with --no-build, target/release/crio is taken, and only the packing is
# tried. What was built stays below target/reproducible.
set -euo pipefail
cd "$(dirname "$0")/../.."
commit=$(git rev-parse HEAD)
work=$PWD/target/reproducible
one=$work/one two=$work/another/directory
rm -rf "$work"

# build DIR [--no-build]: all packages of the commit, there
build() {
  git clone -q --no-checkout . "$1"
  git -C "$1" checkout -q "$commit"
  mkdir -p "$1/target"
  [ ! -d target/tools ] || cp -r target/tools "$1/target/tools"
  [ $# = 1 ] || install -D target/release/crio "$1/target/release/crio"
  "$1/packaging/build.sh" deb rpm "${@:2}"
}
(umask 022; export TZ=UTC LC_ALL=C; build "$one" "$@")
(umask 027; export TZ=Asia/Tokyo LC_ALL=C.UTF-8; build "$two" "$@")

status=0
shopt -s nullglob
for file in "$one"/target/*-linux-gnu/release/crio "$one"/target/*.deb "$one"/target/*.rpm; do
  name=${file#"$one/"}
  if cmp "$file" "$two/$name"; then
    printf 'the same: %s %s\n' "$(sha256sum <"$file" | cut -c1-16)" "$name"
  else
    status=1
  fi
done
if [ $# = 0 ] && grep -aqF -e "$work" -e "${CARGO_HOME:-$HOME/.cargo}" "$one"/target/*-linux-gnu/release/crio; then
  echo "the program holds paths of this machine" >&2
  status=1
fi
exit $status
