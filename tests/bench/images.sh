#!/bin/bash
# Fills a registry directory with the images that the measurements pull: one small, the same signed by the
# key in DIR/cosign.pub, a pause image, and three large ones of 297 MB in 8 gzip layers each, made alike of files that share nothing.
#
# Usage: images.sh DIR   (the registry's files are then in DIR/registry; a second run does nothing)
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
dir=${1:?usage: images.sh DIR}
# shellcheck source=tests/setup/oci.sh
. "$here/../setup/oci.sh"

start=$SECONDS
oci_fresh "$dir" "$0" /var/tmp

small_layer() {
  local root=$work/small applet
  mkdir -p "$root"/{bin,dev,etc,proc,root,run,sys,tmp,var/run}
  cp "$(command -v busybox)" "$root/bin/busybox"
  for applet in sh sleep true cat ls; do ln -s busybox "$root/bin/$applet"; done
  oci_layer "$root"
}

# layer_files SEED DIR: about 37 MB in some 1100 files, as a distribution has them, from the seed alone
#
# A sixth of the bytes is noise, which does not shrink; the rest are words, which do. The key stream
# of a cipher is the noise: the same everywhere, and fast.
layer_files() {
  local seed=$1 root=$2 noise=$work/noise words=$work/words
  mkdir -p "$root"
  head -c 11000000 /dev/zero |
    openssl enc -aes-128-ctr -nosalt -K "$(printf %032x "$seed")" -iv "$(printf %032x 0)" >"$noise"
  od -An -tx1 -w16 -v "$noise" | tr 0-9a-f 'aaaaeeeeiiiinnnn' | cut -c2- >"$words"
  truncate -s 31000000 "$words"
  truncate -s 6000000 "$noise"
  (
    cd "$root"
    mkdir -p lib share/doc bin
    split -a 3 -b 130000 "$noise" lib/f
    split -a 3 -b 30000 "$words" share/doc/f
    ln -s ../lib/faaa bin/tool
  )
  rm "$noise" "$words"
}

large_image() {
  local image=$1 number layers=() root
  for number in 1 2 3 4 5 6 7 8; do
    root=$work/large-$image-$number
    layer_files $((image * 100 + number)) "$root/usr/$number"
    layers+=("$(oci_layer "$root")")
    rm -rf "$root"
  done
  oci_image '{"Cmd":["/bin/sh"]}' "${layers[@]}"
}

oci_registry "$dir"
layer=$(small_layer)
small=$(oci_image '{"Cmd":["/bin/sh"]}' "$layer")
oci_push "$small" bench/small 1
# Another config, so that it is another image in a store.
signed=$(oci_image '{"Cmd":["/bin/sh"],"Labels":{"signed":"yes"}}' "$layer")
oci_push "$signed" bench/signed 1
oci_key "$dir"
oci_sign "$dir/cosign.key" "$signed" bench/signed bench.example/signed
mkdir -p "$work/pause"
cc -O2 -static -s -o "$work/pause/pause" -x c - <<'C'
#include <unistd.h>
int main(void) { for (;;) pause(); }
C
oci_push "$(oci_image '{"Entrypoint":["/pause"]}' "$(oci_layer "$work/pause")")" bench/pause 1
for image in 1 2 3; do
  oci_push "$(large_image $image)" bench/large $image
done
oci_done
echo "bench: images made in $((SECONDS - start)) s, $(du -sh "$dir/registry" | cut -f1)"
