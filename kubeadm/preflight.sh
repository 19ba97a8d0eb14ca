#!/bin/bash
# Says what a node lacks to run Kubernetes with crioxide, and how to mend each.
#
# Changes nothing. Exits with 1 if something is missing, with 0 if only warnings are left.
# Usage: preflight.sh [--root DIR] [--socket PATH]     (DIR: look at a node's files below it)
set -uo pipefail

root= socket=/var/run/crio/crio.sock
while [ $# -gt 0 ]; do
  case $1 in
    --root) root=${2%/}; shift 2 ;;
    --socket) socket=$2; shift 2 ;;
    *) sed -n '2,5s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
  esac
done

missing=0
good() { printf 'good     %s\n' "$1"; }
lacks() { printf 'MISSING  %s\n         mend: %s\n' "$1" "$2"; missing=$((missing + 1)); }
warns() { printf 'warning  %s\n         mend: %s\n' "$1" "$2"; }

# there NAME: whether a program is installed
there() {
  local directory
  for directory in /usr/local/sbin /usr/local/bin /usr/sbin /usr/bin /sbin /bin; do
    [ ! -x "$root$directory/$1" ] || return 0
  done
  return 1
}

# has NAME PACKAGE [optional]: a program
has() {
  if there "$1"; then good "$1"; return; fi
  if [ "${3:-}" = optional ]; then warns "$1 is not installed" "install $2"; else lacks "$1 is not installed" "install $2"; fi
}

# is FILE VALUE NAME: a kernel setting
is() {
  local value
  value=$(cat "$root/proc/sys/$1" 2>/dev/null) || value=absent
  if [ "$value" = "$2" ]; then good "$3 = $2"; return; fi
  lacks "$3 is $value, not $2" "sysctl -w $3=$2 (the package's /usr/lib/sysctl.d/99-crio.conf keeps it)"
}

has crio crioxide
# Where runc is not, pods run with crun.
if there crun; then good crun; else has runc 'runc or crun'; fi
has conmon conmon
has crictl 'cri-tools' optional
has kubelet kubelet
has kubeadm kubeadm
# Without these kubeadm refuses.
has mount util-linux
has losetup 'mount or util-linux'
if there nft; then good nft; else has iptables 'nftables or iptables'; fi

# any FILE...: whether one of them is there; a pattern that nothing matches is none
any() {
  local file
  for file in "$@"; do
    [ ! -e "$file" ] || return 0
  done
  return 1
}

if any "$root"/opt/cni/bin/* "$root"/usr/lib/cni/*; then
  good 'CNI plugins'
else
  lacks 'there are no CNI plugins in /opt/cni/bin or /usr/lib/cni' 'install containernetworking-plugins or kubernetes-cni'
fi
if any "$root"/etc/cni/net.d/*.conf "$root"/etc/cni/net.d/*.conflist "$root"/etc/cni/net.d/*.json; then
  good 'a CNI network'
else
  warns 'there is no CNI network in /etc/cni/net.d: nodes stay NotReady' \
    'install a network add-on after kubeadm init, or on a single node: cp /etc/cni/net.d/10-crio-bridge.conflist.disabled /etc/cni/net.d/10-crio-bridge.conflist'
fi

is net/ipv4/ip_forward 1 net.ipv4.ip_forward
if [ -e "$root/proc/sys/net/bridge/bridge-nf-call-iptables" ]; then
  is net/bridge/bridge-nf-call-iptables 1 net.bridge.bridge-nf-call-iptables
else
  lacks 'the module br_netfilter is not loaded' 'modprobe br_netfilter (the package loads it at boot)'
fi
if grep -qw overlay "$root/proc/filesystems" 2>/dev/null; then
  good 'overlay file system'
else
  lacks 'the kernel has no overlay file system' 'modprobe overlay (the package loads it at boot)'
fi
if [ "$(wc -l <"$root/proc/swaps" 2>/dev/null || echo 1)" -le 1 ]; then
  good 'no swap'
else
  warns 'swap is on: the kubelet refuses to start by default' 'swapoff -a and take it out of /etc/fstab, or set failSwapOn: false'
fi
if [ -e "$root/sys/fs/cgroup/cgroup.controllers" ]; then
  good 'cgroup v2'
else
  warns 'this node has cgroup v1, which new kubelets refuse' 'boot with systemd.unified_cgroup_hierarchy=1'
fi
if [ -e "$root/etc/crio/policy.json" ] || [ -e "$root/etc/containers/policy.json" ]; then
  good 'a policy'
else
  lacks 'there is no policy: no image may run' 'cp /usr/share/crioxide/policy/default.json /etc/crio/policy.json'
fi

for other in containerd/containerd.sock cri-dockerd.sock; do
  if [ -S "$root/run/$other" ]; then
    warns "another runtime listens on /run/$other: kubeadm asks which one" 'give kubeadm --config with criSocket, as init.yaml has it'
  fi
done
if [ -z "$root" ]; then
  if [ -S "$socket" ]; then
    good "the daemon listens on $socket"
  else
    lacks "nobody listens on $socket" 'systemctl enable --now crio; journalctl -u crio -n 50 says why it does not start'
  fi
fi

if [ $missing -gt 0 ]; then
  echo "$missing missing"
  exit 1
fi
echo 'this node is ready'
