#!/bin/bash
# Builds packages of an older version, whose configuration files have other texts: older.sh DIR PROGRAM
#
# From a copy of these sources in DIR: DIR/target has the packages.
set -euo pipefail
cd "$(dirname "$0")/../.."
dir=$1 program=$2
rm -rf "$dir"
git clone -q --no-checkout . "$dir"
git ls-files -z --cached --others --exclude-standard | tar --null --ignore-failed-read -T - -c | tar -x -C "$dir"
mkdir -p "$dir/target/release"
cp "$program" "$dir/target/release/crio"
cp -r target/tools "$dir/target/tools"
for file in etc/crio/crio.conf.d/10-crio.conf etc/default/crio; do
  echo '# an older text' >>"$dir/packaging/root/$file"
done
VERSION=1.36.0~beta1 "$dir/packaging/build.sh" deb rpm --no-build
