#!/bin/bash
# Plays what needs a whole machine in virtual ones: the suite's cases for AppArmor, SELinux and user namespaces, and
# our own stories of what these protect. Builds the machines the first time, which takes minutes and apt.
#
# Usage: conformance.sh
# Environment: CRIO, the daemon's binary (default target/release/crio); VMDIR (default /var/tmp/test-vm);
# PROFILES (default "apparmor enforcing"); SCRIPTS (default "critest.sh protections.sh"; also systemd_cgroups.sh).
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
export VMDIR=${VMDIR:-/var/tmp/test-vm}
read -ra profiles <<<"${PROFILES:-apparmor enforcing}"
read -ra scripts <<<"${SCRIPTS:-critest.sh protections.sh}"

# A machine that was built from other scripts is built again.
stamp=$(cat "$here"/{build.sh,mkimage.sh,vmtest.cil} | sha256sum | cut -c1-64)
if [ "$(cat "$VMDIR/img/stamp" 2>/dev/null)" != "$stamp" ]; then
  "$here/../setup/install.sh" --vm
  # The QEMU of Debian 12 cannot run these kernels; later ones can.
  case $(qemu-system-x86_64 --version) in
    *' version '[1-7].*) [ -x "$VMDIR/q10/usr/bin/qemu-system-x86_64" ] || "$here/getqemu.sh" ;;
  esac
  "$here/build.sh"
  echo "$stamp" >"$VMDIR/img/stamp"
fi
status=0
for profile in "${profiles[@]}"; do
  [ -s "$VMDIR/snap/$profile/ram" ] || "$here/vm.sh" snap "$profile"
  for script in "${scripts[@]}"; do
    start=$SECONDS
    echo "== $script, $profile"
    "$here/$script" "$here/vmrun.sh" -p "$profile" -f -t 3600 -i || status=1
    echo "   $((SECONDS - start)) s"
  done
done
exit $status
