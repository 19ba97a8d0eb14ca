#!/bin/bash
# Builds a CRI-O to put beside ours, as DIR/bin/crio and DIR/bin/pinns; does nothing when it is there.
#
# Its sources and all they need come from the Go module proxy, checked against the checksum database.
#
# Usage: build.sh [DIR]   (default target/cri-o)
set -euo pipefail

version=v1.36.3
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
dir=${1:-$top/target/cri-o}
[ "$(cat "$dir/version" 2>/dev/null)" != $version ] || exit 0
for package in libseccomp-dev pkg-config gcc make jq; do
  dpkg -s $package >/dev/null 2>&1 || apt-get install -y -q $package
done
go=$("$here/../setup/go.sh")
start=$SECONDS
export GOFLAGS='' GOWORK=off GOTOOLCHAIN=local
sources=$(cd / && "$go" mod download -json "github.com/cri-o/cri-o@$version" | jq -r .Dir)
mkdir -p "$dir/bin"
dir=$(cd "$dir" && pwd)
rm -rf "$dir/src"
cp -r "$sources" "$dir/src"
chmod -R u+w "$dir/src"
cd "$dir/src"
"$go" build -mod=readonly -trimpath -ldflags '-s -w' \
  -tags 'containers_image_ostree_stub containers_image_openpgp exclude_graphdriver_btrfs seccomp selinux apparmor' \
  -o "$dir/bin/crio" ./cmd/crio
make -s -C pinns
cp bin/pinns "$dir/bin/"
cd "$dir"
rm -rf "$dir/src"
echo $version >"$dir/version"
echo "beside: built CRI-O $version in $((SECONDS - start)) s"
