#!/bin/bash
# Fills a registry directory with the images that the documents name, and makes the key that signed one of them:
# registry.example/shop/api:1.0 is signed with DIR/shop.pub's other half, registry.example/shop/raw:1.0 by nobody.
#
# Usage: images.sh DIR   (the registry's files are then in DIR/registry; a second run does nothing)
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
dir=${1:?usage: images.sh DIR}
# shellcheck source=tests/setup/oci.sh
. "$here/../setup/oci.sh"

oci_fresh "$dir" "$0"

busybox=$(command -v busybox)
if ldd "$busybox" >/dev/null 2>&1; then # not the static one
  oci_deb busybox-static "$work/deb"
  busybox=$(find "$work/deb" -name busybox -type f | head -1)
fi

# image NAME: an image of busybox that waits, and says who it is
image() {
  local root=$work/$1 applet
  mkdir -p "$root"/{bin,etc,proc,sys,dev,tmp}
  cp "$busybox" "$root/bin/busybox"
  for applet in sh sleep echo cat ls ps; do ln -s busybox "$root/bin/$applet"; done
  echo "$1" >"$root/etc/motd"
  oci_image '{"Cmd": ["/bin/sh", "-c", "cat /etc/motd; exec sleep 3600"]}' "$(oci_layer "$root")"
}

oci_registry "$dir"
oci_key "$dir"
api=$(image shop/api)
oci_push "$api" shop/api 1.0
oci_sign "$dir/cosign.key" "$api" shop/api registry.example/shop/api
oci_push "$(image shop/raw)" shop/raw 1.0
mv "$dir/cosign.pub" "$dir/shop.pub"
oci_done
rm "$dir/cosign.key" "$dir/registry.yml" "$dir/registry.log"
