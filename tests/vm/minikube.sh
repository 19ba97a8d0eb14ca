#!/bin/bash
# Tells whether the installed package is what minikube wants of a CRI-O: does in a machine what
# `minikube start --container-runtime=cri-o` and its other commands do there, in their order.
#
# The machine is thrown away afterwards. It needs podman and lz4, as minikube's node images have them.
#
# Usage: minikube.sh RUN [ARG...]
#   RUN ARG... DIR COMMAND   copies DIR to /in of the machine, runs COMMAND there as root, and gives its
#                            output and exit code
# Environment: DEB, the package (default target/crioxide_ARCH.deb; `make deb` makes it).
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)

# shellcheck source=tests/vm/play.sh
. "$here/play.sh"

PAUSE=registry.k8s.io/pause:3.10.2
# What minikube looks for before it uploads the archive of images, with names as kubeadm has them.
KUBERNETES=(registry.k8s.io/kube-apiserver:v1.36.0 registry.k8s.io/kube-scheduler:v1.36.0
  registry.k8s.io/coredns/coredns:v1.13.1 gcr.io/k8s-minikube/storage-provisioner:v5 "$PAUSE")

# images DIR: a registry with an image, an archive of one as `minikube image load` sends it, and the archive of a store
# that was filled elsewhere: what minikube downloads. One program under many names is enough.
images() {
  local dir=$1 root name store base
  mkdir -p "$dir/blobs" "$dir/root/bin"
  OCI_BLOBS=$dir/blobs
  oci_deb busybox-static "$dir/deb"
  root=$dir/root
  cp "$dir/deb/bin/busybox" "$root/bin/busybox"
  for name in sh sleep cat echo true ls wget; do ln -s busybox "$root/bin/$name"; done
  oci_registry "$dir"
  base=$(oci_layer "$root")
  oci_push "$(oci_image '{"Cmd": ["/bin/sleep", "100000"]}' "$base")" busybox 1
  mkdir -p "$dir/more/etc"
  echo mine >"$dir/more/etc/mine"
  oci_push "$(oci_image '{}' "$base" "$(oci_layer "$dir/more")")" mine 1
  store=$dir/store/lib/containers/storage
  mkdir -p "$store"
  for name in "${KUBERNETES[@]}"; do
    skopeo --insecure-policy copy -q --src-tls-verify=false "docker://$OCI_REGISTRY/busybox:1" \
      "containers-storage:[overlay@$store+$dir/run]$name"
  done
  ! mountpoint -q "$store/overlay" || umount "$store/overlay"
  tar --xattrs -I lz4 -C "$dir/store" -cf "$dir/preloaded.tar.lz4" ./lib/containers
  skopeo --insecure-policy copy -q --src-tls-verify=false "docker://$OCI_REGISTRY/mine:1" \
    "docker-archive:$dir/cached.tar:docker.io/library/cached:1"
  kill "$OCI_REGISTRY_PID"
  rm -rf "$dir"/{blobs,root,more,deb,store,run,registry.log,registry.yml}
}

# others DIR: a package like the one that minikube's base image has, whose place ours takes: its conffile names programs
# that go with it
others() {
  local dir=$1/cri-o
  mkdir -p "$dir"/DEBIAN "$dir"/usr/bin "$dir"/etc/crio/crio.conf.d
  printf '#!/bin/sh\necho another\n' >"$dir/usr/bin/crio"
  chmod 755 "$dir/usr/bin/crio"
  printf '%s\n' '[crio.image]' 'signature_policy = "/etc/crio/policy.json"' '' '[crio.runtime]' 'default_runtime = "crun"' '' \
    '[crio.runtime.runtimes.crun]' 'runtime_path = "/usr/libexec/crio/crun"' 'monitor_path = "/usr/libexec/crio/conmon"' \
    >"$dir/etc/crio/crio.conf.d/10-crio.conf"
  echo '{"default": [{"type": "insecureAcceptAnything"}]}' >"$dir/etc/crio/policy.json"
  printf '/etc/crio/crio.conf.d/10-crio.conf\n/etc/crio/policy.json\n' >"$dir/DEBIAN/conffiles"
  printf '%s\n' 'Package: cri-o' 'Version: 1.35.0-1.1' "Architecture: $(dpkg --print-architecture)" 'Maintainer: nobody' \
    'Description: another runtime' >"$dir/DEBIAN/control"
  dpkg-deb --root-owner-group --build "$dir" "$1/cri-o.deb" >/dev/null
  rm -r "$dir"
}

if [ "${1:-}" != --inside ]; then
  [ $# -gt 0 ] || { sed -n 's/^# \(Usage:.*\)/\1/p' "$0" >&2; exit 2; }
  top=$(cd "$here/../.." && pwd)
  deb=${DEB:-$top/target/crioxide_$(dpkg --print-architecture).deb}
  [ -f "$deb" ] || { echo "minikube.sh: there is no package $deb: make deb" >&2; exit 2; }
  # shellcheck source=tests/setup/oci.sh
  . "$top/tests/setup/oci.sh"
  "$top/tests/conformance/build.sh" crictl
  dir=$(mktemp -d /var/tmp/minikube.XXXXXX)
  trap 'kill "${OCI_REGISTRY_PID:-}" 2>/dev/null || true; rm -rf "$dir"' EXIT
  images "$dir"
  others "$dir"
  cp "$deb" "$dir/crioxide.deb"
  cp "$0" "$here"/{play,service}.sh "$top/tests/setup/oci.sh" "$top/tests/conformance/bin/crictl" "$(command -v docker-registry)" "$dir/"
  "$@" "$dir" "/in/minikube.sh --inside"
  exit
fi

export PATH=$here:$PATH
WORK=$(mktemp -d)
CONF=/etc/crio/crio.conf.d/02-crio.conf
SOCKET=/var/run/crio/crio.sock

# node: the machine as minikube's base image is once our package is in CRI-O's place
node() {
  local file
  mkdir -p /etc/crio/crio.conf.d /etc/cni/net.d /opt/cni/bin /etc/containers
  cp /usr/lib/cni/* /opt/cni/bin/
  install -m 755 "$here/crictl" /usr/local/bin/crictl
  printf '%s\n' '[crio.image]' '# pause_image = ""' '' '[crio.network]' '# cni_default_network = ""' '' '[crio.runtime]' \
    '# cgroup_manager = ""' >$CONF
  # Networks that others have left: minikube takes them out of the way.
  printf '{"cniVersion": "0.2.0", "name": "lo", "type": "loopback"}' >/etc/cni/net.d/200-loopback.conf
  for file in 87-podman-bridge 100-crio-bridge; do
    jq -n '{cniVersion: "0.4.0", name: "wrong", plugins: [{type: "bridge", bridge: "wrong", isGateway: true,
      ipam: {type: "host-local", subnet: "10.88.0.0/16"}}]}' >"/etc/cni/net.d/$file.conflist"
  done
  dpkg -i "$here/cri-o.deb" >/dev/null 2>&1
  is "the package takes the place of the other" 0 "$(service_install "$here/crioxide.deb" >"$WORK/apt"; echo $?)"
  is "which is gone" "no" "$(dpkg -s cri-o 2>/dev/null | grep -q '^Status: install' && echo yes || echo no)"
  is "with its settings" 0 "$(grep -c libexec/crio/crun /etc/crio/crio.conf.d/10-crio.conf || true)"
  crio --version >/dev/null || { cat "$WORK/apt"; exit 1; }
  # The base image has it installed, and leaves it to minikube to start it.
  systemctl disable --now crio >/dev/null 2>&1
  rm -f /etc/crictl.yaml
  modprobe -a overlay bridge veth nf_tables nft_chain_nat nft_compat xt_MASQUERADE xt_comment xt_multiport xt_mark \
    xt_addrtype xt_conntrack ip_tables iptable_nat iptable_filter 2>/dev/null || true
}

disabled() {
  find /etc/cni/net.d -maxdepth 1 -type f '(' '(' -name "$1" -or -name "${2:-$1}" ')' -and -not -name '*.mk_disabled' ')' \
    -exec sh -c 'mv {} {}.mk_disabled' ';'
}

networks() {
  podman version >/dev/null
  disabled '*loopback.conf*'
  disabled '*bridge*' '*podman*'
  is "no network is left" "" "$(find /etc/cni/net.d -name '*.conf*' -not -name '*.mk_disabled')"
}

# settings PAUSE MANAGER: minikube's edits
settings() {
  sed -i "s|^.*pause_image = .*\$|pause_image = \"$1\"|" $CONF
  sed -i "s|^.*cgroup_manager = .*\$|cgroup_manager = \"$2\"|" $CONF
  sed -i '/conmon_cgroup = .*/d' $CONF
  sed -i '/cgroup_manager = .*/a conmon_cgroup = "pod"' $CONF
  sed -i '/^ *"net.ipv4.ip_unprivileged_port_start=.*"/d' $CONF
  grep -q '^ *default_sysctls' $CONF || sed -i '/conmon_cgroup = .*/a default_sysctls = \[\n\]' $CONF
  sed -i -r 's|^default_sysctls *= *\[|&\n  "net.ipv4.ip_unprivileged_port_start=0",|' $CONF
}

enable() {
  mkdir -p /etc && printf %s "runtime-endpoint: unix://$SOCKET
" | tee /etc/crictl.yaml >/dev/null
  settings "$PAUSE" "$1"
  rm -rf /etc/cni/net.mk
  sysctl net.bridge.bridge-nf-call-iptables >/dev/null 2>&1 || modprobe br_netfilter
  echo 1 >/proc/sys/net/ipv4/ip_forward
  systemctl daemon-reload
  is "systemctl restart crio" 0 "$(systemctl restart crio; echo $?)"
  is "is-active" 0 "$(systemctl is-active --quiet service crio; echo $?)"
  is "the socket is there" 0 "$(soon stat $SOCKET; echo $?)"
  is "crictl version" 0 "$(soon crictl version; echo $?)"
}

# asks MANAGER: what minikube wants to know of it
asks() {
  is "the version" "$(dpkg-query -W -f '${Version}' crioxide | sed 's/-[^-]*$//; s/~.*//')" "$(crio --version | head -1 | sed 's/crio version //')"
  like "which crio" "/*bin/crio" "$(which crio)"
  is "/opt/cni/bin" 0 "$(stat /opt/cni/bin >/dev/null; echo $?)"
  # A line that is not there, as of a key that has its default, means systemd to minikube.
  is "crio config says the driver" "cgroup_manager = \"$1\"" \
    "$(crio config 2>/dev/null | grep '^cgroup_manager' || echo 'cgroup_manager = "systemd"')"
  is "crictl info" "cri-o true" "$(crictl --timeout=10s info | jq -r '"\(.runtimeName // "cri-o") \(.status.conditions[] | select(.type == "RuntimeReady").status)"')"
  is "the pause image" "$PAUSE" "$(crictl --timeout=10s info | jq -r '.config | (if type == "string" then fromjson else . end) | .sandboxImage')"
}

network_ready() { [ "$(crictl info | jq '.status.conditions[] | select(.type == "NetworkReady").status')" = "$1" ]; }

# network: minikube's own, dropped under the running daemon
network() {
  is "without a network it says so" 0 "$(soon network_ready false; echo $?)"
  jq -n '{cniVersion: "0.4.0", name: "bridge", plugins: [{type: "bridge", bridge: "bridge", addIf: "true", isDefaultGateway: true,
    forceAddress: false, ipMasq: true, hairpinMode: true, ipam: {type: "host-local", subnet: "10.244.0.0/16"}},
    {type: "portmap", capabilities: {portMappings: true}}, {type: "firewall"}]}' >/etc/cni/net.d/1-k8s.conflist
  is "the network that is dropped is seen" 0 "$(soon network_ready true; echo $?)"
}

tags() { crictl --timeout=10s images --output json | jq -r '.images[].repoTags[]' | sort; }
has_tag() { tags | grep -Fxq "$1"; }

# preload: the archive goes over /var while the daemon runs, and what was here before is kept
preload() {
  local backup name before
  backup=$(mktemp -d)
  podman load -q -i "$here/cached.tar" >/dev/null
  podman tag docker.io/library/cached:1 localhost/mine:1
  podman rmi docker.io/library/cached:1 >/dev/null
  is "an image that podman loaded is listed" localhost/mine:1 "$(tags)"
  podman save -q localhost/mine:1 -o "$backup/mine.tar"
  before=$(systemctl show -P MainPID crio)
  tar --xattrs --xattrs-include security.capability -I lz4 -C /var -xf "$here/preloaded.tar.lz4"
  for name in "${KUBERNETES[@]}"; do
    is "preloaded: $name" 0 "$(has_tag "$name"; echo $?)"
  done
  podman load -q -i "$backup/mine.tar" >/dev/null
  is "and what was saved is back" 0 "$(has_tag localhost/mine:1; echo $?)"
  is "podman sees the preloaded ones" 0 "$(podman image exists "${KUBERNETES[0]}"; echo $?)"
  is "nothing was restarted" "$before" "$(systemctl show -P MainPID crio)"
  rm -rf "$backup"
}

# pod_json NAME NAMESPACE: as the kubelet of minikube's containers asks: without a parent cgroup
pod_json() {
  jq -n --arg name "$1" --arg namespace "$2" '{metadata: {name: $name, namespace: $namespace, uid: $name, attempt: 0},
    hostname: $name, log_directory: ("/var/log/pods/" + $name), labels: {"io.kubernetes.pod.name": $name,
    "io.kubernetes.pod.namespace": $namespace, "io.kubernetes.pod.uid": $name},
    linux: {security_context: {namespace_options: {pid: 1}}}}' >"$WORK/$1.json"
}

# start POD_NAME NAMESPACE IMAGE: a pod with a container that writes down what it sees; sets POD and ID
start() {
  pod_json "$1" "$2"
  jq -n --arg image "$3" --arg namespace "$2" '{metadata: {name: "main"}, image: {image: $image}, log_path: "main.log",
    labels: {"io.kubernetes.container.name": "main", "io.kubernetes.pod.namespace": $namespace},
    linux: {security_context: {namespace_options: {pid: 1}}},
    command: ["/bin/sh", "-c", "echo started; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; while :; do sleep 1; done"]}' >"$WORK/main.json"
  POD=$(cri runp "$WORK/$1.json")
  ID=$(cri create "$POD" "$WORK/main.json" "$WORK/$1.json")
  cri start "$ID" >/dev/null
}

logged() { crictl logs --tail 5 "$ID" 2>&1; }
said_started() { logged | grep -q started; }
# run_list STATE: the ids that the runtime, asked as minikube asks it, has in a state
run_list() { runc list -f json | jq -r --arg state "$1" '.[] | select(.status == $state).id'; }

# pods CGROUP: a container from the preloaded images, and what `minikube pause`, `logs` and `stop` do to it
pods() {
  local cgroup
  echo "pods:"
  start apiserver kube-system "${KUBERNETES[0]}"
  is "a preloaded image runs" 0 "$(soon said_started; echo $?)"
  is "with minikube's setting of the kernel" "started 0" "$(logged | tr '\n' ' ' | sed 's/ $//')"
  like "and an address of minikube's network" "10.244.*" "$(cri inspectp "$POD" | jq -r .status.network.ip)"
  cgroup=$(sed -n 's/^0:://p' "/proc/$(pid_of "$ID")/cgroup")
  like "in the cgroup that it has without a parent" "$1" "$cgroup"
  is "listed by namespace" "$ID" "$(crictl --timeout=10s ps -a --quiet --label io.kubernetes.pod.namespace=kube-system)"
  is "listed by name" "$ID" "$(crictl --timeout=10s ps -a --quiet --name=main)"
  is "another namespace has none" "" "$(crictl --timeout=10s ps -a --quiet --label io.kubernetes.pod.namespace=other)"
  is "runc list sees it" "$ID" "$(run_list running)"
  is "runc pause" 0 "$(runc pause "$ID"; echo $?)"
  is "it is paused" "$ID" "$(run_list paused)"
  is "and still listed" "$ID" "$(crictl --timeout=10s ps -a --quiet)"
  is "runc resume" 0 "$(runc resume "$ID"; echo $?)"
  is "it runs again" "$ID" "$(run_list running)"
  systemctl restart crio
  is "a restart leaves it alone" "$ID $ID" "$(run_list running) $(crictl ps --quiet)"
  is "crictl stop" "$ID" "$(crictl stop --timeout=10 "$ID")"
  is "it has ended" CONTAINER_EXITED "$(cri inspect "$ID" | jq -r .status.state)"
  is "crictl rm --force" "$ID" "$(crictl rm --force "$ID")"
  is "none is left" "" "$(crictl ps -a --quiet)"
  cri rmp -f "$POD" >/dev/null
}

# cached: `minikube image load, save, tag, build, pull, rm`
cached() {
  local id
  echo "minikube image:"
  podman load -i "$here/cached.tar" >/dev/null
  id=$(podman image inspect --format '{{.Id}}' docker.io/library/cached:1)
  is "the same image by both" "$id" "$(crictl images --output json | jq -r '.images[] | select(.repoTags[] == "docker.io/library/cached:1").id')"
  podman tag docker.io/library/cached:1 docker.io/library/again:1
  is "a tag is seen" 0 "$(has_tag docker.io/library/again:1; echo $?)"
  podman save docker.io/library/again:1 -o "$WORK/again.tar" 2>/dev/null
  is "saved" 0 "$(test -s "$WORK/again.tar"; echo $?)"
  mkdir -p "$WORK/build"
  echo content >"$WORK/build/content.txt"
  printf 'FROM docker.io/library/cached:1\nRUN true\nADD content.txt /\n' >"$WORK/build/Dockerfile"
  is "podman build" 0 "$(podman build -t localhost/my-image:functional "$WORK/build" --cgroup-manager=cgroupfs >"$WORK/built" 2>&1; echo $?)"
  grep -q 'Successfully tagged' "$WORK/built" || cat "$WORK/built"
  start built default localhost/my-image:functional
  is "what was built runs" content "$(cri exec --sync "$ID" cat /content.txt)"
  cri rmp -f "$POD" >/dev/null
  removed docker.io/library/again:1
  is "only that name goes" 0 "$(has_tag docker.io/library/cached:1; echo $?)"
  removed cached:1
  removed my-image:functional localhost/
}

# removed NAME [PREFIX]: `minikube image rm`: crictl, under the name with one host and another, and no trace after it
removed() {
  crictl rmi "$1" >/dev/null 2>&1 || crictl rmi "docker.io/library/$1" >/dev/null 2>&1 || crictl rmi "${2:-localhost/}$1" >/dev/null
  is "removed: $1" "" "$(crictl images --quiet "$1")"
}

# registry: `minikube start --insecure-registry`, and a pull
registry() {
  # shellcheck source=tests/setup/oci.sh
  . "$here/oci.sh"
  oci_registry "$here"
  mkdir -p /etc/sysconfig && printf %s "
CRIO_MINIKUBE_OPTIONS='--insecure-registry $OCI_REGISTRY '
" | tee /etc/sysconfig/crio.minikube >/dev/null
  is "minikube's flags are taken" 0 "$(systemctl restart crio; echo $?)"
  like "they are on the command line" "*--insecure-registry*$OCI_REGISTRY*" "$(tr '\0' ' ' <"/proc/$(systemctl show -P MainPID crio)/cmdline")"
  like "and it says what counts instead" "*insecure-registry*registries.conf*" "$(journalctl -u crio -n 50 -o cat --no-pager)"
  refused "plain HTTP is not spoken for that" "*registries.conf*" crictl pull "$OCI_REGISTRY/busybox:1"
  # The older version of the file, as minikube's machines have it.
  printf "[registries.search]\nregistries = ['docker.io']\n\n[registries.insecure]\nregistries = ['%s']\n" "$OCI_REGISTRY" >/etc/containers/registries.conf
  rm -f /etc/containers/registries.conf.d/*
  systemctl restart crio
  is "crictl pull" 0 "$(crictl pull "$OCI_REGISTRY/busybox:1" >/dev/null; echo $?)"
  is "podman has it" 0 "$(podman image inspect --format '{{.Id}}' "$OCI_REGISTRY/busybox:1" >/dev/null; echo $?)"
  removed "$OCI_REGISTRY/busybox:1"
}

# machine: minikube's virtual machines have an older, full crio.conf, and no package
machine() {
  echo "with the crio.conf of minikube's virtual machines:"
  cat >/etc/crio/crio.conf <<-'CONF'
	[crio]
	root = "/var/lib/containers/storage"
	runroot = "/var/run/containers/storage"
	storage_driver = "overlay"
	storage_option = [
		"overlay.mountopt=nodev,metacopy=on",
	]
	log_dir = "/var/log/crio/pods"
	version_file = "/var/run/crio/version"
	[crio.api]
	listen = "/var/run/crio/crio.sock"
	stream_enable_tls = false
	grpc_max_send_msg_size = 16777216
	grpc_max_recv_msg_size = 16777216
	[crio.runtime]
	no_pivot = false
	decryption_keys_path = "/etc/crio/keys/"
	conmon = "/usr/bin/conmon"
	conmon_cgroup = "system.slice"
	conmon_env = [
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
	]
	selinux = false
	apparmor_profile = "crio-default"
	cgroup_manager = "systemd"
	default_sysctls = [
	]
	hooks_dir = [
		"/usr/share/containers/oci/hooks.d",
	]
	pids_limit = 1024
	manage_ns_lifecycle = true
	pinns_path = "/usr/bin/pinns"
	default_runtime = "runc"
	[crio.runtime.runtimes.runc]
	runtime_path = "/usr/bin/runc"
	runtime_type = "oci"
	runtime_root = "/run/runc"
	[crio.image]
	pause_image = "registry.k8s.io/pause:3.2"
	signature_policy = ""
	image_volumes = "mkdir"
	[crio.network]
	network_dir = "/etc/cni/net.d/"
	plugin_dirs = [
		"/opt/cni/bin/",
	]
	[crio.metrics]
	enable_metrics = true
	metrics_port = 9090
	CONF
  is "it starts" 0 "$(systemctl restart crio; echo $?)"
  is "the drop-in goes before it" "$PAUSE" "$(crictl info | jq -r '.config | (if type == "string" then fromjson else . end) | .sandboxImage')"
  is "the store is the same" 0 "$(has_tag "${KUBERNETES[0]}"; echo $?)"
}

# rootless: what minikube drops for a node in a user namespace is taken
rootless() {
  mkdir -p /etc/systemd/system/crio.service.d
  printf '[Service]\nEnvironment="_CRIO_ROOTLESS=1"\n' >/etc/systemd/system/crio.service.d/10-rootless.conf
  systemctl daemon-reload
  is "the drop-in for rootless nodes is taken" 0 "$(systemctl restart crio; echo $?)"
  rm -r /etc/systemd/system/crio.service.d
  systemctl daemon-reload
}

over() {
  is "systemctl stop -f crio" 0 "$(systemctl stop -f crio; echo $?)"
  is "it ended well" success "$(systemctl show -P Result crio)"
  is "a unit that is not there is told by 5" 5 "$(systemctl restart no-such-runtime 2>/dev/null || echo $?)"
  like "its log is where minikube reads it" "*crio*" "$(journalctl -u crio -n 5 --no-pager)"
  is "without errors" "" "$(journalctl -u crio -o cat --no-pager | grep ' level=error ' | grep -v "$OCI_REGISTRY" || true)"
}

trap 'kill "${OCI_REGISTRY_PID:-}" 2>/dev/null || true; rm -rf "$WORK"' EXIT
echo "start:"
node
networks
enable systemd
asks systemd
network
preload
pods "/system.slice/crio-*"
cached
registry
rootless
machine
echo "again, with the other driver:"
enable cgroupfs
asks cgroupfs
pods "/crio/crio-*"
over
played
