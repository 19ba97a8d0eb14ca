#!/bin/bash
# Builds the program of PACKAGE, at the version that DIR/go.mod pins, as tests/conformance/bin/NAME.
#
# Does nothing while it is the one that was built from this pin. Needs a Go (go.sh finds or fetches one) and, the first
# time, the Go module proxy; what comes from there is checked against DIR/go.sum.
#
# Usage: go-build.sh DIR NAME PACKAGE [VARIABLE=VALUE...]   (variables of the program, set by the linker)
# Environment: VERB, if it is not `build`, such as `test -c`.
set -euo pipefail

dir=$1 name=$2 package=$3
shift 3
here=$(cd "$(dirname "$0")" && pwd)
bin=$(cd "$here/.." && pwd)/conformance/bin
read -r -a verb <<<"${VERB:-build}"
cd "$dir"
pin=$(cat go.mod go.sum "$here/go-build.sh" - <<<"$package $* ${verb[*]}" | sha256sum | cut -c1-64)
if [ -x "$bin/$name" ] && [ "$(cat "$bin/.$name.pin" 2>/dev/null)" = "$pin" ]; then
  exit
fi

go=$("$here/go.sh")
echo "$name: building $package"
mkdir -p "$bin"
start=$SECONDS
GOFLAGS='' GOWORK=off GOTOOLCHAIN=local CGO_ENABLED=0 "$go" "${verb[@]}" -mod=readonly -trimpath \
  -ldflags "-s -w ${*/#/-X }" -o "$bin/$name" "$package"
echo "$pin" >"$bin/.$name.pin"
echo "$name: built in $((SECONDS - start)) s"
