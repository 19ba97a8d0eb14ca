#!/bin/bash
# Does every command that the documents name, and compares what they quote.
#
# A console block says in its first line what its commands need, and is tried with at least that:
#   tree       the sources, and the tools that building needs
#   built      the program and its packaged files
#   node       the running daemon and a registry too
#   vm         an installed package under systemd: tests/vm/docs.sh
#   elsewhere  what cannot be tried here; elsewhere.list says why
#
# built and node are done apart (tests/setup/apart.sh), on what looks like a node: /etc, /usr, /var and /run are
# thrown away afterwards.
#
# Usage: run.sh check | tree | built | node | plan [DOCUMENT...]      (check: every block has a stage, every exception a
# reason; plan: what is to be done, as lines of shell)
# Environment: CRIO, the program (default target/debug/crio).
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
# shellcheck source=tests/setup/node.sh
. "$here/../setup/node.sh"
# shellcheck source=tests/docs/scene.sh
. "$here/scene.sh"

# documents: those with commands for readers, in the order in which they are played
documents() {
  cd "$top"
  ls -U README.md docs/*.md kubeadm/README.md policy/README.md packaging/README.md SECURITY.md BENCHMARKS.md CONTRIBUTING.md \
    2>/dev/null || true
}

# plan [DOCUMENT...]
plan() { (cd "$top" && if [ $# -gt 0 ]; then awk -f "$here/commands.awk" "$@"; else documents | xargs awk -f "$here/commands.awk"; fi); }

# check: nothing is left out, and nothing is excused that is not there
check() {
  local status=0 begin reason
  declare -A excused used
  fault() { echo "BAD  $1: $2"; status=1; }
  document() { :; }
  file() { :; }
  try() {
    [ "$2" = elsewhere ] || return 0
    local begin
    for begin in "${!excused[@]}"; do
      if [ "${4#"$begin"}" != "$4" ]; then
        [ -n "${used[$begin]:-}" ] || echo "not tried: $begin: ${excused[$begin]}"
        used[$begin]=yes
        return
      fi
    done
    fault "$1" "elsewhere.list does not say why \"$4\" is not tried"
  }
  while IFS=$'\t' read -r begin reason; do
    [ -n "$reason" ] || fault elsewhere.list "no reason given for $begin"
    excused[$begin]=$reason
  done < <(grep -v -e '^#' -e '^$' "$here/elsewhere.list")
  # shellcheck disable=SC1090
  . <(plan)
  for begin in "${!excused[@]}"; do
    [ -n "${used[$begin]:-}" ] || fault elsewhere.list "no document has $begin"
  done
  return $status
}

# inside: what happens in the namespaces
inside() {
  trap 'status=$?; [ $status -eq 0 ] || [ ! -f "$NODE/crio.log" ] || tail -n 20 "$NODE/crio.log" >&2; exit $status' EXIT
  scene_apart
  scene_install "$top" "$NODE/crio.program"
  export PATH=$top/tests/conformance/bin:$PATH
  if [ "$STAGE" = node ]; then
    scene_registry "$NODE" "$top/target/docs/images"
    printf '[crio.runtime]\ncgroup_manager = "cgroupfs"\nconmon_cgroup = "pod"\n' >/etc/crio/crio.conf.d/05-apart.conf
    crio >"$NODE/crio.log" 2>&1 &
    NODE_DAEMON=$!
    for _ in $(seq 200); do
      [ ! -S /run/crio/crio.sock ] || break
      kill -0 $NODE_DAEMON
      sleep 0.05
    done
  fi
  # shellcheck source=tests/docs/play.sh
  . "$here/play.sh"
  # shellcheck disable=SC1091
  . "$NODE/plan.sh"
  if [ "$STAGE" = node ]; then
    crictl rmp -fa >/dev/null 2>&1 || true
    node_stop
  fi
  played
}

case ${1:-} in
  plan) shift; plan "$@" ;;
  check) check ;;
  tree)
    STAGE=tree PLACE=$top LIMIT=600
    export CRIO=${CRIO:-$top/target/debug/crio}
    # shellcheck source=tests/docs/play.sh
    . "$here/play.sh"
    # shellcheck disable=SC1090
    . <(plan "${@:2}")
    played
    ;;
  built | node)
    node_dir docs
    cp "${CRIO:-$top/target/debug/crio}" "$NODE/crio.program"
    plan "${@:2}" >"$NODE/plan.sh"
    [ "$1" = built ] || "$here/images.sh" "$top/target/docs/images"
    "$here/../setup/apart.sh" "$0" --inside "$NODE" "$1"
    ;;
  --inside)
    NODE=$2 STAGE=$3
    inside
    ;;
  *) sed -n 's/^# \(Usage: [^(]*\).*/\1/p' "$0" >&2; exit 2 ;;
esac
