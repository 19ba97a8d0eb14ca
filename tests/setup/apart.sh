#!/bin/bash
# Runs a command apart from the machine: in mount, process, network, IPC, host name and cgroup
# namespaces of its own, so that nothing it starts, mounts, binds or configures outlives it.
#
# The mounts inside are shared among themselves (pods with bidirectional mounts need that) and reach
# no mount outside. Process 1 inside is the shell of this script: it takes in orphans, and when it
# ends the kernel kills the rest. There is a loopback interface and no way out. cgroups sit under one
# directory per hierarchy, which is removed at the end; what was left in it is said, because a daemon
# that was stopped in order leaves nothing. Container state directories of the host are hidden.
#
# Needs root. Usage: apart.sh COMMAND...
set -euo pipefail

self=$(readlink -f "$0")
name=crioxide-apart-${APART_ID:-$$}

# cgroup_mounts: the mount points of every cgroup hierarchy, v1 and v2
cgroup_mounts() { awk '$3 == "cgroup" || $3 == "cgroup2" { print $2 }' /proc/self/mounts; }

# make_cgroups: a directory of ours in every hierarchy, with the shell of $1 inside
make_cgroups() {
  local mount file controller dir
  while read -r mount; do
    for dir in "$mount"/crioxide-apart-*; do # of a run that was killed
      [ -d "/proc/${dir##*-}" ] || rmdir "$dir/init" "$dir" 2>/dev/null || true
    done
    mkdir "$mount/$name"
    if [ -e "$mount/cgroup.controllers" ]; then
      # What the root does not hand down cannot be limited below it; systemd hands down these.
      for controller in cpu cpuset io memory pids; do
        echo "+$controller" >"$mount/cgroup.subtree_control" 2>/dev/null || true
      done
    else
      # A v1 cpuset starts without a processor, and a task cannot enter it.
      for file in cpuset.mems cpuset.cpus; do
        [ ! -e "$mount/$file" ] || cat "$mount/$file" >"$mount/$name/$file"
      done
    fi
    mkdir "$mount/$name/init"
    for file in cpuset.mems cpuset.cpus; do
      [ -e "$mount/cgroup.controllers" ] || [ ! -e "$mount/$file" ] || cat "$mount/$file" >"$mount/$name/init/$file"
    done
    echo "$1" >"$mount/$name/cgroup.procs"
  done < <(cgroup_mounts)
}

# remove_cgroups: removes what is ours, and says what else was left there
remove_cgroups() {
  local mount dir left=''
  while read -r mount; do
    [ -d "$mount/$name" ] || continue
    while read -r dir; do
      # The parent of pods that name none stays, as that of a slice does.
      [[ ${dir#"$mount/$name"} =~ ^(/init|/crio)?$ ]] || left="$left ${dir#"$mount/$name"}"
      for _ in $(seq 50); do
        rmdir "$dir" 2>/dev/null && break
        sleep 0.02
      done
    done < <(find "$mount/$name" -depth -type d)
  done < <(cgroup_mounts)
  [ -z "$left" ] || echo "apart: cgroups left behind:$(printf '%s\n' $left | sort -u | head -20 | sed 's/^/ /' | tr -d '\n')" >&2
}

case ${1:-} in
  '') echo "usage: apart.sh COMMAND..." >&2; exit 2 ;;

  --in-cgroup) # in the new cgroup namespace, whose root is our directory: step down from it, because
    # a v2 cgroup with processes in it cannot have children with controllers
    while read -r mount; do
      echo $$ >"$mount/$name/init/cgroup.procs"
    done < <(cgroup_mounts)
    shift
    exec setpriv --pdeathsig KILL unshare --mount --propagation private --pid --net --ipc --uts \
      --fork --kill-child=KILL --mount-proc "$self" --inside "$@"
    ;;

  --inside) # process 1 of the new namespaces
    shift
    while read -r mount; do
      mount --bind "$mount/$name" "$mount"
    done < <(cgroup_mounts)
    for dir in /run/netns /run/runc /run/crun /run/crio /run/containers /var/lib/cni /var/lib/crio /var/lib/containers; do
      [ ! -d $dir ] || mount -t tmpfs -o mode=755 none $dir
    done
    mount --make-rshared /
    ip link set lo up
    hostname apart
    # Process 1 gets only the signals it asked for.
    "$@" <&0 &
    command=$!
    trap 'kill -TERM $command 2>/dev/null || true' TERM INT HUP
    status=0
    wait $command || status=$?
    while kill -0 $command 2>/dev/null; do # the wait was cut short by a signal
      status=0
      wait $command || status=$?
    done
    exit $status
    ;;
esac

if [ "$(id -u)" -ne 0 ]; then
  echo "apart: needs root" >&2
  exit 1
fi
trap remove_cgroups EXIT
export APART_ID=$$
status=0
# A copy of this shell enters the cgroups, so that this one can remove them.
( make_cgroups "$BASHPID"; exec setpriv --pdeathsig KILL unshare --cgroup "$self" --in-cgroup "$@" ) <&0 &
child=$!
trap 'kill -TERM $child 2>/dev/null || true' TERM HUP
trap : INT
wait $child || status=$?
while kill -0 $child 2>/dev/null; do
  status=0
  wait $child || status=$?
done
exit $status
