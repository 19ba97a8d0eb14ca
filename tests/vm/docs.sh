#!/bin/bash
# Does on a machine all that the documents tell a reader to do there: the package is installed, and what
# tests/docs/run.sh does apart is done again, under systemd, with what needs that.
#
# Usage: docs.sh RUN [ARG...]   (RUN ARG... DIR COMMAND runs COMMAND in a machine where DIR is /in: README.md)
# Environment: DEB, the package (default target/crioxide_ARCH.deb).
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)

if [ "${1:-}" = --inside ]; then
  # shellcheck source=tests/setup/oci.sh
  . "$here/oci.sh"
  # shellcheck source=tests/docs/scene.sh
  . "$here/scene.sh"
  STAGE=vm LIMIT=1200
  # shellcheck source=tests/docs/play.sh
  . "$here/play.sh"
  export PATH=$here/bin:$PATH
  scene_registry "$here" "$here/images"
  cp "$here"/*.deb "$WORK/"
  # shellcheck disable=SC1091
  . "$here/plan.sh"
  [ $BAD = 0 ] || journalctl -u crio --no-pager -n 40 -o cat
  kill "$OCI_REGISTRY_PID"
  played
  exit
fi

[ $# -gt 0 ] || { sed -n 's/^# \(Usage:.*\)/\1/p' "$0" >&2; exit 2; }
top=$(cd "$here/../.." && pwd)
deb=${DEB:-$top/target/crioxide_$(dpkg --print-architecture).deb}
[ -f "$deb" ] || { echo "docs: there is no package $deb: make deb" >&2; exit 1; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
"$top/tests/conformance/build.sh" crictl
"$top/tests/docs/images.sh" "$top/target/docs/images"
"$top/tests/docs/run.sh" plan >"$dir/plan.sh"
mkdir "$dir/bin"
cp "$top/tests/conformance/bin/crictl" "$(command -v docker-registry)" "$dir/bin/"
cp -r "$top/target/docs/images" "$dir/images"
cp "$here/docs.sh" "$top/tests/setup/oci.sh" "$top"/tests/docs/{scene,play}.sh "$dir/"
cp "$deb" "$dir/crioxide_amd64.deb"
"$@" "$dir" "/in/docs.sh --inside"
