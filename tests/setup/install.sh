#!/bin/bash
# Installs what building and testing need on Debian and Ubuntu, as root.
#
# Looks for commands first and asks apt only for what is missing, so that a second run costs
# milliseconds and works offline. Services of the packages are not started. Not here: Rust itself
# (rustup, as the README says), Go (go.sh), cargo-deny (lint.sh).
#
# Usage: install.sh [--build | --run | --test | --vm]   (--test, the default, includes build and run; --vm is
# what virtual machines need, beside --test)
set -euo pipefail

what=${1:---test}
missing=()

# need COMMAND-OR-FILE PACKAGE: notes the package if the command or file is not there
need() {
  case $1 in
    /*) [ -e "$1" ] || missing+=("$2") ;;
    *) command -v "$1" >/dev/null || missing+=("$2") ;;
  esac
}

build() {
  need make make
  need cc gcc
  need /usr/include/stdlib.h libc6-dev
  need pkg-config pkg-config
  need git git
  need /etc/ssl/certs/ca-certificates.crt ca-certificates
}

run() {
  need runc runc
  need conmon conmon
  need /usr/lib/cni/bridge containernetworking-plugins
  need docker-registry docker-registry
  need iptables iptables
  need nft nftables
  need ip iproute2
  need curl curl
  need jq jq
  need openssl openssl
  need protoc protobuf-compiler
  need busybox busybox-static
  need unshare util-linux
}

tests() {
  need podman podman
  need skopeo skopeo
  need gpg gpg
  need gpgconf gpgconf
  need gpg-agent gpg-agent
  need buildah buildah
  need newuidmap uidmap
  need pgrep procps
  need zstd zstd
  need xz xz-utils
  # The suite makes shared memory with ipcmk; newer releases moved it out of util-linux.
  command -v ipcmk >/dev/null || missing+=("$(apt-cache show util-linux-extra >/dev/null 2>&1 &&
    echo util-linux-extra || echo util-linux)")
}

vm() {
  need mmdebstrap mmdebstrap
  need qemu-system-x86_64 qemu-system-x86
  need mke2fs e2fsprogs
  need depmod kmod
  need cpio cpio
  need ssh openssh-client
  need python3 python3
}

case $what in
  --build) build ;;
  --vm) build; run; tests; vm ;;
  --run) build; run ;;
  --test) build; run; tests ;;
  *) echo "usage: install.sh [--build | --run | --test | --vm]" >&2; exit 2 ;;
esac

if ! command -v cargo >/dev/null && [ ! -x "$HOME/.cargo/bin/cargo" ]; then
  echo "install: no cargo found: install Rust with rustup first (the README says how)" >&2
  exit 1
fi
[ ${#missing[@]} -gt 0 ] || exit 0

if ! command -v apt-get >/dev/null; then
  echo "install: this is not Debian or Ubuntu; install these by hand: ${missing[*]}" >&2
  exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
  echo "install: missing ${missing[*]}; run as root, or: apt-get install ${missing[*]}" >&2
  exit 1
fi

# Some of these packages start a service when they are installed; a test needs none of them.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
  trap 'rm -f $policy' EXIT
  printf '#!/bin/sh\nexit 101\n' >$policy
  chmod 755 $policy
fi

echo "install: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
fetch() { apt-get install -y -q --no-install-recommends "${missing[@]}" >"$log" 2>&1; }
log=$(mktemp)
# The lists may be missing or too old to find a package; only then are they fetched.
if ! fetch; then
  apt-get update -q >>"$log" 2>&1 || true
  fetch || { cat "$log" >&2; rm -f "$log"; exit 1; }
fi
rm -f "$log"
