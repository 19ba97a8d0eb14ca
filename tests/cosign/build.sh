#!/bin/bash
# Builds cosign-2 and cosign-3 at the versions that their go.mod pin into tests/conformance/bin, unless they are there:
# both are in use, and sign in forms of their own.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
for major in 2 3; do
  version=$(sed -n "s/^require github.com\/sigstore\/cosign\/v$major \(v.*\)$/\1/p" "$here/$major/go.mod")
  "$here/../setup/go-build.sh" "$here/$major" "cosign-$major" "github.com/sigstore/cosign/v$major/cmd/cosign" \
    "sigs.k8s.io/release-utils/version.gitVersion=$version"
done
