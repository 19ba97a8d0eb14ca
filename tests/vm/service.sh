# shellcheck shell=bash
# The package on a machine that is thrown away: its service, with a registry and a network.
#
# To be sourced inside the machine, from the directory that was copied in: it holds crioxide.deb, crictl,
# docker-registry, oci.sh and registry/.

# service_files DIR: what every script here copies into its machine
service_files() {
  local top=$1 dir=$2
  "$top/tests/conformance/build.sh"
  "$top/tests/conformance/images.sh" "$top/target/conformance/images"
  cp "${DEB:-$top/target/crioxide_$(dpkg --print-architecture).deb}" "$dir/crioxide.deb"
  cp "$top/tests/conformance/bin/crictl" "$(command -v docker-registry)" "$top/tests/vm/service.sh" "$top/tests/setup/oci.sh" "$dir/"
  cp -r "$top/target/conformance/images/registry" "$dir/registry"
}

# service_install FILE: a package that lies there; what it depends on is there already, and nobody answers questions
service_install() {
  # A machine whose kernel has AppArmor on has no policy of SELinux; to build that again would take minutes.
  [ -e /sys/fs/selinux/enforce ] || rm -f /etc/selinux/config
  DEBIAN_FRONTEND=noninteractive apt-get install -qqy -o Dpkg::Options::=--force-confold "$1" >/tmp/apt.log 2>&1 || { cat /tmp/apt.log; return 1; }
}

# service_registry DIR: all names of registries lead to one on loopback
service_registry() {
  local name
  # shellcheck source=tests/setup/oci.sh
  . "$1/oci.sh"
  oci_registry "$1"
  mkdir -p /etc/containers
  for name in "$OCI_REGISTRY" registry.k8s.io k8s.gcr.io gcr.io; do
    printf '[[registry]]\nprefix = "%s"\nlocation = "%s"\ninsecure = true\n\n' "$name" "$OCI_REGISTRY"
  done >/etc/containers/registries.conf
}

# service_start DIR MANAGER: installs the package if it is not, tells it of this machine, and waits until it answers
service_start() {
  local here=$1
  [ -x /usr/bin/crio ] || service_install "$here/crioxide.deb"
  jq -n '{cniVersion: "1.0.0", name: "vm", plugins: [{type: "bridge", bridge: "cni0", isGateway: true,
    ipMasq: true, ipam: {type: "host-local", routes: [{dst: "0.0.0.0/0"}], ranges: [[{subnet: "10.85.0.0/16"}]]}},
    {type: "portmap", capabilities: {portMappings: true}}]}' >/etc/cni/net.d/10-vm.conflist
  printf '[crio.runtime]\ncgroup_manager = "%s"\n' "$2" >/etc/crio/crio.conf.d/10-vm.conf
  service_registry "$here"
  systemctl restart crio.service || { service_log 20; return 1; }
}

# service_log LINES: the end of what the daemon said, and of what SELinux denied
service_log() {
  journalctl -u crio.service --no-pager -n "$1" -o cat
  dmesg | grep 'avc: *denied' | grep -E 'crio_t|container|spc_t' | sed 's/.*avc:/avc:/' | tail -n "$1" || true
}

# service_end: stops the daemon and the registry; fails if the daemon did not end well
service_end() {
  systemctl stop crio.service
  kill "$OCI_REGISTRY_PID" 2>/dev/null || true
  [ "$(systemctl show -P Result crio.service)" = success ] || { echo "the daemon did not end well"; return 1; }
}
