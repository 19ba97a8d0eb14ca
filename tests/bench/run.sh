#!/bin/bash
# Measures the daemon, and others beside it, with the same runc, conmon, CNI plugins and images.
#
# Usage: run.sh [--quick] [DAEMON...]
#   DAEMON   crio (ours, the default), containerd (as installed), cri-o (the one of tests/beside/build.sh),
#            or the path of a CRI socket that answers already. Those with a name are started apart (tests/setup/apart.sh), with empty
#            stores, and leave nothing; a path is measured where it is, not together with a name.
#   --quick  few rounds and pods: shows that it works, measures nothing
# Environment: CRIO, the daemon's binary (default target/release/crio); CRI_O, the directory of CRI-O's
# bin/crio and bin/pinns (default target/cri-o).
# The table goes to the standard output, all samples to target/bench/figures.json.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
out=$top/target/bench
CRIO=$(readlink -f "${CRIO:-$top/target/release/crio}")
CRI_O=$(readlink -m "${CRI_O:-$top/target/cri-o}")
# shellcheck source=tests/setup/node.sh
. "$here/../setup/node.sh"

# start_containerd: containerd with all that is its own below $NODE, on the same network and registry
start_containerd() {
  local dir=$NODE/containerd
  mkdir -p "$dir"
  cat >"$dir/config.toml" <<-TOML
	version = 2
	root = "$dir/root"
	state = "$dir/state"
	oom_score = 0
	[grpc]
	address = "$NODE/containerd.sock"
	[plugins."io.containerd.grpc.v1.cri"]
	sandbox_image = "127.0.0.1:5000/bench/pause:1"
	restrict_oom_score_adj = true
	[plugins."io.containerd.grpc.v1.cri".cni]
	bin_dir = "/usr/lib/cni"
	conf_dir = "$NODE/cni"
	[plugins."io.containerd.internal.v1.opt"]
	path = "$dir/opt"
	TOML
  "$BENCH" look "$NODE/containerd.sock" "$NODE/containerd.answered" &
  "$BENCH" exec "$NODE/containerd.begun" \
    containerd --config "$dir/config.toml" >"$NODE/containerd.log" 2>&1 &
  CONTAINERD=$!
  for _ in $(seq 200); do
    [ ! -s "$NODE/containerd.answered" ] || return 0
    kill -0 $CONTAINERD 2>/dev/null || break
    sleep 0.05
  done
  echo "bench: containerd did not come up:" >&2
  tail -20 "$NODE/containerd.log" >&2
  return 1
}

# start_cri_o: CRI-O with all that is its own below $NODE, on the same network and registry
start_cri_o() {
  local dir=$NODE/cri-o
  mkdir -p "$dir/crio.conf.d" "$dir/attach" "$dir/hooks"
  # It reads from nowhere else that signatures are beside the image.
  mount -t tmpfs -o mode=755 none /etc/containers/registries.d
  printf 'docker:\n  127.0.0.1:5000:\n    use-sigstore-attachments: true\n' >/etc/containers/registries.d/bench.yaml
  cat >"$dir/crio.conf" <<-TOML
	[crio.runtime]
	default_runtime = "runc"
	hooks_dir = ["$dir/hooks"]
	[crio.runtime.runtimes.runc]
	runtime_path = "$(command -v runc)"
	runtime_type = "oci"
	runtime_root = "$dir/runc"
	monitor_path = "$(command -v conmon)"
	TOML
  "$BENCH" look "$NODE/cri-o.sock" "$NODE/cri-o.answered" &
  "$BENCH" exec "$NODE/cri-o.begun" "$CRI_O/bin/crio" --config "$dir/crio.conf" --config-dir "$dir/crio.conf.d" \
    --listen "$NODE/cri-o.sock" --root "$dir/storage" --runroot "$dir/run" --storage-driver overlay \
    --log-dir "$NODE/pods" --log-level info --version-file "$dir/version" --clean-shutdown-file "$dir/clean.shutdown" \
    --cgroup-manager cgroupfs --conmon-cgroup pod --namespaces-dir "$dir/ns" --pinns-path "$CRI_O/bin/pinns" \
    --container-exits-dir "$dir/exits" --container-attach-socket-dir "$dir/attach" --nri-listen "$dir/nri.sock" \
    --pause-image 127.0.0.1:5000/bench/pause:1 --cni-config-dir "$NODE/cni" --cni-plugin-dir /usr/lib/cni \
    --signature-policy "$NODE/policy.json" --signature-policy-dir "$NODE/policies" \
    --registries-conf "$NODE/registries.conf" --registries-conf-dir "$NODE/registries.conf.d" >"$NODE/cri-o.log" 2>&1 &
  CRI_O_DAEMON=$!
  for _ in $(seq 200); do
    [ ! -s "$NODE/cri-o.answered" ] || return 0
    kill -0 $CRI_O_DAEMON 2>/dev/null || break
    sleep 0.05
  done
  echo "bench: CRI-O did not come up:" >&2
  tail -20 "$NODE/cri-o.log" >&2
  return 1
}

# stop_containerd: it and the shims it has left
stop_containerd() {
  kill -TERM "$CONTAINERD"
  wait "$CONTAINERD" || true
}

# inside: what happens in the namespaces, with the node's directory as $NODE
inside() {
  local daemon args=() status=0
  trap 'cp "$NODE"/*.log "$out/" 2>/dev/null || true' EXIT
  node_registry "$out/images"
  cat >>"$NODE/registries.conf" <<-CONF
	[[registry]]
	location = "127.0.0.1:5000"
	insecure = true
	CONF
  node_network
  # One image is judged; the others come without a look, as with a daemon that judges none.
  node_policy "$(jq -n --arg key "$out/images/cosign.pub" '{
    default: [{type: "insecureAcceptAnything"}],
    transports: {docker: {"127.0.0.1:5000/bench/signed": [
      {type: "sigstoreSigned", keyPath: $key,
       signedIdentity: {type: "exactRepository", dockerRepository: "bench.example/signed"}}]}}}')"
  for daemon in "${daemons[@]}"; do
    case $daemon in
      crio)
        "$BENCH" look "$NODE/crio.sock" "$NODE/crio.answered" &
        node_start "$BENCH" exec "$NODE/crio.begun" "$CRIO"
        ;;
      containerd) start_containerd ;;
      cri-o) start_cri_o ;;
      *) echo "bench: no daemon is known by the name $daemon" >&2; return 2 ;;
    esac
    args+=("$daemon=$NODE/$daemon.sock")
  done
  "$BENCH" "${quick[@]}" --logs "$NODE/pods" --registry-log "$NODE/registry.log" --json "$out/figures.json" "${args[@]}" || status=1
  for daemon in "${daemons[@]}"; do
    case $daemon in
      crio) node_stop || status=1 ;;
      containerd) stop_containerd ;;
      cri-o) kill -TERM "$CRI_O_DAEMON" && { wait "$CRI_O_DAEMON" || true; } ;;
    esac
  done
  return $status
}

# beside: measures sockets where they are, with the registry on this machine's loopback
beside() {
  local socket args=() number=0
  node_dir bench
  trap 'kill "${OCI_REGISTRY_PID:-}" 2>/dev/null || true; rm -rf "$NODE"' EXIT
  cp -r "$out/images/registry" "$NODE/registry"
  oci_registry "$NODE"
  for socket in "${daemons[@]}"; do
    number=$((number + 1))
    args+=("$number:$(basename "$socket" .sock)=$socket")
  done
  "$BENCH" "${quick[@]}" --registry "$OCI_REGISTRY" --json "$out/figures.json" "${args[@]}"
}

quick=()
if [ "${1:-}" = --inside ]; then
  NODE=$2
  BENCH=$3
  shift 3
  if [ "${1:-}" = --quick ]; then
    quick=(--rounds 2 --pods 4)
    shift
  fi
  daemons=("$@")
  inside
  exit
fi

if [ "${1:-}" = --quick ]; then
  quick=(--quick)
  shift
fi
daemons=("$@")
[ ${#daemons[@]} -gt 0 ] || daemons=(crio)
paths=0
for daemon in "${daemons[@]}"; do
  case $daemon in
    /*) paths=$((paths + 1)) ;;
    cri-o) [ -x "$CRI_O/bin/crio" ] || { echo "bench: no CRI-O at $CRI_O: build it (tests/beside/build.sh) or set CRI_O" >&2; exit 1; } ;;
    crio) [ -x "$CRIO" ] || { echo "bench: no daemon at $CRIO: build it (make build) or set CRIO" >&2; exit 1; } ;;
    *) command -v "$daemon" >/dev/null || { echo "bench: $daemon is not installed: apt-get install $daemon" >&2; exit 1; } ;;
  esac
done
if [ $paths -ne 0 ] && [ $paths -ne ${#daemons[@]} ]; then
  echo "bench: a socket's path cannot be measured together with a daemon's name" >&2
  exit 2
fi
"$here/../setup/install.sh" --run
mkdir -p "$out"
"$here/images.sh" "$out/images"
# The program that cargo names last is the one that was asked for.
BENCH=$(cd "$top" && cargo bench --locked --no-run --bench cri --message-format=json 2>/dev/null |
  jq -r 'select(.reason == "compiler-artifact" and .target.name == "cri") | .executable' | tail -1)
if [ $paths -gt 0 ]; then
  [ ${#quick[@]} -eq 0 ] || quick=(--rounds 2 --pods 4)
  beside
  exit
fi
node_dir bench
"$here/../setup/apart.sh" "$0" --inside "$NODE" "$BENCH" "${quick[@]}" "${daemons[@]}"
