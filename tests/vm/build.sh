#!/bin/bash
# Builds a machine to be booted by vm.sh: Debian's packages in a tree, then a disk, a kernel and an initrd of it.
#
# Usage: build.sh [tree | image | all]
# Environment: VMDIR (default /var/tmp/test-vm); SUITE, KPKG, EXTRA_PKGS=a,b, SIZE, MIRROR.
set -euo pipefail
umask 022

here=$(cd "$(dirname "$0")" && pwd)
what=${1:-all}
vmdir=${VMDIR:-/var/tmp/test-vm}
suite=${SUITE:-trixie}
tree=$vmdir/tree
mirror=${MIRROR:-$(sed -nE 's/^URIs: *//p' /etc/apt/sources.list.d/debian.sources | head -1)}
kernel=${KPKG:-linux-image-cloud-amd64}
packages=(systemd systemd-sysv udev dbus iproute2 iptables nftables procps kmod openssh-server ca-certificates busybox-static
  runc crun conmon containernetworking-plugins apparmor apparmor-utils selinux-utils selinux-policy-default policycoreutils
  auditd libcap2-bin curl jq conntrack socat attr e2fsprogs python3-minimal podman netavark lz4)

step() { echo "[$(date +%T)] $*"; }

make_tree() {
  local version options
  rm -rf "$tree"
  mkdir -p "$vmdir/img"
  step "mmdebstrap $suite"
  options=(--aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Retries "3"' --dpkgopt=force-unsafe-io)
  for path in man doc locale; do
    options+=(--dpkgopt="path-exclude=/usr/share/$path/*")
  done
  mmdebstrap --quiet --mode=root --variant=minbase "${options[@]}" \
    --include="$(IFS=,; echo "${packages[*]}")${EXTRA_PKGS:+,$EXTRA_PKGS}" "$suite" "$tree" "deb $mirror $suite main"
  # podman's network is no network of pods.
  rm -f "$tree/etc/cni/net.d/87-podman-bridge.conflist"
  step "the kernel: unpacked, not installed, so that no initrd is made"
  mkdir -p "$tree/var/tmp/k" "$tree/usr/lib/modules"
  cp /etc/resolv.conf "$tree/etc/resolv.conf"
  chroot "$tree" sh -ec "
    apt-get -qq update
    cd /var/tmp/k
    image=\$(apt-cache depends $kernel | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -1)
    modules=\$(apt-cache depends \$image | sed -n 's/.*Depends: \(linux-modules-[^ ]*\)/\1/p' | head -1)
    apt-get -qq -o APT::Sandbox::User=root download \$image \$modules
    for file in *.deb; do dpkg-deb -x \$file /var/tmp/k/x; done"
  cp -a "$tree"/var/tmp/k/x/boot/. "$tree/boot/"
  cp -a "$tree"/var/tmp/k/x/{usr/,}lib/modules/. "$tree/usr/lib/modules/" 2>/dev/null || true
  rm -rf "$tree/var/tmp/k" "$tree"/var/lib/apt/lists/* "$tree"/var/cache/apt/archives/*.deb
  version=$(basename "$(find "$tree/usr/lib/modules" -mindepth 1 -maxdepth 1 | head -1)")
  depmod -b "$tree" "$version" 2>/dev/null || chroot "$tree" depmod "$version"
  cp "$tree/boot/vmlinuz-$version" "$vmdir/img/vmlinuz"
  echo "$version" >"$vmdir/img/kver"
}

case $what in
  tree | image | all) ;;
  *) sed -n 's/^# \(Usage:.*\)/\1/p' "$0" >&2; exit 2 ;;
esac
[ "$what" = image ] || make_tree
step "the tree has $(du -sh "$tree" | cut -f1)"
[ "$what" = tree ] || "$here/mkimage.sh"
