#!/bin/bash
# Builds critest and crictl at the version that go.mod pins into tests/conformance/bin, unless they are there.
#
# Usage: build.sh [critest] [crictl]   (both if none is named)
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
version=$(sed -n 's/^require sigs.k8s.io\/cri-tools \(v.*\)$/\1/p' "$here/go.mod")
[ $# -gt 0 ] || set -- critest crictl

for tool in "$@"; do
  case $tool in
    critest) verb='test -c' ;;
    crictl) verb=build ;;
    *) echo "build.sh: no tool named $tool" >&2; exit 2 ;;
  esac
  VERB=$verb "$here/../setup/go-build.sh" "$here" "$tool" "sigs.k8s.io/cri-tools/cmd/$tool" \
    "sigs.k8s.io/cri-tools/pkg/version.Version=$version"
done
