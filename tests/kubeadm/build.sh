#!/bin/bash
# Builds kubeadm at the version that go.mod pins into tests/conformance/bin, unless it is there: our configurations and
# answers are for it.
#
# The `replace` lines of go.mod are Kubernetes' own: its libraries lie in its tree there, and are modules of their own here.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
version=$(sed -n 's/^require k8s.io\/kubernetes \(v.*\)$/\1/p' "$here/go.mod")
IFS=. read -r major minor _ <<<"${version#v}"
told=k8s.io/component-base/version
"$here/../setup/go-build.sh" "$here" kubeadm k8s.io/kubernetes/cmd/kubeadm \
  "$told.gitVersion=$version" "$told.gitMajor=$major" "$told.gitMinor=$minor"
