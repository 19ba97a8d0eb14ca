#!/bin/bash
# Unpacks QEMU 10 of bookworm-backports into $VMDIR/q10, on Debian 12; nothing is installed, the system's
# libraries serve. Its own QEMU 7.2 gets cmpxchg16b wrong, and kernels that use it panic.
#
# Usage: getqemu.sh
set -euo pipefail

vmdir=${VMDIR:-/var/tmp/test-vm}
mkdir -p "$vmdir"
cd "$vmdir"
mkdir -p bp/lists/partial bp/cache/archives/partial bp/empty q10
mirror=$(sed -nE 's/^URIs: *//p' /etc/apt/sources.list.d/debian.sources | head -1)
key=/usr/share/keyrings/debian-archive-keyring.gpg
printf 'deb [signed-by=%s] %s %s main\n' $key "$mirror" bookworm-backports $key "$mirror" bookworm >bp/sources.list
apt=(apt-get -qq -o "Dir::Etc::sourcelist=$vmdir/bp/sources.list" -o "Dir::Etc::sourceparts=$vmdir/bp/empty"
  -o "Dir::State::lists=$vmdir/bp/lists" -o "Dir::Cache=$vmdir/bp/cache" -o APT::Sandbox::User=root)
"${apt[@]}" update
cd q10
"${apt[@]}" download {qemu-system-x86,qemu-system-common,qemu-system-data,qemu-utils,seabios}/bookworm-backports
for file in *.deb; do
  dpkg-deb -x "$file" .
done
rm -f ./*.deb
usr/bin/qemu-system-x86_64 --version | head -1
