# shellcheck shell=bash
# What the scripts that play stories in a machine have in common: how one goes there, what is to be so there, and
# where it ended if it did not come to its end. To be sourced by a script that has set `here`, the directory it is in.

# shellcheck source=tests/vm/service.sh
. "$here/service.sh"

# begin ARG...: what every script begins with, with its own arguments. Outside of a machine it goes into one, and that
# is all; inside it has MANAGERS to play with, the cgroups' ROOT, and WORK, a directory of its own.
begin() {
  if [ "${1:-}" != --inside ]; then
    [ $# -gt 0 ] || { sed -n 's/^# \(Usage:.*\)/\1/p' "$0" >&2; exit 2; }
    play_there "$0" "${MANAGERS:-systemd cgroupfs}" -- "$@"
    exit
  fi
  MANAGERS=$2 ROOT=/sys/fs/cgroup
  WORK=$(mktemp -d)
  export PATH=$here:$PATH
}

# play_there SCRIPT [ARG...] -- RUN [ARG...]: copies the daemon and the script into a machine, and calls it there
play_there() {
  local script=$1 words=(--inside) top dir status=0
  shift
  while [ "$1" != -- ]; do
    words+=("$1")
    shift
  done
  shift
  top=$(cd "$(dirname "$script")/../.." && pwd)
  dir=$(mktemp -d)
  # shellcheck disable=SC2064
  trap "rm -rf '$dir'" EXIT
  service_files "$top" "$dir"
  cp "$script" "$top/tests/vm/play.sh" "$("$top/tests/setup/grpcurl.sh")" "$top/proto/runtime/v1/api.proto" "$dir/"
  "$@" "$dir" "/in/$(basename "$script") $(printf '%q ' "${words[@]}")" || status=$?
  # What came to an end in the machine has said so there.
  case $status in
    0 | 1) ;;
    124) echo "$(basename "$script"): the machine had no more time" >&2 ;;
    *) echo "$(basename "$script"): the machine's command ended with $status" >&2 ;;
  esac
  trap - ERR
  return $status
}

# ended_badly: what failed, and how we came there; a script that ends by itself must not end without a word
ended_badly() {
  local status=$1 command=$2 n=1 words
  words="$(basename "$0"): ended with $status at"
  while [ $n -lt ${#FUNCNAME[@]} ]; do
    words="$words line ${BASH_LINENO[n - 1]}$([ "${FUNCNAME[n]}" = main ] || echo " in ${FUNCNAME[n]},")"
    n=$((n + 1))
  done
  echo "$words: ${command:0:300}" >&2
}
set -E
trap 'ended_badly $? "$BASH_COMMAND"' ERR

BAD=0

# is WHAT EXPECTED FOUND: one thing that is to be so
is() {
  if [ "$2" = "$3" ]; then
    echo "  good: $1"
  else
    echo "  BAD:  $1: not $2, but $3"
    BAD=1
  fi
}

# like WHAT PATTERN FOUND: the same with a pattern of the shell
like() {
  # shellcheck disable=SC2053
  if [[ $3 == $2 ]]; then is "$1" y y; else is "$1" "$2" "$3"; fi
}

# between WHAT LEAST FOUND MOST: a number in a range
between() {
  if [ "$2" -le "${3:-null}" ] && [ "$3" -le "$4" ]; then is "$1" y y; else is "$1" "$2 to $4" "$3"; fi
}

# refused WHAT PATTERN COMMAND...: the command must fail and say why
refused() {
  local said what=$1 pattern=$2
  shift 2
  if said=$("$@" 2>&1); then is "$what" refused "accepted: $said"; else like "$what" "$pattern" "$said"; fi
}

# soon COMMAND...: waits until a command says yes
soon() {
  local _
  for _ in $(seq 100); do
    if "$@" >/dev/null 2>&1; then return; fi
    sleep 0.3
  done
  return 1
}

cri() { crictl --timeout 120s "$@"; }

# pod_config NAME PARENT [PID_MODE]: what a pod is to be, in $WORK/NAME.json
pod_config() {
  jq -n --arg name "$1" --arg parent "$2" --argjson pid "${3:-1}" '{metadata: {name: $name, namespace: "vm", uid: $name, attempt: 0},
    log_directory: ("/var/log/pods/" + $name), linux: {cgroup_parent: $parent, security_context: {namespace_options: {pid: $pid}}}}' >"$WORK/$1.json"
}

# run_pod NAME PARENT [PID_MODE] [HANDLER]: prints its id
run_pod() {
  pod_config "$1" "$2" "${3:-1}"
  cri runp --runtime "${4:-}" "$WORK/$1.json"
}

# create NAME POD_NAME POD RESOURCES ARG...: prints the container's id
create() {
  local name=$1 pod_name=$2 pod=$3 resources=$4
  shift 4
  jq -n --arg name "$name" --arg image "$IMAGE" --argjson resources "$resources" \
    --argjson pid "$(jq .linux.security_context.namespace_options.pid "$WORK/$pod_name.json")" '{metadata: {name: $name}, image: {image: $image},
    command: $ARGS.positional, log_path: ($name + ".log"),
    linux: {resources: $resources, security_context: {namespace_options: {pid: $pid}}}}' --args -- "$@" >"$WORK/c.json"
  cri create "$pod" "$WORK/c.json" "$WORK/$pod_name.json"
}

# run NAME POD_NAME POD RESOURCES ARG...: the same, started
run() {
  local id
  id=$(create "$@")
  cri start "$id" >/dev/null || true
  echo "$id"
}

# pid_of ID: its first process
pid_of() { cri inspect "$1" | jq .info.pid; }

# status_of ID: state, exit code and reason
status_of() { cri inspect "$1" | jq -r '.status | "\(.state) \(.exitCode) \(.reason)"'; }

# ended ID: whether it has
ended() { [ "$(cri inspect "$1" | jq -r .status.state)" = CONTAINER_EXITED ]; }

# parents: the cgroup of pods in the words of the MANAGER, and where things then are
parents() {
  if [ "$MANAGER" = systemd ]; then
    PARENT=kubepods-besteffort-podvm.slice WRONG=/kubepods/besteffort/podvm
    UNDER=/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podvm.slice
    NODE=/system.slice END=.scope MONITORS=/system.slice
  else
    PARENT=/kubepods/besteffort/podvm WRONG=kubepods-besteffort-podvm.slice
    UNDER=/kubepods/besteffort/podvm NODE=/crio END='' MONITORS=$UNDER
  fi
}

# grpc RPC JSON: asks for what crictl has no word for
grpc() { grpcurl -plaintext -emit-defaults -import-path "$here" -proto api.proto -d "$2" unix:///var/run/crio/crio.sock "runtime.v1.RuntimeService/$1"; }

# swap_space: makes some
swap_space() {
  [ "$(wc -l </proc/swaps)" -eq 1 ] || return 0
  fallocate -l 512M /swap
  chmod 600 /swap
  mkswap /swap >/dev/null
  swapon /swap
}

# played: how it went, as the last word
played() {
  [ $BAD = 0 ] || { service_log 40; exit 1; }
  echo "all good"
}
shopt -s extglob
