#!/bin/bash
# Tells whether the package does on a machine what a package has to: it is installed, upgraded, restarted, killed and
# reloaded below living pods, survives a reboot, is removed, installed again and purged.
#
# The older package that is upgraded is the same one with a lower version, unless there is another.
#
# Usage: package.sh PROFILE   (of vm.sh; the machine is a fresh one, and thrown away)
# Environment: DEB, the package (default target/crioxide_ARCH.deb); OLD, an older one; VMDIR.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)

# shellcheck source=tests/vm/service.sh
. "$here/service.sh"
# shellcheck source=tests/vm/play.sh
. "$here/play.sh"

# older DEB OUT: the same package with a version before it, and other texts of two configuration files
older() {
  local dir file
  dir=$(mktemp -d)
  dpkg-deb -R "$1" "$dir/tree"
  sed -i 's/^Version: .*/&~before/' "$dir/tree/DEBIAN/control"
  for file in etc/crio/crio.conf.d/10-crio.conf etc/default/crio; do
    echo '# an older text' >>"$dir/tree/$file"
  done
  dpkg-deb --root-owner-group -Zgzip -z1 -b "$dir/tree" "$2" >/dev/null
  rm -rf "$dir"
}

# outside PROFILE: the machine, and the phases in it
outside() {
  local profile=$1 name=package-$1-$$ dir status=0 phase
  dir=$(mktemp -d)
  # shellcheck disable=SC2064
  trap "rm -rf '$dir'; '$here/vm.sh' down '$name'" EXIT
  service_files "$(cd "$here/../.." && pwd)" "$dir"
  cp "$0" "$here"/{play,package_phases}.sh "$dir/"
  if [ -n "${OLD:-}" ]; then cp "$OLD" "$dir/older.deb"; else older "$dir/crioxide.deb" "$dir/older.deb"; fi
  "$here/vm.sh" up "$name" "$profile"
  "$here/vm.sh" put "$name" "$dir"
  for phase in ${PHASES:-install life boot away}; do
    [ "$phase" != boot ] || "$here/vm.sh" reboot "$name"
    timeout 3600 "$here/vm.sh" exec "$name" "/in/package.sh --inside $phase" || status=1
  done
  return $status
}

if [ "${1:-}" != --inside ]; then
  [ $# -eq 1 ] || { sed -n 's/^# \(Usage:.*\)/\1/p' "$0" >&2; exit 2; }
  trap - ERR
  outside "$1"
  exit
fi

# What one phase leaves for the next.
WORK=/in/work
mkdir -p $WORK
export PATH=$here:$PATH
IMAGE=registry.k8s.io/e2e-test-images/busybox:1.29-2
# shellcheck source=tests/vm/package_phases.sh
. "$here/package_phases.sh"
trap 'kill "${OCI_REGISTRY_PID:-}" 2>/dev/null || true' EXIT
echo "$2, $(protection):"
"phase_$2"
played
