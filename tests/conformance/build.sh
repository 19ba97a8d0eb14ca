#!/bin/bash
# Builds critest and crictl at the version that go.mod pins into tests/conformance/bin.
#
# Does nothing while the pin is the one they were built from. Needs a Go (tests/setup/go.sh finds or
# fetches one) and, the first time, the Go module proxy.
#
# Usage: build.sh [critest] [crictl]   (both if none is named)
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
cd "$here"
pin=$(sha256sum go.mod go.sum build.sh | sha256sum | cut -c1-64)
version=$(sed -n 's/^require sigs.k8s.io\/cri-tools \(v.*\)$/\1/p' go.mod)
[ $# -gt 0 ] || set -- critest crictl

go=
for tool in "$@"; do
  if [ -x "bin/$tool" ] && [ "$(cat "bin/.$tool.pin" 2>/dev/null)" = "$pin" ]; then
    continue
  fi
  [ -n "$go" ] || go=$(../setup/go.sh)
  case $tool in
    critest) make=(test -c) ;;
    crictl) make=(build) ;;
    *) echo "build.sh: no tool named $tool" >&2; exit 2 ;;
  esac
  echo "conformance: building $tool $version"
  mkdir -p bin
  start=$SECONDS
  GOFLAGS='' GOWORK=off GOTOOLCHAIN=local CGO_ENABLED=0 "$go" "${make[@]}" -mod=readonly -trimpath \
    -ldflags "-s -w -X sigs.k8s.io/cri-tools/pkg/version.Version=$version" \
    -o "bin/$tool" "sigs.k8s.io/cri-tools/cmd/$tool"
  echo "$pin" >"bin/.$tool.pin"
  echo "conformance: built $tool in $((SECONDS - start)) s"
done
