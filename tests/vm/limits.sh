#!/bin/bash
# Tells whether limits of containers are in the kernel as they were asked for, hold, and change while a container lives,
# on a machine with cgroup version 2: both cgroup managers.
#
# The machine is thrown away afterwards. Swap can be made there.
#
# Usage: limits.sh RUN [ARG...]
#   RUN ARG... DIR COMMAND   copies DIR to /in of the machine, runs COMMAND there as root, and gives its
#                            output and exit code
# Environment: DEB, the package (default target/crioxide_ARCH.deb); MANAGERS, of "systemd cgroupfs".
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)

# shellcheck source=tests/vm/play.sh
. "$here/play.sh"
begin "$@"
MEGABYTE=1048576

# limit ID FILE: what the kernel has of a container
limit() { cat "$ROOT$UNDER/crio-$1$END/$2"; }
# update ID RESOURCES; told ID WHAT: of what the status says of its limits
update() { grpc UpdateContainerResources "{\"container_id\": \"$1\", \"linux\": $2}"; }
told() { cri inspect "$1" | jq -c ".status.resources.linux | $2"; }

# unified POD: limits by the names of version 2, given and changed
unified() {
  local id
  id=$(run unified pod "$1" '{"unified": {"memory.high": "67108864", "memory.low": "4194304"}}' sleep 10000)
  is "a limit by its own name" "67108864 4194304" "$(limit "$id" memory.high) $(limit "$id" memory.low)"
  is "the node's limit on processes" 99 "$(limit "$id" pids.max)"
  update "$id" '{"unified": {"memory.high": "50331648", "pids.max": "33"}}' >/dev/null
  is "changed" "50331648 33" "$(limit "$id" memory.high) $(limit "$id" pids.max)"
  is "what was not stated stays" 4194304 "$(limit "$id" memory.low)"
  is "told" '{"memory.high":"50331648","memory.low":"4194304","pids.max":"33"}' "$(told "$id" '.unified')"
  if [ "$MANAGER" = systemd ]; then
    systemctl daemon-reload
    is "systemd knows it" "50331648 33" "$(limit "$id" memory.high) $(limit "$id" pids.max)"
  fi
  refused "a file of another cgroup" "*unified*" update "$id" '{"unified": {"../memory.high": "1"}}'
  refused "one that is no limit" "*unified*no limit*" update "$id" '{"unified": {"cgroup.procs": "1"}}'
  refused "one that the kernel does not have" "*memory.nothing*" update "$id" '{"unified": {"memory.nothing": "1"}}'
  refused "a value that it does not take" "*memory.high*" update "$id" '{"unified": {"memory.high": "much"}}'
  is "and all stays" "50331648 33" "$(limit "$id" memory.high) $(limit "$id" pids.max)"
  is "as it is told" '{"memory.high":"50331648","memory.low":"4194304","pids.max":"33"}' "$(told "$id" '.unified')"
  # shellcheck disable=SC2016
  like "a fork bomb is held" "*fork*" \
    "$(cri exec --sync "$id" sh -c 'i=0; while [ $i -lt 60 ]; do sleep 30 & i=$((i+1)); done; echo all' 2>&1 || true)"
  between "the kernel says how often" 1 "$(sed -n 's/^max //p' "$ROOT$UNDER/crio-$id$END/pids.events")" 1000000
  systemctl restart crio.service
  is "told after a restart" '{"memory.high":"50331648","memory.low":"4194304","pids.max":"33"}' "$(told "$id" '.unified')"
  cri rm -f "$id" >/dev/null
}

processors() {
  local id
  id=$(run cpu pod "$1" '{"cpu_quota": 50000, "cpu_period": 100000, "cpu_shares": 1024, "cpuset_cpus": "0"}' sleep 10000)
  is "a quota" "50000 100000" "$(limit "$id" cpu.max)"
  between "a weight" 30 "$(limit "$id" cpu.weight)" 110
  is "a processor" 0 "$(limit "$id" cpuset.cpus.effective)"
  is "and no other" "Cpus_allowed_list:	0" "$(cri exec --sync "$id" grep Cpus_allowed_list /proc/self/status)"
  cri exec --sync "$id" timeout 2 sh -c 'while :; do :; done' >/dev/null 2>&1 || true
  between "who wants more is held back" 1 "$(sed -n 's/^nr_throttled //p' "$ROOT$UNDER/crio-$id$END/cpu.stat")" 1000000
  local weight
  weight=$(limit "$id" cpu.weight)
  update "$id" '{"cpu_quota": -1, "cpu_period": 100000, "cpu_shares": 4096, "cpuset_cpus": "0-1"}' >/dev/null
  is "no quota" "max 100000" "$(limit "$id" cpu.max)"
  between "more weight" $((weight + 1)) "$(limit "$id" cpu.weight)" 10000
  is "two processors" 0-1 "$(limit "$id" cpuset.cpus.effective)"
  refused "one that is not there" "*" update "$id" '{"cpuset_cpus": "77"}'
  is "and it stays" 0-1 "$(limit "$id" cpuset.cpus.effective)"
  is "told" '"0-1"' "$(told "$id" .cpusetCpus)"
  cri rm -f "$id" >/dev/null
}

memory() {
  local id
  id=$(run memory pod "$1" "{\"memory_limit_in_bytes\": $((96 * MEGABYTE)), \"oom_score_adj\": 900}" \
    sh -c 'dd if=/dev/zero of=/dev/shm/held bs=1M count=40 2>/dev/null; echo held; exec sleep 10000')
  soon grep -q held /var/log/pods/pod/memory.log
  is "a limit" $((96 * MEGABYTE)) "$(limit "$id" memory.max)"
  is "without swap" 0 "$(limit "$id" memory.swap.max)"
  is "who goes first" 900 "$(cat "/proc/$(pid_of "$id")/oom_score_adj")"
  is "its monitor goes last" -1000 "$(cat "/proc/$(pgrep -f "^[^ ]*conmon .*-c $id")/oom_score_adj")"
  refused "a limit below what is used" "*FailedPrecondition*uses*$((20 * MEGABYTE))*" \
    update "$id" "{\"memory_limit_in_bytes\": $((20 * MEGABYTE)), \"cpu_shares\": 4096}"
  is "changes nothing" "$((96 * MEGABYTE)) $((96 * MEGABYTE))" "$(limit "$id" memory.max) $(told "$id" .memoryLimitInBytes | tr -d '"')"
  is "and kills nothing" CONTAINER_RUNNING "$(cri inspect "$id" | jq -r .status.state)"
  update "$id" "{\"memory_limit_in_bytes\": $((64 * MEGABYTE))}" >/dev/null
  is "a lower limit" "$((64 * MEGABYTE)) 0" "$(limit "$id" memory.max) $(limit "$id" memory.swap.max)"
  update "$id" "{\"memory_limit_in_bytes\": $((128 * MEGABYTE))}" >/dev/null
  is "a higher one" "$((128 * MEGABYTE)) 0" "$(limit "$id" memory.max) $(limit "$id" memory.swap.max)"
  update "$id" '{"memory_limit_in_bytes": -1}' >/dev/null
  is "none" max "$(limit "$id" memory.max)"
  refused "less than a container can start with" "*12582912*" update "$id" "{\"memory_limit_in_bytes\": $MEGABYTE}"
  # The pod's, so it would stay.
  cri exec --sync "$id" rm /dev/shm/held
  cri stop "$id" >/dev/null
  refused "a container that has ended" "*FailedPrecondition*created or running*" update "$id" '{"cpu_shares": 100}'
  cri rm -f "$id" >/dev/null
  id=$(create waits pod "$1" '{}' sleep 10000)
  update "$id" "{\"memory_limit_in_bytes\": $((64 * MEGABYTE))}" >/dev/null
  is "one that was not started yet" $((64 * MEGABYTE)) "$(limit "$id" memory.max)"
  cri start "$id" >/dev/null
  is "keeps it" $((64 * MEGABYTE)) "$(limit "$id" memory.max)"
  cri rm -f "$id" >/dev/null
}

# swap POD: the CRI counts swap with memory, the kernel by itself
swap() {
  local id
  id=$(run swap pod "$1" "{\"memory_limit_in_bytes\": $((32 * MEGABYTE)), \"memory_swap_limit_in_bytes\": $((96 * MEGABYTE))}" \
    sh -c 'dd if=/dev/zero of=/dev/shm/more bs=1M count=48 2>/dev/null; echo held; exec sleep 10000')
  soon grep -q held /var/log/pods/pod/swap.log
  is "a limit on swap" $((64 * MEGABYTE)) "$(limit "$id" memory.swap.max)"
  between "what does not fit is swapped" $((16 * MEGABYTE)) "$(limit "$id" memory.swap.current)" $((64 * MEGABYTE))
  update "$id" "{\"memory_limit_in_bytes\": $((64 * MEGABYTE)), \"memory_swap_limit_in_bytes\": $((192 * MEGABYTE))}" >/dev/null
  is "changed" "$((64 * MEGABYTE)) $((128 * MEGABYTE))" "$(limit "$id" memory.max) $(limit "$id" memory.swap.max)"
  update "$id" "{\"memory_limit_in_bytes\": $((64 * MEGABYTE)), \"memory_swap_limit_in_bytes\": -1}" >/dev/null
  is "without a limit" max "$(limit "$id" memory.swap.max)"
  refused "less than memory" "*swap*" update "$id" "{\"memory_limit_in_bytes\": $((64 * MEGABYTE)), \"memory_swap_limit_in_bytes\": $((32 * MEGABYTE))}"
  cri rm -f "$id" >/dev/null
}

# out_of_memory POD: one process too large takes all with it, or only itself, as the kubelet asks for
out_of_memory() {
  local id group limit
  # shellcheck disable=SC2016
  for group in 1 0; do
    limit="{\"memory_limit_in_bytes\": $((32 * MEGABYTE)), \"unified\": {\"memory.oom.group\": \"$group\"}}"
    id=$(run "oom$group" pod "$1" "$limit" sh -c 'tail /dev/zero; echo child ended with $?; exec sleep 10000')
    if [ $group = 1 ]; then
      soon ended "$id" || true
      is "all are killed" "CONTAINER_EXITED 137 OOMKilled" "$(status_of "$id")"
    else
      soon grep -q 'child ended with 137' /var/log/pods/pod/oom0.log || true
      is "only the child is killed" "CONTAINER_RUNNING 1" \
        "$(cri inspect "$id" | jq -r .status.state) $(sed -n 's/^oom_kill //p' "$ROOT$UNDER/crio-$id$END/memory.events")"
    fi
    cri rm -f "$id" >/dev/null
  done
  id=$(run killed pod "$1" "{\"memory_limit_in_bytes\": $((32 * MEGABYTE))}" sleep 10000)
  kill -KILL "$(pid_of "$id")"
  soon ended "$id" || true
  is "one that was merely killed" "CONTAINER_EXITED 137 Error" "$(status_of "$id")"
  cri rm -f "$id" >/dev/null
}

# written ID: how many seconds four megabytes take to the disk; what is written late may count for another cgroup at first
written() {
  local start=$SECONDS
  cri exec --sync "$1" dd if=/dev/zero of=/held bs=65536 count=64 oflag=direct >/dev/null 2>&1
  echo $((SECONDS - start))
}

# throughput POD: the CRI has no word for the disk but the kernel's own
throughput() {
  local id disk free
  disk=$(stat -c %Hd:%Ld /var/lib/containers)
  id=$(run disk pod "$1" "{\"unified\": {\"io.max\": \"$disk wbps=1048576\"}}" sleep 10000)
  is "a limit on the disk" "$disk rbps=max wbps=1048576 riops=max wiops=max" "$(limit "$id" io.max)"
  update "$id" "{\"unified\": {\"io.max\": \"$disk wbps=max\"}}" >/dev/null
  free=$(written "$id")
  update "$id" "{\"unified\": {\"io.max\": \"$disk wbps=1048576\"}}" >/dev/null
  between "what is written waits for it" $((free + 2)) "$(written "$id")" 1000
  cri rm -f "$id" >/dev/null
}

others() {
  local id pod=$1
  id=$(run others pod "$pod" '{"hugepage_limits": [{"page_size": "2MB", "limit": 4194304}], "oom_score_adj": -998}' sleep 10000)
  is "open files" "300 400" "$(cri exec --sync "$id" sh -c 'echo $(ulimit -Sn) $(ulimit -Hn)')"
  is "huge pages" 4194304 "$(limit "$id" hugetlb.2MB.max)"
  is "one that goes late" -998 "$(cat "/proc/$(pid_of "$id")/oom_score_adj")"
  is "a command in it goes as late" -998 "$(cri exec --sync "$id" cat /proc/self/oom_score_adj)"
  cri rm -f "$id" >/dev/null
  is "a pod's limits are taken note of" "{}" \
    "$(grpc UpdatePodSandboxResources "{\"pod_sandbox_id\": \"$pod\", \"overhead\": {\"memory_limit_in_bytes\": 1048576}, \"resources\": {\"memory_limit_in_bytes\": 67108864}}" | tr -d ' \n')"
  refused "those of no pod" "*NotFound*" grpc UpdatePodSandboxResources "{\"pod_sandbox_id\": \"$(printf 'f%.0s' {1..64})\"}"
  refused "limits of no container" "*NotFound*" update "$(printf 'f%.0s' {1..64})" '{"cpu_shares": 100}'
}

# hierarchy POD: who may make cgroups below its own
hierarchy() {
  local id pod word='mkdir /sys/fs/cgroup/below && echo made'
  id=$(run own pod "$1" '{}' sleep 10000)
  refused "a container cannot write its own cgroup" '*ead-only*' cri exec --sync "$id" sh -c "$word"
  cri rm -f "$id" >/dev/null
  pod_config writes "$PARENT"
  jq '.annotations = {"cgroup2-mount-hierarchy-rw.crio.io": "true"}' "$WORK/writes.json" >"$WORK/wished.json"
  mv "$WORK/wished.json" "$WORK/writes.json"
  pod=$(cri runp "$WORK/writes.json")
  id=$(run below writes "$pod" '{}' sleep 10000)
  is "it can where the pod wishes it" made "$(cri exec --sync "$id" sh -c "$word")"
  is "below its own" y "$([ -d "$ROOT$UNDER/crio-$id$END/below" ] && echo y)"
  cri rmp -f "$pod" >/dev/null
  is "nothing is left of it" "" "$(find "$ROOT$UNDER" -name "*$id*")"
}

# phase MANAGER: all of it with one cgroup manager
phase() {
  MANAGER=$1
  local pod
  echo "$MANAGER, cgroup v2:"
  parents
  service_start "$here" "$MANAGER"
  IMAGE=registry.k8s.io/e2e-test-images/busybox:1.29-2
  cri pull $IMAGE >/dev/null
  pod=$(run_pod pod "$PARENT")
  unified "$pod"
  processors "$pod"
  memory "$pod"
  swap "$pod"
  out_of_memory "$pod"
  throughput "$pod"
  others "$pod"
  hierarchy "$pod"
  cri rmp -f "$pod" >/dev/null
  service_end || BAD=1
}

trap 'kill "${OCI_REGISTRY_PID:-}" 2>/dev/null || true; rm -rf "$WORK"' EXIT
[ -e $ROOT/cgroup.controllers ] || { echo "limits: this machine has no cgroup v2" >&2; exit 1; }
swap_space
mkdir -p /etc/crio/crio.conf.d
printf '[crio.runtime]\npids_limit = 99\ndefault_ulimits = ["nofile=300:400"]\n
[crio.runtime.runtimes.runc]\nallowed_annotations = ["cgroup2-mount-hierarchy-rw.crio.io"]\n' >/etc/crio/crio.conf.d/20-limits.conf
for manager in $MANAGERS; do
  phase "$manager"
done
played
