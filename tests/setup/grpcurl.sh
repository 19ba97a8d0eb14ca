#!/bin/bash
# Prints the path of a grpcurl: it asks for what crictl has no word for. Built once from the Go module proxy, checked
# against the checksum database.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
version=v1.9.3
bin=$here/../conformance/bin
if [ "$(cat "$bin/.grpcurl.pin" 2>/dev/null)" != $version ] || [ ! -x "$bin/grpcurl" ]; then
  go=$("$here/go.sh")
  mkdir -p "$bin"
  bin=$(cd "$bin" && pwd)
  # Outside any module: it is nobody's dependency.
  (cd / && GOBIN=$bin GO111MODULE=on GOFLAGS='' GOWORK=off GOTOOLCHAIN=local CGO_ENABLED=0 \
    "$go" install -trimpath -ldflags '-s -w' "github.com/fullstorydev/grpcurl/cmd/grpcurl@$version" >&2)
  echo $version >"$bin/.grpcurl.pin"
fi
echo "$bin/grpcurl"
