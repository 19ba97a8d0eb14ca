# shellcheck shell=bash
# Nodes that a package is installed on: a Debian of their own in a directory, with nothing running. To be sourced by a
# script, which then runs apart from the machine: in mount and process namespaces that end with it.
set -euo pipefail
self=$(realpath "$0")
[ -n "${PACKAGES_APART:-}" ] || PACKAGES_APART=1 exec unshare --mount --propagation private --pid --fork --kill-child "$self" "$@"
here=$PWD
cd "$(dirname "$self")/../.."

tree=${PACKAGES_TREE:-$PWD/target/test-packages/tree}
work=$PWD/target/test-packages/$(basename "$self" .sh)
mkdir -p "$work"
mount -t tmpfs tmpfs "$work"
node=

good() { echo "  $1"; }
bad() { echo "  FAILED: $1" >&2; exit 1; }

# fresh: another node, which becomes $node
fresh() {
  local at
  at=$(mktemp -d "$work/XXXX")
  mkdir "$at/up" "$at/work" "$at/node"
  node=$at/node
  mount -t overlay overlay -o "lowerdir=$tree,upperdir=$at/up,workdir=$at/work" "$node"
  mount -t proc proc "$node/proc"
  mkdir -p "$node/in"
}

# on COMMAND...: on the node, as its root
on() {
  chroot "$node" env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \
    DEBIAN_FRONTEND=noninteractive "$@"
}

# state: all files of the node with owner and mode, and what is in /etc; without the tools' own books
state() {
  (cd "$node" && find . -xdev -mindepth 1 \( -path ./in -o -path ./var/lib/dpkg -o -path ./var/lib/rpm -o -path ./var/cache -o -path ./run/systemd \
    -o -path './var/log/apt' -o -path './var/lib/apt' -o -path './var/lib/selinux' \) -prune -o -printf '%p %y %m %U:%G %l\n' |
    grep -Ev '^\./var/log/(dpkg|alternatives)\.log |^\./etc/selinux/[a-z]*/(policy|contexts/files)/' | LC_ALL=C sort
    find etc -xdev -type f ! -path 'etc/selinux/*' -exec sha256sum {} + | LC_ALL=C sort -k2)
}

# same WHAT BEFORE: fails, and shows how, unless the node is as it was
same() {
  diff <(echo "$2") <(state) >"$work/diff" || { cat "$work/diff" >&2; bad "$1"; }
  good "$1"
}

# refused WHAT PATTERN COMMAND...: it must fail, and say so
refused() {
  local what=$1 pattern=$2 said
  shift 2
  if said=$("$@" 2>&1); then bad "$what: done"; fi
  grep -Eq "$pattern" <<<"$said" || { echo "$said" >&2; bad "$what: not in these words"; }
  good "$what"
}

# holds WHAT FILE TEXT; lacks WHAT PATH...
holds() { on grep -qF -- "$3" "$2" || bad "$1: $2 does not say $3"; good "$1"; }
lacks() {
  local what=$1 path
  shift
  for path in "$@"; do [ ! -e "$node$path" ] && [ ! -L "$node$path" ] || bad "$what: $path is there"; done
  good "$what"
}

# works: what is installed can be used
works() {
  local page
  [ "$(on crio --version | head -1)" = "crio version $(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -1)" ] || bad "crio --version"
  on crio config >"$work/config" 2>"$work/warnings" || { cat "$work/warnings" >&2; bad "crio config"; }
  [ ! -s "$work/warnings" ] || { cat "$work/warnings" >&2; bad "the shipped configuration is warned of"; }
  grep -q '^signature_policy = "/etc/crio/policy.json"' "$work/config" || bad "the shipped drop-in is not read"
  on crio policy check /etc/crio/policy.json >/dev/null || bad "the shipped policy"
  on sh -c 'bash -n /usr/share/bash-completion/completions/crio'
  for page in man8/crio.8 man5/crio.conf.5 man5/crio.conf.d.5 man5/crio-policy.5; do
    zgrep -q '^\.TH' "$node/usr/share/man/$page.gz" || bad "$page is no manual page"
  done
  on systemd-analyze verify --man=no crio.service crio-wipe.service >"$work/units" 2>&1 || true
  ! grep -E 'crio(-wipe)?\.service' "$work/units" || bad "a unit is not understood"
  ! grep -Eq '^ *(pause_image|cgroup_manager|conmon_cgroup|default_sysctls) *=' "$node/etc/crio/crio.conf.d/10-crio.conf" ||
    bad "what minikube writes to 02-crio.conf would lose against 10-crio.conf"
  [ -f "$node/etc/cni/net.d/10-crio-bridge.conflist.disabled" ] && [ ! -e "$node/etc/cni/net.d/10-crio-bridge.conflist" ] ||
    bad "the example of a network is not disabled"
  good "what is installed works: program, configuration, policy, units, manual pages"
}

# module yes|no: whether the SELinux module is in the node's policy
module() {
  local found=no list
  list=$(on semodule -lfull)
  ! grep -Eq '^200 crioxide +cil' <<<"$list" || found=yes
  [ "$found" = "$1" ] || bad "the SELinux module: in the policy: $found"
  good "the SELinux module: in the policy: $1"
}
