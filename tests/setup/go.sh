#!/bin/bash
# Prints the path of a Go that is new enough for tests/conformance/go.mod.
#
# An older one is used to fetch a newer one: toolchains are published as Go modules, checked against
# the checksum database like any other. Go from 1.21 on would do that by itself, but not where its
# configuration says GOTOOLCHAIN=local; the Go of Debian 12 and Ubuntu 22.04 cannot.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
want=$(sed -n 's/^go \([0-9.]*\)$/\1/p' "$here/../conformance/go.mod")

# at_least HAVE WANT
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -1)" = "$2" ]; }

version() { (cd / && GOTOOLCHAIN=local "$1" env GOVERSION 2>/dev/null) | sed 's/^go\([0-9.]*\).*/\1/'; }

go=$(command -v go || echo /usr/local/go/bin/go)
if [ ! -x "$go" ]; then
  echo "go: none found, installing the distribution's" >&2
  log=$(mktemp)
  { DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends golang-go ||
    { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends golang-go; }
  } >"$log" 2>&1 || { cat "$log" >&2; rm -f "$log"; exit 1; }
  rm -f "$log"
  go=$(command -v go)
fi

have=$(version "$go")
if at_least "$have" "$want"; then
  echo "$go"
  exit
fi

echo "go: $have is too old, fetching $want" >&2
module=golang.org/toolchain@v0.0.1-go$want.$("$go" env GOOS)-$("$go" env GOARCH)
root=$("$go" env GOPATH)/pkg/mod/$module
if [ ! -d "$root" ]; then
  # Outside any module: the toolchain is nobody's dependency.
  (cd / && GO111MODULE=on GOFLAGS='' GOTOOLCHAIN=local "$go" mod download "$module" >&2)
fi
# The module cache holds files without their execute bits.
chmod -R u+x "$root/bin" "$root/pkg/tool"
echo "$root/bin/go"
