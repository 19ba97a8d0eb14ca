#!/bin/bash
# Builds kubeadm at the version that go.mod pins into tests/conformance/bin: our configurations and answers are for it.
#
# Does nothing while the pin is the one it was built from. Needs a Go (tests/setup/go.sh finds or fetches one) and, the
# first time, the Go module proxy. The `replace` lines are Kubernetes' own: its libraries lie in its tree there, and are
# modules of their own here.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
cd "$here"
bin=$here/../conformance/bin
pin=$(sha256sum go.mod go.sum build.sh | sha256sum | cut -c1-64)
version=$(sed -n 's/^require k8s.io\/kubernetes \(v.*\)$/\1/p' go.mod)
if [ -x "$bin/kubeadm" ] && [ "$(cat "$bin/.kubeadm.pin" 2>/dev/null)" = "$pin" ]; then
  exit
fi

go=$(../setup/go.sh)
echo "kubeadm: building $version"
mkdir -p "$bin"
start=$SECONDS
told=k8s.io/component-base/version
IFS=. read -r major minor _ <<<"${version#v}"
GOFLAGS='' GOWORK=off GOTOOLCHAIN=local CGO_ENABLED=0 "$go" build -mod=readonly -trimpath \
  -ldflags "-s -w -X $told.gitVersion=$version -X $told.gitMajor=$major -X $told.gitMinor=$minor" \
  -o "$bin/kubeadm" k8s.io/kubernetes/cmd/kubeadm
echo "$pin" >"$bin/.kubeadm.pin"
echo "kubeadm: built in $((SECONDS - start)) s"
