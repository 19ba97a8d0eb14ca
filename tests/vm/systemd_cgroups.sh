#!/bin/bash
# Tells whether pods and their monitors are in the cgroups they belong in, on a machine with systemd:
# both cgroup managers, on whichever cgroup version the machine has, with the daemon as a service.
#
# The machine is thrown away afterwards: the daemon has its usual places there, and systemd is its own.
#
# Usage: systemd_cgroups.sh RUN [ARG...]
#   RUN ARG... DIR COMMAND   copies DIR to /in of the machine, runs COMMAND there as root, and gives its
#                            output and exit code
# Environment: DEB, the package (default target/crioxide_ARCH.deb); MANAGERS, of "systemd cgroupfs".
# The machine has: systemd, runc, conmon, the CNI plugins, iptables, jq and curl; crun is taken too when there.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)

# shellcheck source=tests/vm/play.sh
. "$here/play.sh"
begin "$@"
V=1
[ ! -e $ROOT/cgroup.controllers ] || V=2

# in_cgroup PID: the cgroup of a process in the hierarchy with the controllers
in_cgroup() {
  if [ $V = 2 ]; then sed -n 's/^0:://p' "/proc/$1/cgroup"; else sed -n 's/^[0-9]*:memory://p' "/proc/$1/cgroup"; fi
}

# limit FILE_OF_V2 PATH: a limit, in the words of version 2
limit() {
  case $V$1 in
    1memory.max) cat "$ROOT/memory$2/memory.limit_in_bytes" ;;
    1memory.swap.max)
      echo $(($(cat "$ROOT/memory$2/memory.memsw.limit_in_bytes") - $(cat "$ROOT/memory$2/memory.limit_in_bytes"))) ;;
    1cpu.max) echo "$(cat "$ROOT/cpu$2/cpu.cfs_quota_us") $(cat "$ROOT/cpu$2/cpu.cfs_period_us")" ;;
    1*) cat "$ROOT/${1%%.*}$2/$1" ;;
    *) cat "$ROOT$2/$1" ;;
  esac
}

# ours: every cgroup and unit that is there for a pod or a container
ours() {
  find $ROOT -mindepth 1 -type d -regex '.*/crio-[^/]*[0-9a-f]\{64\}.*'
  systemctl list-units --all --plain --no-legend 'crio-*.scope'
}

nothing_of_ours() { [ -z "$(ours)" ]; }

# restarting COMMAND: does something to the daemon's service and waits for it
restarting() {
  systemctl "$1" crio.service
  [ "$1" = stop ] || soon cri version
}

# monitor ID: the process of a container's monitor
monitor() { pgrep -f "^[^ ]*conmon .*-c $1"; }

placing() {
  local id=$1 pid
  pid=$(pid_of "$id")
  # crun puts it one cgroup deeper.
  like "the container is in its pod's cgroup" "$UNDER/crio-$id$END?(/container)" "$(in_cgroup "$pid")"
  is "its monitor is out of the daemon's" "$MONITORS/crio-conmon-$id$END" "$(in_cgroup "$(monitor "$id")")"
  is "the monitor is the last to be killed" -1000 "$(cat "/proc/$(monitor "$id")/oom_score_adj")"
}

limits() {
  local id=$1 path=$UNDER/crio-$1$END
  is "memory limit" 67108864 "$(limit memory.max "$path")"
  [ $V = 1 ] || is "no swap" 0 "$(limit memory.swap.max "$path")"
  is "cpu limit" "50000 100000" "$(limit cpu.max "$path")"
  is "process limit" 99 "$(limit pids.max "$path")"
  cri update --memory 100663296 --cpu-quota 30000 --cpu-period 100000 "$id" >/dev/null
  is "changed memory limit" 100663296 "$(limit memory.max "$path")"
  is "changed cpu limit" "30000 100000" "$(limit cpu.max "$path")"
  is "what was not stated stays" 99 "$(limit pids.max "$path")"
  is "status shows it" 100663296 "$(cri inspect "$id" | jq -r .status.resources.linux.memoryLimitInBytes)"
  refused "a limit below the least" "*memory*" cri update --memory 1048576 "$id"
  if [ "$MANAGER" = systemd ]; then
    systemctl daemon-reload
    is "systemd knows the changed limit" 100663296 "$(limit memory.max "$path")"
    is "the scope's slice" "$PARENT" "$(systemctl show -P Slice "crio-$id.scope")"
    like "the monitor's scope goes before the daemon" "*crio.service*" "$(systemctl show -P After "crio-conmon-$id.scope")"
    like "so does the container's" "*crio.service*" "$(systemctl show -P After "crio-$id.scope")"
  fi
}

inside() {
  local id=$1
  is "a command runs in the container" hello "$(cri exec --sync "$id" echo hello)"
  # shellcheck disable=SC2016
  refused "the cgroup files cannot be written" "*ead-only*" \
    cri exec --sync "$id" sh -c 'f=$(find /sys/fs/cgroup/ -name cgroup.procs | head -1); echo 1 >"$f"'
  [ $V = 2 ] || return 0
  is "the container's cgroup is its root" 0::/ "$(cri exec --sync "$id" cat /proc/self/cgroup)"
  is "it sees its own limit" 100663296 "$(cri exec --sync "$id" cat /sys/fs/cgroup/memory.max)"
}

out_of_memory() {
  local id name
  # shellcheck disable=SC2016
  id=$(run child pod "$1" '{"memory_limit_in_bytes": 33554432}' sh -c 'tail /dev/zero; exit $?')
  soon ended "$id" || true
  is "a shell whose child took too much memory" "CONTAINER_EXITED 137 OOMKilled" "$(status_of "$id")"
  # More than once, as the monitor and systemd race for the cgroup.
  for name in oom1 oom2 oom3 oom4; do
    id=$(run $name pod "$1" '{"memory_limit_in_bytes": 33554432}' tail /dev/zero)
    soon ended "$id" || true
    is "a container beyond its memory" "CONTAINER_EXITED 137 OOMKilled" "$(status_of "$id")"
  done
  id=$(run killed pod "$1" '{"memory_limit_in_bytes": 33554432}' sleep 1000)
  kill -KILL "$(pid_of "$id")"
  soon ended "$id" || true
  is "one that was merely killed" "CONTAINER_EXITED 137 Error" "$(status_of "$id")"
}

# restart POD CONTAINER: its daemon goes and comes while containers run, end, and are killed
restart() {
  local id=$2 pid quick before
  pid=$(pid_of "$id")
  quick=$(run quick pod "$1" '{}' sh -c 'sleep 1000 & wait; exit 3')
  before=$(cri ps -a -o json | jq -c '[.containers[] | [.id, .state]] | sort')
  restarting restart
  is "listed as before the restart" "$before" "$(cri ps -a -o json | jq -c '[.containers[] | [.id, .state]] | sort')"
  is "the process is the same" "$pid" "$(pid_of "$id")"
  is "commands run in it" hello "$(cri exec --sync "$id" echo hello)"
  local killed
  killed=$(pid_of "$quick")
  restarting stop
  is "containers go on without the daemon" "$UNDER/crio-$id$END" "$(in_cgroup "$pid")"
  kill -KILL "$killed"
  restarting start
  soon ended "$quick" || true
  is "an end meanwhile is known" "CONTAINER_EXITED 137 Error" "$(status_of "$quick")"
  systemctl kill -s KILL crio.service || true
  soon systemctl is-failed crio.service || true
  restarting start
  is "so after it was killed" "CONTAINER_RUNNING 0 null" "$(status_of "$id" | sed 's/ $/ null/')"
}

# shaken POD: systemd and the bus begin anew below the daemon
shaken() {
  local id
  systemctl daemon-reexec
  id=$(run reexec pod "$1" '{}' sleep 1000)
  placing "$id"
  systemctl restart dbus.service
  soon systemctl is-system-running || true
  id=$(run bus pod "$1" '{}' sleep 1000)
  placing "$id"
}

# others: the empty parent, a pod with one process namespace, a container that cannot start, the other runtime
others() {
  local pod id shared infra path
  pod=$(run_pod empty "")
  id=$(run main empty "$pod" '{}' sleep 1000)
  is "without a parent it is the node's" "$NODE/crio-$id$END" "$(in_cgroup "$(pid_of "$id")")"
  refused "a program that is not there" "*nothere*" run_missing "$pod"
  cri rmp -f "$pod" >/dev/null

  shared=$(run_pod shared "$PARENT" 0)
  id=$(run main shared "$shared" '{}' sleep 1000)
  like "one process namespace" "*/crio-$shared$END" "$(cri exec --sync "$id" cat /proc/1/cgroup || true)"
  infra=$(grep -ls "$UNDER/crio-$shared$END" /proc/[0-9]*/cgroup | head -1)
  like "its first process is in the pod's cgroup" "/proc/[0-9]*" "$infra"
  restarting restart
  is "it outlives the daemon" "$UNDER/crio-$shared$END" "$(in_cgroup "$(cut -d/ -f3 <<<"$infra")")"
  cri rmp -f "$shared" >/dev/null

  command -v crun >/dev/null || return 0
  pod=$(run_pod crun "$PARENT" 1 crun)
  id=$(run main crun "$pod" '{"memory_limit_in_bytes": 67108864}' sleep 1000)
  placing "$id"
  path=$UNDER/crio-$id$END
  [ $V = 2 ] || path=$(in_cgroup "$(pid_of "$id")")
  is "crun's memory limit" 67108864 "$(limit memory.max "$path")"
  cri rmp -f "$pod" >/dev/null
}

run_missing() {
  local id
  id=$(create missing empty "$1" '{}' /nothere) || { echo "$id"; return 1; }
}

# phase MANAGER: all of it with one cgroup manager
phase() {
  MANAGER=$1
  local pod id unified='{}'
  echo "$MANAGER, cgroup v$V:"
  parents
  service_start "$here" "$MANAGER"
  printf '[crio.runtime]\npids_limit = 99\n' >/etc/crio/crio.conf.d/20-limits.conf
  restarting restart
  like "the kubelet is told" "*${MANAGER^^}*" "$(cri runtime-config)"
  refused "a parent of the other kind" "*$WRONG*" run_pod wrong "$WRONG"
  is "and nothing is left of it" "" "$(cri pods -q)"
  cri pull "$IMAGE" >/dev/null

  pod=$(run_pod pod "$PARENT")
  [ $V = 1 ] || unified='{"memory.high": "60000000"}'
  id=$(run main pod "$pod" "{\"memory_limit_in_bytes\": 67108864, \"cpu_quota\": 50000, \"cpu_period\": 100000,
    \"cpu_shares\": 512, \"unified\": $unified}" sleep 1000)
  placing "$id"
  [ $V = 1 ] || is "a limit by its own name" 59998208 "$(limit memory.high "$UNDER/crio-$id$END")"
  limits "$id"
  inside "$id"
  out_of_memory "$pod"
  restart "$pod" "$id"
  [ "$MANAGER" != systemd ] || shaken "$pod"
  others
  cri stop "$id" >/dev/null
  cri rmp -f "$pod" >/dev/null
  soon nothing_of_ours || true
  is "nothing is left of all pods" "" "$(ours)"
  is "nor of their monitors" "" "$(for name in conmon runc crun; do pgrep -xa $name || true; done)"
  service_end || BAD=1
}

trap 'kill "${OCI_REGISTRY_PID:-}" 2>/dev/null || true; rm -rf "$WORK"' EXIT
# What is still in the service's cgroup dies with it, so that nothing of a pod may be there.
mkdir -p /run/systemd/system/crio.service.d
printf '[Service]\nKillMode=control-group\n' >/run/systemd/system/crio.service.d/vm.conf
IMAGE=registry.k8s.io/e2e-test-images/busybox:1.29-2
for manager in $MANAGERS; do
  phase "$manager"
done
played
