#!/bin/bash
# Tells whether host ports carry SCTP, which few kernels have: from the node, from another pod and from the pod
# itself, beside TCP under the same number; and that nothing of them stays.
#
# The machine is thrown away afterwards. Its kernel has the module sctp; traffic is socat's.
#
# Usage: host_ports.sh RUN [ARG...]
#   RUN ARG... DIR COMMAND   copies DIR to /in of the machine, runs COMMAND there as root, and gives its
#                            output and exit code
# Environment: DEB, the package (default target/crioxide_ARCH.deb).
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)

# shellcheck source=tests/vm/play.sh
. "$here/play.sh"
begin "$@"

# within ID COMMAND...: in the network of a container's pod
within() {
  local id=$1
  shift
  nsenter --net="/proc/$(pid_of "$id")/ns/net" "$@"
}

# heard PROTOCOL ADDRESS: what is said at port 45000 there; only heard, for SCTP knows no half-closed connection
heard() { timeout 20 socat -u "$1-CONNECT:$2:45000" - 2>&1 || true; }

# serve ID PROTOCOL: says who it is at port 5000 of a pod, from the background
serve() {
  # Not by `within`, whose shell would be what is killed in the end.
  nsenter --net="/proc/$(pid_of "$1")/ns/net" socat "$2-LISTEN:5000,fork,reuseaddr" "SYSTEM:echo $2 of the pod" >/dev/null 2>&1 &
  SERVERS="$SERVERS $!"
}

SERVERS=''
trap 'kill $SERVERS "${OCI_REGISTRY_PID:-}" 2>/dev/null || true; rm -rf "$WORK"' EXIT
modprobe sctp || { echo "host_ports: this kernel has no SCTP" >&2; exit 1; }
MANAGER=systemd
parents
service_start "$here" $MANAGER
# Our own host ports, and no plugin beside them; and a bridge that lets a pod reach itself. Copied, because a file that is
# moved keeps the label of where it was, and SELinux keeps the daemon from it.
jq 'del(.plugins[1]) | .plugins[0].hairpinMode = true' /etc/cni/net.d/10-vm.conflist >"$WORK/net" && cp "$WORK/net" /etc/cni/net.d/10-vm.conflist
IMAGE=registry.k8s.io/e2e-test-images/busybox:1.29-2
cri pull $IMAGE >/dev/null
node=$(ip -4 -o addr show scope global | sed -n 's/.* inet \(10\.0\.2\.[0-9]*\).*/\1/p' | head -1)

pod_config serves "$PARENT"
jq '.port_mappings = [{protocol: 2, container_port: 5000, host_port: 45000}, {protocol: 0, container_port: 5000, host_port: 45000}]' \
  "$WORK/serves.json" >"$WORK/ports.json"
mv "$WORK/ports.json" "$WORK/serves.json"
serves=$(cri runp "$WORK/serves.json")
server=$(run main serves "$serves" '{}' sleep 10000)
asks=$(run_pod asks "$PARENT")
client=$(run main asks "$asks" '{}' sleep 10000)
serve "$server" SCTP
serve "$server" TCP
listens() { within "$server" ss -Hln --sctp | grep -q :5000; }
soon listens || true
for protocol in SCTP TCP; do
  echo "$protocol:"
  is "from the node, by its address" "$protocol of the pod" "$(heard $protocol "$node")"
  is "from the node, by 127.0.0.1" "$protocol of the pod" "$(heard $protocol 127.0.0.1)"
  is "from another pod" "$protocol of the pod" "$(within "$client" bash -c "$(declare -f heard); heard $protocol $node")"
  is "from the pod itself" "$protocol of the pod" "$(within "$server" bash -c "$(declare -f heard); heard $protocol $node")"
done
cri rmp -f "$serves" "$asks" >/dev/null
like "afterwards nobody answers" '!(*of the pod*)' "$(heard SCTP "$node")"
is "and no rule names the port" "" "$(nft list ruleset | grep 45000 || true)"
service_end || BAD=1
played
