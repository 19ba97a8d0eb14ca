# shellcheck shell=bash
# The daemon as a service of a machine that is thrown away, in its usual places, with a registry and a network.
#
# To be sourced inside the machine, from the directory that was copied in: it holds crio, crictl,
# docker-registry, oci.sh and registry/.

# service_files DIR: what every script here copies into its machine
service_files() {
  local top=$1 dir=$2
  "$top/tests/conformance/build.sh"
  "$top/tests/conformance/images.sh" "$top/target/conformance/images"
  cp "${CRIO:-$top/target/release/crio}" "$dir/crio"
  cp "$top/tests/conformance/bin/crictl" "$(command -v docker-registry)" "$top/tests/vm/service.sh" "$top/tests/setup/oci.sh" "$dir/"
  cp -r "$top/target/conformance/images/registry" "$dir/registry"
}

# service_start DIR MANAGER: installs the daemon, starts its service and waits until it answers
service_start() {
  local here=$1 name
  mkdir -p /etc/cni/net.d /etc/containers /etc/crio/crio.conf.d /run/systemd/system
  # In the usual places: SELinux knows the daemon and the plugins by their paths.
  install -m 755 "$here/crio" /usr/bin/crio
  mkdir -p /opt/cni/bin
  cp /usr/lib/cni/* /opt/cni/bin/
  # What a node's own start-up loads; SELinux does not let the daemon ask the kernel for more.
  modprobe -a overlay bridge veth br_netfilter nf_tables nft_chain_nat nft_compat xt_MASQUERADE xt_comment xt_multiport xt_mark \
    xt_addrtype xt_conntrack ip_tables iptable_nat iptable_filter 2>/dev/null || true
  [ ! -e /sys/fs/selinux/enforce ] || restorecon -R /usr/bin/crio /opt/cni /etc
  jq -n '{cniVersion: "1.0.0", name: "vm", plugins: [{type: "bridge", bridge: "cni0", isGateway: true,
    ipMasq: true, ipam: {type: "host-local", routes: [{dst: "0.0.0.0/0"}], ranges: [[{subnet: "10.85.0.0/16"}]]}},
    {type: "portmap", capabilities: {portMappings: true}}]}' >/etc/cni/net.d/10-vm.conflist
  echo '{"default": [{"type": "insecureAcceptAnything"}]}' >/etc/containers/policy.json
  printf '[crio.runtime]\ncgroup_manager = "%s"\n' "$2" >/etc/crio/crio.conf.d/10-vm.conf
  # No KillMode: what is still in the service's cgroup dies with it.
  printf '[Service]\nType=notify\nExecStart=/usr/bin/crio\nTimeoutStartSec=300\n' \
    >/run/systemd/system/crio.service
  # shellcheck source=tests/setup/oci.sh
  . "$here/oci.sh"
  oci_registry "$here"
  : >/etc/containers/registries.conf
  for name in "$OCI_REGISTRY" registry.k8s.io k8s.gcr.io gcr.io; do
    printf '[[registry]]\nprefix = "%s"\nlocation = "%s"\ninsecure = true\n\n' "$name" "$OCI_REGISTRY" >>/etc/containers/registries.conf
  done
  echo 'runtime-endpoint: unix:///var/run/crio/crio.sock' >/etc/crictl.yaml
  systemctl daemon-reload
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
