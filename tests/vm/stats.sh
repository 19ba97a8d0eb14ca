#!/bin/bash
# Tells whether what pods and containers use is told as the kernel counts it, on a machine with cgroup version 2: both
# cgroup managers, in lists and streams, as statistics and as metrics.
#
# The machine is thrown away afterwards. Its kernel counts pressure (psi=1), and swap can be made.
#
# Usage: stats.sh RUN [ARG...]
#   RUN ARG... DIR COMMAND   copies DIR to /in of the machine, runs COMMAND there as root, and gives its
#                            output and exit code
# Environment: DEB, the package (default target/crioxide_ARCH.deb); MANAGERS, of "systemd cgroupfs".
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)

# shellcheck source=tests/vm/play.sh
. "$here/play.sh"
begin "$@"
MEGABYTE=1048576

# kernel FILE CGROUP [KEY]: a figure of the kernel's, as a number
kernel() {
  if [ $# -eq 2 ]; then cat "$ROOT$2/$1"; else sed -n "s/^$3 //p" "$ROOT$2/$1"; fi
}

# waited FILE CGROUP LINE: how long tasks waited in all, in nanoseconds
waited() { echo $(($(sed -n "s/^$3 .*total=//p" "$ROOT$2/$1") * 1000)); }

# of CONTAINER: its statistics; pod_stats POD: a pod's
of() { grpc ContainerStats "{\"container_id\": \"$1\"}" | jq -c .stats; }
pod_stats() { grpc PodSandboxStats "{\"pod_sandbox_id\": \"$1\"}" | jq -c .stats; }
# figure JSON PATH: a number in it; numbers of 64 bits are text
figure() { jq -r "$2 | if type == \"object\" then .value else . end | tonumber" <<<"$1"; }

processor() {
  local id=$1 path=$2 before stats
  before=$(kernel cpu.stat "$path" usage_usec)
  stats=$(of "$id")
  between "processor time" $((before * 1000)) "$(figure "$stats" .cpu.usageCoreNanoSeconds)" \
    $(($(kernel cpu.stat "$path" usage_usec) * 1000))
  sleep 2
  stats=$(of "$id")
  # A loop takes one processor, of which this machine has two that others use too.
  between "processor time a second" 100000000 "$(figure "$stats" .cpu.usageNanoCores)" 1500000000
  before=$(figure "$stats" .cpu.usageCoreNanoSeconds)
  sleep 1
  between "it rises" $((before + 1)) "$(figure "$(of "$id")" .cpu.usageCoreNanoSeconds)" $((before * 1000))
}

# memory ID CGROUP: of a container that does nothing, so that two looks see the same
memory() {
  local id=$1 path=$2 stats current
  stats=$(of "$id")
  current=$(kernel memory.current "$path")
  # The kernel counts some of it for each processor apart.
  between "memory in use" $((current - MEGABYTE)) "$(figure "$stats" .memory.usageBytes)" $((current + MEGABYTE))
  between "working set" $((8 * MEGABYTE)) "$(figure "$stats" .memory.workingSetBytes)" $((current - $(kernel memory.stat "$path" inactive_file) + MEGABYTE))
  is "what is left of the limit" $((64 * MEGABYTE)) \
    $(($(figure "$stats" .memory.availableBytes) + $(figure "$stats" .memory.workingSetBytes)))
  between "its own pages" 1 "$(figure "$stats" .memory.rssBytes)" $(($(kernel memory.stat "$path" anon) + MEGABYTE))
  is "page faults" "$(kernel memory.stat "$path" pgfault)" "$(figure "$stats" .memory.pageFaults)"
  is "no swap that it may use" "0 0" "$(figure "$stats" .swap.swapUsageBytes) $(figure "$stats" .swap.swapAvailableBytes)"
}

swap() {
  local id=$1 path=$2 stats used
  stats=$(of "$id")
  used=$(kernel memory.swap.current "$path")
  between "swap in use" $((MEGABYTE)) "$used" $((96 * MEGABYTE))
  between "told" $((used - MEGABYTE)) "$(figure "$stats" .swap.swapUsageBytes)" $((used + MEGABYTE))
  is "and what is left of it" $((96 * MEGABYTE)) $(($(figure "$stats" .swap.swapUsageBytes) + $(figure "$stats" .swap.swapAvailableBytes)))
}

# pressure ID CGROUP: how long tasks waited, by the kernel and by us
pressure() {
  local id=$1 path=$2 stats resource line before
  for resource in cpu memory io; do
    for line in Some Full; do
      before=$(waited $resource.pressure "$path" "${line,}")
      stats=$(of "$id")
      between "$resource pressure, $line" "$before" "$(figure "$stats" ".$resource.psi.$line.Total")" \
        "$(waited $resource.pressure "$path" "${line,}")"
    done
  done
  between "processors were waited for" 1 "$(figure "$stats" .cpu.psi.Some.Total)" 1000000000000000
}

writable_layer() {
  local id=$1 stats before
  before=$(figure "$(of "$id")" .writableLayer.usedBytes)
  cri exec --sync "$id" dd if=/dev/zero of=/file bs=1M count=3 >/dev/null 2>&1
  stats=$(of "$id")
  between "what was written" $((before + 3 * MEGABYTE)) "$(figure "$stats" .writableLayer.usedBytes)" $((before + 4 * MEGABYTE))
  between "files" 1 "$(figure "$stats" .writableLayer.inodesUsed)" 100
  like "where" "/var/lib/containers/storage/overlay/*/merged" "$(jq -r .writableLayer.fsId.mountpoint <<<"$stats")"
}

# whole_pod POD CONTAINER
whole_pod() {
  local pod=$1 stats before address
  pod_stats "$pod" >/dev/null
  sleep 2
  stats=$(pod_stats "$pod")
  is "its containers" 3 "$(jq '.linux.containers | length' <<<"$stats")"
  between "a pod's processor time" "$(figure "$stats" .linux.containers[0].cpu.usageCoreNanoSeconds)" \
    "$(figure "$stats" .linux.cpu.usageCoreNanoSeconds)" $(($(kernel cpu.stat "$UNDER" usage_usec) * 1000))
  between "a pod's processor time a second" 100000000 "$(figure "$stats" .linux.cpu.usageNanoCores)" 2100000000
  between "a pod's memory" "$(figure "$stats" .linux.containers[1].memory.rssBytes)" "$(figure "$stats" .linux.memory.usageBytes)" 1000000000
  is "its processes" "$(kernel pids.current "$UNDER")" "$(figure "$stats" .linux.process.processCount)"
  is "pressure on it" 6 "$(jq '[.linux | (.cpu, .memory, .io) | .psi | (.Some, .Full) | objects] | length' <<<"$stats")"
  is "its network" "eth0 lo" "$(jq -r '.linux.network | .defaultInterface.name + " " + ([.interfaces[].name] | join(" "))' <<<"$stats")"
  before=$(figure "$stats" .linux.network.defaultInterface.rxBytes)
  address=$(cri inspectp "$pod" | jq -r .status.network.ip)
  ping -c 3 -s 1000 "$address" >/dev/null 2>&1 || curl -s --max-time 5 "http://$address:9" || true
  between "what it received" $((before + 40)) "$(figure "$(pod_stats "$pod")" .linux.network.defaultInterface.rxBytes)" $((before + 100000))
}

# names JSON: of all metrics, each once
names() { jq -r '[.. | objects | select(has("labelValues")) | .name] | unique | .[]' <<<"$1"; }

lists_and_streams() {
  local pod=$1 all listed described found missing
  listed=$(grpc ListContainerStats '{}' | jq -c '[.stats[].attributes.id] | sort')
  is "listed" 3 "$(jq length <<<"$listed")"
  is "streamed" "$listed" "$(grpc StreamContainerStats '{}' | jq -cs '[.[].containerStats[].attributes.id] | sort')"
  is "pods listed" "[\"$pod\"]" "$(grpc ListPodSandboxStats '{}' | jq -c '[.stats[].attributes.id]')"
  is "pods streamed" "[\"$pod\"]" "$(grpc StreamPodSandboxStats '{}' | jq -cs '[.[].podSandboxStats[].attributes.id]')"
  is "crictl stats" 3 "$(cri stats -o json | jq '.stats | length')"
  like "its table" "*busy*" "$(cri stats)"
  is "crictl statsp" 1 "$(cri statsp -o json | jq '.stats | length')"

  described=$(cri metricdescs | jq -c '[.. | objects | select(has("labelKeys"))]')
  is "names that are described" 56 "$(jq 'map(.name) | unique | length' <<<"$described")"
  all=$(cri metricsp)
  found=$(names "$all")
  is "none that is not" "" "$(comm -23 <(echo "$found") <(jq -r 'map(.name) | sort | .[]' <<<"$described"))"
  # Version 2 has no largest use of huge pages; there is one of huge pages only where the kernel has any.
  missing=$(comm -13 <(echo "$found") <(jq -r 'map(.name) | sort | .[]' <<<"$described") | grep -v '^container_hugetlb_' || true)
  is "those without a figure" "" "$missing"
  is "as many values as keys" "" "$(jq -r --argjson described "$described" '($described | map({key: .name, value: (.labelKeys | length)}) | from_entries) as $keys
    | [.. | objects | select(has("labelValues")) | select((.labelValues | length) != $keys[.name]) | .name] | unique | .[]' <<<"$all")"
  is "the same streamed" "$found" "$(names "$(grpc StreamPodSandboxMetrics '{}')")"
}

# metric CONTAINER NAME [LABEL]: the sum of its values
metric() {
  cri metricsp | jq --arg id "$1" --arg name "$2" --arg label "${3:-}" '[.. | objects | select(.name? == $name and (.labelValues // [])[0] == $id)
    | select($label == "" or (.labelValues | index($label))) | .value | if type == "object" then .value else . end // 0 | tonumber] | add // 0'
}

# input_and_output ID CGROUP
input_and_output() {
  local id=$1 before
  before=$(metric "$id" container_fs_writes_bytes_total)
  cri exec --sync "$id" sh -c 'dd if=/dev/zero of=/more bs=64k count=32 && sync' >/dev/null 2>&1
  between "bytes written to the disk" $((before + 2 * MEGABYTE)) "$(metric "$id" container_fs_writes_bytes_total)" $((64 * MEGABYTE))
  between "in so many pieces" 1 "$(metric "$id" container_fs_writes_total)" 100000
  is "processes" "$(wc -l <"$ROOT$2/cgroup.procs")" "$(metric "$id" container_processes)"
}

filesystems() {
  local all name
  all=$(cri imagefsinfo)
  for name in image container; do
    between "bytes of ${name}s" 1 "$(figure "$all" ".status.${name}Filesystems[0].usedBytes")" 4000000000
    between "files of ${name}s" 1 "$(figure "$all" ".status.${name}Filesystems[0].inodesUsed")" 1000000
    like "where" "/var/lib/containers/storage/overlay*" "$(jq -r ".status.${name}Filesystems[0].fsId.mountpoint" <<<"$all")"
  done
}

# phase MANAGER: all of it with one cgroup manager
phase() {
  MANAGER=$1
  local pod busy idle swapping
  echo "$MANAGER, cgroup v2:"
  parents
  service_start "$here" "$MANAGER"
  IMAGE=registry.k8s.io/e2e-test-images/busybox:1.29-2
  cri pull $IMAGE >/dev/null
  pod=$(run_pod pod "$PARENT")
  busy=$(run busy pod "$pod" '{}' sh -c 'while :; do :; done')
  idle=$(run idle pod "$pod" "{\"memory_limit_in_bytes\": $((64 * MEGABYTE)), \"cpu_period\": 100000, \"cpu_quota\": 50000}" \
    sh -c 'dd if=/dev/zero of=/dev/shm/held bs=1M count=8 2>/dev/null; echo held; exec sleep 10000')
  swapping=$(run swapping pod "$pod" "{\"memory_limit_in_bytes\": $((32 * MEGABYTE)), \"memory_swap_limit_in_bytes\": $((128 * MEGABYTE))}" \
    sh -c 'dd if=/dev/zero of=/dev/shm/more bs=1M count=40 2>/dev/null; echo held; exec sleep 10000')
  soon grep -q held /var/log/pods/pod/idle.log
  soon grep -q held /var/log/pods/pod/swapping.log
  sleep 1
  processor "$busy" "$UNDER/crio-$busy$END"
  memory "$idle" "$UNDER/crio-$idle$END"
  swap "$swapping" "$UNDER/crio-$swapping$END"
  pressure "$busy" "$UNDER/crio-$busy$END"
  writable_layer "$idle"
  whole_pod "$pod"
  lists_and_streams "$pod"
  input_and_output "$idle" "$UNDER/crio-$idle$END"
  filesystems
  cri stop "$busy" >/dev/null
  is "nothing of a container that has ended" null "$(of "$busy")"
  cri stopp "$pod" >/dev/null
  is "nor of the network of a pod that was stopped" null "$(jq -c .linux.network <<<"$(pod_stats "$pod")")"
  refused "a container that is not there" "*NotFound*" of "$(printf 'f%.0s' {1..64})"
  refused "a pod that is not there" "*NotFound*" pod_stats "$(printf 'f%.0s' {1..64})"
  cri rmp -f "$pod" >/dev/null
  service_end || BAD=1
}

trap 'kill "${OCI_REGISTRY_PID:-}" 2>/dev/null || true; rm -rf "$WORK"' EXIT
[ -e $ROOT/cgroup.controllers ] || { echo "stats: this machine has no cgroup v2" >&2; exit 1; }
swap_space
mkdir -p /etc/crio/crio.conf.d
printf '[crio.stats]\nincluded_pod_metrics = ["all"]\n' >/etc/crio/crio.conf.d/20-stats.conf
for manager in $MANAGERS; do
  phase "$manager"
done
played
