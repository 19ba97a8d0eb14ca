#!/bin/bash
# Plays what needs a whole machine in virtual ones: the suite's cases for AppArmor, SELinux and user namespaces, and
# our own stories of what these protect; and once, whatever the machine protects with, our stories of cgroups, limits
# and statistics. All of it with the package as it is installed; what a package has to do itself is in package.sh.
# Builds the machines the first time, which takes minutes and apt.
#
# Usage: conformance.sh
# Environment: DEB, the package (default target/crioxide_ARCH.deb); VMDIR (default /var/tmp/test-vm);
# PROFILES (default "apparmor enforcing"); SCRIPTS, for each of them (default "critest.sh protections.sh"); ONCE, for the
# first of them (default "systemd_cgroups.sh stats.sh limits.sh host_ports.sh minikube.sh").
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
export VMDIR=${VMDIR:-/var/tmp/test-vm}
read -ra profiles <<<"${PROFILES:-apparmor enforcing}"
read -ra scripts <<<"${SCRIPTS-critest.sh protections.sh}"
read -ra once <<<"${ONCE-systemd_cgroups.sh stats.sh limits.sh host_ports.sh minikube.sh}"

# A machine that was built from other scripts is built again.
stamp=$(cat "$here"/{build.sh,mkimage.sh} | sha256sum | cut -c1-64)
if [ "$(cat "$VMDIR/img/stamp" 2>/dev/null)" != "$stamp" ]; then
  "$here/../setup/install.sh" --vm
  # The QEMU of Debian 12 cannot run these kernels; later ones can.
  case $(qemu-system-x86_64 --version) in
    *' version '[1-7].*) [ -x "$VMDIR/q10/usr/bin/qemu-system-x86_64" ] || "$here/getqemu.sh" ;;
  esac
  "$here/build.sh"
  echo "$stamp" >"$VMDIR/img/stamp"
fi
# A snapshot that was taken with other arguments of the kernel is taken again.
launch=$(sha256sum <"$here/vm.sh" | cut -c1-64)
status=0

# play SCRIPT PROFILE: in a machine of its own; a reboot is for the script itself to ask for
play() {
  if [ "$1" = package.sh ]; then "$here/$1" "$2"; else "$here/$1" "$here/vmrun.sh" -p "$2" -f -t 3600 -i; fi
}

for profile in "${profiles[@]}"; do
  if [ "$(cat "$VMDIR/snap/$profile/stamp" 2>/dev/null)" != "$launch" ]; then
    "$here/vm.sh" snap "$profile"
    echo "$launch" >"$VMDIR/snap/$profile/stamp"
  fi
  for script in "${scripts[@]}" "${once[@]}"; do
    start=$SECONDS
    echo "== $script, $profile"
    play "$script" "$profile" || status=1
    echo "   $((SECONDS - start)) s"
  done
  once=()
done
[ $status = 0 ] && echo "== all good" || echo "== something is BAD"
exit $status
