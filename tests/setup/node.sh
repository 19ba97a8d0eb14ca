# shellcheck shell=bash
# A node in a directory: a registry, a network, a policy and the daemon, all with their files below $NODE.
#
# To be sourced, and used inside tests/setup/apart.sh: the network is a namespace of its own there, so
# that ports and addresses are always free. node_dir is for the outside.

# shellcheck source=tests/setup/oci.sh
. "$(dirname "${BASH_SOURCE[0]}")/oci.sh"

# node_dir NAME: makes the directory $NODE, to be removed when the script ends
#
# The path is short, because conmon's sockets must fit into 107 characters with a container's id.
node_dir() {
  NODE=$(mktemp -d "/var/tmp/crio.XXXXXX")
  chmod 755 "$NODE"
  trap 'rm -rf "$NODE"' EXIT
}

# node_registry DIR: serves the registry files of DIR on 127.0.0.1:5000, as a mirror of the public ones
#
# The files are copied, so that a kept directory stays as it was made.
node_registry() {
  cp -r "$1/registry" "$NODE/registry"
  oci_registry "$NODE" 5000
  mkdir -p "$NODE/registries.conf.d" "$NODE/registries.d"
  : >"$NODE/registries.conf"
  local name
  for name in registry.k8s.io k8s.gcr.io gcr.io; do
    cat >>"$NODE/registries.conf" <<-CONF
	[[registry]]
	prefix = "$name"
	location = "$name"
	[[registry.mirror]]
	location = "127.0.0.1:5000"
	insecure = true

	CONF
  done
}

# node_network: a bridge with addresses of its own; host ports are the daemon's
node_network() {
  mkdir -p "$NODE/cni" "$NODE/ipam"
  cat >"$NODE/cni/10-bridge.conflist" <<-JSON
	{
	  "cniVersion": "1.0.0", "name": "crioxide",
	  "plugins": [
	    {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
	     "ipam": {"type": "host-local", "dataDir": "$NODE/ipam", "routes": [{"dst": "0.0.0.0/0"}],
	              "ranges": [[{"subnet": "10.85.0.0/16"}]]}}
	  ]
	}
	JSON
}

# node_policy JSON: what may be pulled
node_policy() {
  mkdir -p "$NODE/policies"
  echo "$1" >"$NODE/policy.json"
}

# node_start COMMAND...: starts the daemon and waits for its socket; the log is $NODE/crio.log
node_start() {
  local runc
  runc=$(command -v runc)
  mkdir -p "$NODE/crio.conf.d" "$NODE/hooks" "$NODE/tmp" "$NODE/attach"
  cat >"$NODE/crio.conf" <<-TOML
	[crio.runtime]
	default_runtime = "runc"
	hooks_dir = ["$NODE/hooks"]

	[crio.runtime.runtimes.runc]
	runtime_path = "$runc"
	runtime_type = "oci"
	runtime_root = "$NODE/runc"
	monitor_path = "$(command -v conmon)"

	[crio.audit]
	audit_log = "$NODE/audit.log"
	audit_journald = false
	TOML
  "$@" --config "$NODE/crio.conf" --config-dir "$NODE/crio.conf.d" \
    --listen "$NODE/crio.sock" --root "$NODE/storage" --runroot "$NODE/storage-run" --storage-driver overlay \
    --log-dir "$NODE/pods" --log-level info --version-file "$NODE/version" --clean-shutdown-file "$NODE/clean.shutdown" \
    --cgroup-manager cgroupfs --conmon-cgroup pod --namespaces-dir "$NODE/ns" \
    --container-exits-dir "$NODE/exits" --container-attach-socket-dir "$NODE/attach" \
    --cni-config-dir "$NODE/cni" --cni-plugin-dir /usr/lib/cni \
    --signature-policy "$NODE/policy.json" --signature-policy-dir "$NODE/policies" \
    --registries-conf "$NODE/registries.conf" --registries-conf-dir "$NODE/registries.conf.d" \
    >"$NODE/crio.log" 2>&1 &
  NODE_DAEMON=$!
  for _ in $(seq 200); do
    [ ! -S "$NODE/crio.sock" ] || return 0
    kill -0 $NODE_DAEMON 2>/dev/null || break
    sleep 0.05
  done
  echo "node: the daemon did not come up:" >&2
  tail -20 "$NODE/crio.log" >&2
  return 1
}

# node_clear CRICTL: removes the pods that are still there
node_clear() {
  local pod status=0
  local crictl=("$1" --config "$NODE/crictl.yaml")
  echo "runtime-endpoint: unix://$NODE/crio.sock" >"$NODE/crictl.yaml"
  for pod in $("${crictl[@]}" --timeout 10s pods -q); do
    echo "node: removing pod $pod"
    "${crictl[@]}" --timeout 60s rmp -f "$pod" >/dev/null || status=1
  done
  return $status
}

# node_stop: ends the daemon as its service manager would
node_stop() {
  kill -TERM "$NODE_DAEMON" 2>/dev/null || { echo "node: the daemon was gone before its end" >&2; return 1; }
  for _ in $(seq 200); do
    kill -0 "$NODE_DAEMON" 2>/dev/null || break
    sleep 0.05
  done
  if kill -0 "$NODE_DAEMON" 2>/dev/null; then
    echo "node: the daemon does not stop on TERM" >&2
    kill -KILL "$NODE_DAEMON"
    return 1
  fi
  wait "$NODE_DAEMON" || { echo "node: the daemon ended with status $?" >&2; return 1; }
}

# node_leftovers: says what is still there of pods that were all removed, and fails if there is any
#
# The directories of pinned namespaces stay, each a mount of its own; what is in them must be gone.
node_leftovers() {
  local found
  found=$(
    pgrep -a 'conmon|runc' | sed 's/^/process /' | cut -c1-160 || true
    awk -v dir="$NODE/" 'index($2, dir) == 1 && $2 !~ /\/storage\/overlay$|\/ns\/[a-z]+ns$/ { print "mount " $2 }' /proc/self/mounts
    ip -o link show type veth | awk '{ print "interface " $2 }'
    find "$NODE/ipam" -type f -name '[0-9]*' -printf 'address %f\n' 2>/dev/null
    awk '$3 == "cgroup" || $3 == "cgroup2" { print $2 }' /proc/self/mounts |
      xargs -I{} find {} -mindepth 1 -type d -regex '.*[0-9a-f]\{64\}.*' -printf 'cgroup %p\n'
    find "$NODE/ns" -mindepth 2 -printf 'entry %p\n' 2>/dev/null
    find "$NODE/runc" "$NODE/exits" "$NODE/attach" "$NODE/attach/exec" -mindepth 1 -maxdepth 1 ! -name exec \
      -printf 'entry %p\n' 2>/dev/null
    iptables-save 2>/dev/null | grep -E -- '--dport|-d 10\.85\.' | sed 's/^/rule /' || true
    nft list ruleset 2>/dev/null | grep -E 'dport|10\.85\.0\.[0-9]+' | sed 's/^[[:space:]]*/rule /' || true
  )
  [ -z "$found" ] || { echo "node: left behind:" >&2; sort -u <<<"$found" | head -40 >&2; return 1; }
}
