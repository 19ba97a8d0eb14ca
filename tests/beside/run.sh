#!/bin/bash
# Puts the same questions to two daemons, ours and a CRI-O, and shows where their answers differ.
#
# Each plays on a node of its own, with the same directory, registry, network and monitor, apart from this machine
# (tests/setup/apart.sh). What differs by nature, as ids, times and numbers of processes, is named alike in both.
#
# Usage: run.sh [STORY...]   (a story is a function of play.sh; all, if none is named)
# Environment: CRIO, our daemon's binary (default target/release/crio); CRI_O, the directory with CRI-O's bin/crio and
# bin/pinns (default target/cri-o, which build.sh fills); CAD, a program that prints what cAdvisor sees (or none).
# The answers are in target/beside/ours and target/beside/theirs, the differences in target/beside/differences.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
out=$top/target/beside
CRIO=$(readlink -f "${CRIO:-$top/target/release/crio}")
# shellcheck source=tests/setup/node.sh
. "$here/../setup/node.sh"
# shellcheck source=tests/beside/play.sh
. "$here/play.sh"

# start WHO: that daemon on the node
start() {
  case $1 in
    ours) DAEMON=$CRIO ;;
    theirs) DAEMON=$THEIRS/bin/crio ;;
  esac
  local pins=()
  [ "$1" = ours ] || pins=(--pinns-path "$THEIRS/bin/pinns" --nri-listen "$NODE/nri.sock")
  node_start "$DAEMON" "${pins[@]}" --enable-metrics --metrics-port 9537 --enable-pod-events
}

# inside WHO STORY...: what happens in the namespaces, with the node's directory as $NODE
inside() {
  WHO=$1
  shift
  # What a CRI-O keeps outside of its settings, as the sockets of its plugins.
  mount -t tmpfs -o mode=755 none /run
  mkdir -p "$NODE/lib" "$NODE/lib.work"
  mount -t overlay -o "lowerdir=/var/lib,upperdir=$NODE/lib,workdir=$NODE/lib.work" none /var/lib
  trap 'cp "$NODE"/*.log "$out/$WHO/" 2>/dev/null || true' EXIT
  node_registry "$out/images"
  printf '[[registry]]\nlocation = "127.0.0.1:5000"\ninsecure = true\n' >>"$NODE/registries.conf"
  node_network
  node_policy '{"default": [{"type": "insecureAcceptAnything"}], "transports": {"docker": {"registry.k8s.io/k8s-staging-cri-tools/test-image-3": [{"type": "reject"}]}}}'
  start "$WHO"
  play_begin "$out/$WHO"
  for STORY in "$@"; do
    mkdir -p "$out/$WHO/$STORY"
    "$STORY"
  done
  node_clear "$here/../conformance/bin/crictl" || true
  node_stop || true
  node_leftovers >"$out/$WHO/leftovers" 2>&1 || true
}

if [ "${1:-}" = --inside ]; then
  NODE=$2
  THEIRS=$3
  shift 3
  inside "$@"
  exit
fi

THEIRS=$(readlink -m "${CRI_O:-$top/target/cri-o}")
[ -x "$THEIRS/bin/crio" ] || { echo "beside: no CRI-O at $THEIRS: build it (tests/beside/build.sh) or set CRI_O" >&2; exit 1; }
[ $# -gt 0 ] || set -- "${STORIES[@]}"
"$here/../setup/install.sh" --run
"$here/../conformance/build.sh" crictl
"$here/../setup/grpcurl.sh" >/dev/null
mkdir -p "$out"
"$here/../conformance/images.sh" "$out/images"
NODE=/var/tmp/crio.beside
for who in ours theirs; do
  [ ! -e "$NODE" ] || { echo "beside: $NODE is there already" >&2; exit 1; }
  mkdir -m 755 "$NODE"
  trap 'rm -rf "$NODE"' EXIT
  rm -rf "${out:?}/$who"
  mkdir -p "$out/$who"
  "$here/../setup/apart.sh" "$0" --inside "$NODE" "$THEIRS" "$who" "$@" </dev/null
  rm -rf "$NODE"
done
diff -ru "$out/theirs" "$out/ours" -x '*.log' >"$out/differences" || true
echo "beside: $(grep -c '^diff ' "$out/differences") of $(find "$out/ours" -type f ! -name '*.log' | wc -l) answers differ: $out/differences"
