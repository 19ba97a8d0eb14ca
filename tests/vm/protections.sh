#!/bin/bash
# Tells whether containers have the protection of AppArmor or SELinux that they should, on a machine whose kernel
# has one of them on: labels of processes and files, what is refused, what a restart of the daemon keeps.
#
# The machine is thrown away afterwards.
#
# Usage: protections.sh RUN [ARG...]
#   RUN ARG... DIR COMMAND   copies DIR to /in of the machine, runs COMMAND there as root, and gives its
#                            output and exit code
# Environment: DEB, the package (default target/crioxide_ARCH.deb).
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)

# shellcheck source=tests/vm/play.sh
. "$here/play.sh"
begin "$@"

# pod NAME [JSON]: runs a pod with this security context, prints its id
pod() {
  jq -n --arg name "$1" --argjson context "${2:-{\}}" --argjson more "${3:-{\}}" '{metadata: {name: $name, namespace: "vm", uid: $name, attempt: 0},
    log_directory: ("/var/log/pods/" + $name), linux: {cgroup_parent: "vm.slice", security_context: $context}} + $more' >"$WORK/$1.json"
  cri runp "${@:4}" "$WORK/$1.json"
}

# create NAME POD_NAME POD [CONTEXT] [MORE]: makes a container that sleeps, prints its id
create() {
  jq -n --arg name "$1" --arg image "$IMAGE" --argjson context "${4:-{\}}" --argjson more "${5:-{\}}" '{metadata: {name: $name},
    image: {image: $image}, command: ["sleep", "10000"], log_path: ($name + ".log"), linux: {security_context: $context}} + $more' >"$WORK/c.json"
  cri create "$3" "$WORK/c.json" "$WORK/$2.json"
}

run() {
  local id
  id=$(create "$@")
  cri start "$id" >/dev/null
  echo "$id"
}

# label ID: of the container's process; exec_label: of a command run in it
label() { tr -d '\0\n' <"/proc/$(pid_of "$1")/attr/current" | sed 's/ *$//'; }
exec_label() { cri exec --sync "$1" cat /proc/self/attr/current | tr -d '\0' | sed 's/ *$//'; }

profile_there() { grep -c "^$1 (" /sys/kernel/security/apparmor/profiles || true; }
unload() { printf '%s' "$1" >/sys/kernel/security/apparmor/.remove; }

apparmor() {
  local pod id handler
  like "the default profile is loaded" 1 "$(profile_there crio-default)"
  printf 'include <tunables/global>\nprofile vm-mine flags=(attach_disconnected) {\n  include <abstractions/base>\n  file,\n  capability,\n  signal,\n  deny /tmp/** w,\n}\n' |
    apparmor_parser -r
  for handler in runc crun; do
    pod=$(pod "aa-$handler" '{}' '{}' --runtime $handler)
    id=$(run main "aa-$handler" "$pod")
    like "$handler: a container has the default profile" '*crio-default*(*)' "$(label "$id")"
    like "$handler: so has a command run in it" '*crio-default*(*)' "$(exec_label "$id")"
    like "$handler: it may signal its own" 0 "$(cri exec --sync "$id" sh -c 'sleep 100 & kill $! && echo 0')"
    cri rmp -f "$pod" >/dev/null
  done

  pod=$(pod aa '{"privileged": true}')
  id=$(run named aa "$pod" '{"apparmor": {"profile_type": 2, "localhost_ref": "localhost/vm-mine"}}')
  like "a named profile" 'vm-mine (enforce)' "$(label "$id")"
  like "a command has it too" 'vm-mine (enforce)' "$(exec_label "$id")"
  refused "what it denies" '*ermission denied*' cri exec --sync "$id" touch /tmp/x
  id=$(run older aa "$pod" '{"apparmor_profile": "localhost/vm-mine"}')
  like "the older field" 'vm-mine (enforce)' "$(label "$id")"
  id=$(run both aa "$pod" '{"apparmor": {"profile_type": 0}, "apparmor_profile": "localhost/none"}')
  like "the newer field wins" 'crio-default (enforce)' "$(label "$id")"
  id=$(run free aa "$pod" '{"apparmor": {"profile_type": 1}}')
  like "unconfined" '!(*crio-default*|*vm-mine*)' "$(label "$id")"
  like "it may open what the node's kernel tells" ok "$(cri exec --sync "$id" sh -c ': >/proc/uptime && echo ok')"
  id=$(run kept aa "$pod")
  refused "to write there is denied by the default profile" '*ermission denied*' cri exec --sync "$id" sh -c ': >/proc/uptime'
  id=$(run privileged aa "$pod" '{"privileged": true}')
  like "privileged has none" '!(*crio-default*)' "$(label "$id")"
  refused "a profile that is not loaded" '*nowhere*is not loaded*' \
    create missing aa "$pod" '{"apparmor": {"profile_type": 2, "localhost_ref": "localhost/nowhere"}}'
  like "and nothing is left of it" 6 "$(cri ps -a -q --pod "$pod" | wc -l)"
  cri rmp -f "$pod" >/dev/null

  pod=$(pod gone)
  unload crio-default
  like "somebody takes the default profile away" 0 "$(profile_there crio-default)"
  id=$(run main gone "$pod")
  like "the next container has it again" 'crio-default (enforce)' "$(label "$id")"
  refused "/proc/sys stays shut even to who may write it" '*' cri exec --sync "$id" sh -c 'echo x >/proc/sys/kernel/hostname'
  cri rmp -f "$pod" >/dev/null

  printf '[crio.runtime]\napparmor_profile = "vm-mine"\n' >/etc/crio/crio.conf.d/20-profile.conf
  systemctl restart crio.service
  pod=$(pod own)
  like "the configured profile" 'vm-mine (enforce)' "$(label "$(run main own "$pod")")"
  cri rmp -f "$pod" >/dev/null
  printf '[crio.runtime]\napparmor_profile = "vm-nowhere"\n' >/etc/crio/crio.conf.d/20-profile.conf
  systemctl restart crio.service 2>/dev/null || true
  like "a configured profile that is not loaded keeps the daemon from starting" '*vm-nowhere*not loaded*' "$(service_log 10)"
  rm /etc/crio/crio.conf.d/20-profile.conf
  systemctl reset-failed crio.service
  systemctl restart crio.service
}

# file_label PATH: of a file of the node
file_label() { stat -c %C "$1"; }
level() { cut -d: -f4- <<<"$1"; }

# artifact: puts one into the store as other tools do, vm.test/artifact:1 with a file; ARTIFACT is its blob
artifact() {
  local store=/var/lib/containers/storage/artifacts blobs layer config manifest
  blobs=$store/blobs/sha256
  mkdir -p $blobs
  put() { sha256sum | cut -c1-64; }
  layer=$(printf bytes | put) config=$(printf '{}' | put)
  ARTIFACT=$blobs/$layer
  printf bytes >"$ARTIFACT"
  printf '{}' >"$blobs/$config"
  jq -cjn --arg layer "sha256:$layer" --arg config "sha256:$config" '{schemaVersion: 2, mediaType: "application/vnd.oci.image.manifest.v1+json",
    artifactType: "application/vnd.vm", config: {mediaType: "application/vnd.oci.empty.v1+json", digest: $config, size: 2},
    layers: [{mediaType: "application/octet-stream", digest: $layer, size: 5, annotations: {"org.opencontainers.image.title": "file"}}]}' >"$WORK/manifest"
  manifest=$(put <"$WORK/manifest")
  cp "$WORK/manifest" "$blobs/$manifest"
  jq -n --arg digest "sha256:$manifest" --argjson size "$(stat -c %s "$WORK/manifest")" '{schemaVersion: 2, mediaType: "application/vnd.oci.image.index.v1+json",
    manifests: [{mediaType: "application/vnd.oci.image.manifest.v1+json", digest: $digest, size: $size,
      annotations: {"org.opencontainers.image.ref.name": "vm.test/artifact:1"}}]}' >$store/index.json
  echo '{"imageLayoutVersion":"1.0.0"}' >$store/oci-layout
}

selinux() {
  # Where the kubelet has them: the daemon may not look everywhere.
  local one two id a b root=/var/lib/kubelet/pods/vm volume=/var/lib/kubelet/pods/vm/volume
  mkdir -p $volume/sub/deep $root/outside
  restorecon -R /var/lib/kubelet
  one=$(pod one)
  two=$(pod two)
  id=$(run main one "$one")
  a=$(label "$id")
  like "a container's label" 'system_u:system_r:container_t:s0:c*,c*' "$a"
  like "a command run in it has it too" "$a" "$(exec_label "$id")"
  like "so has the pod's next container" "$a" "$(label "$(run next one "$one")")"
  b=$(label "$(run main two "$two")")
  like "another pod has another level" other "$([ "$(level "$a")" = "$(level "$b")" ] && echo same || echo other)"
  like "files in it have its level" "*:container_file_t:$(level "$a")" "$(file_label "/proc/$(pid_of "$id")/root/bin")"
  like "it may write" ok "$(cri exec --sync "$id" sh -c 'touch /x /dev/shm/x && cat /etc/resolv.conf /etc/hostname >/dev/null && echo ok')"
  like "the shared memory has the label" "*container_file_t:$(level "$a")*" "$(grep " /dev/shm " "/proc/$(pid_of "$id")/mountinfo")"

  systemctl restart crio.service
  like "the label outlives the daemon" "$a" "$(label "$(run third one "$one")")"

  touch $volume/sub/deep/file $root/outside/file
  ln -s $root/outside $volume/sub/link
  local before
  before=$(file_label $root/outside/file)
  mount='{"mounts": [{"host_path": "'$volume'", "container_path": "/volume", "selinux_relabel": true}]}'
  id=$(run volume one "$one" '{}' "$mount")
  like "a volume is labelled" "*:container_file_t:$(level "$a")" "$(file_label "$volume")"
  like "with all in it" "*:container_file_t:$(level "$a")" "$(file_label "$volume/sub/deep/file")"
  like "a link in it too" "*:container_file_t:$(level "$a")" "$(stat -c %C "$volume/sub/link")"
  like "but not what the link leads to" "$before" "$(file_label $root/outside/file)"
  like "the container writes there" ok "$(cri exec --sync "$id" sh -c 'touch /volume/sub/deep/file && echo ok')"
  refused "another pod cannot read it" '*ermission denied*' \
    cri exec --sync "$(run reader two "$two" '{}' "${mount/true/false}")" cat /volume/sub/deep/file
  refused "a directory of the system is not relabelled" '*/etc*not relabelled*' \
    create etc one "$one" '{}' '{"mounts": [{"host_path": "/etc", "container_path": "/e", "selinux_relabel": true}]}'
  create spc two "$two" '{"selinux_options": {"type": "spc_t"}}' "$mount" >/dev/null
  like "for a free container a volume stays" "*:container_file_t:$(level "$a")" "$(file_label "$volume/sub/deep/file")"

  # An artifact is one file for all who mount it, and no pod's own.
  artifact
  mount='{"mounts": [{"image": {"image": "vm.test/artifact:1"}, "container_path": "/model", "readonly": true, "selinux_relabel": true}]}'
  is "a pod reads an artifact's file" bytes "$(cri exec --sync "$(run reads one "$one" '{}' "$mount")" cat /model/file)"
  is "so does another" bytes "$(cri exec --sync "$(run reads two "$two" '{}' "$mount")" cat /model/file)"
  like "it has the label of an image's files" '*:container_ro_file_t:s0' "$(file_label "$ARTIFACT")"

  id=$(run options two "$two" '{"selinux_options": {"level": "s0:c9,c8"}}')
  like "a level of its own" 'system_u:system_r:container_t:s0:c8,c9' "$(label "$id")"
  refused "a level that is none" '*not one of this node*policy*' \
    create wrong two "$two" '{"selinux_options": {"level": "s0,c9,c8"}}'
  refused "a pod with a type that is none" '*not one of this node*policy*' pod wrong '{"selinux_options": {"type": "no_such_t"}}'
  cri rmp -f "$one" "$two" >/dev/null

  one=$(pod privileged '{"privileged": true}')
  like "privileged" '*:spc_t:s0' "$(label "$(run main privileged "$one" '{"privileged": true}')")"
  two=$(pod hostpid '{"namespace_options": {"pid": 2}}')
  like "with the node's processes" '!(*container_t*)' "$(label "$(run main hostpid "$two" '{"namespace_options": {"pid": 2}}')")"
  cri rmp -f "$one" "$two" >/dev/null
  one=$(pod hostnet '{"namespace_options": {"network": 2}}')
  like "in the node's network" '!(*container_t*)' "$(label "$(run main hostnet "$one" '{"namespace_options": {"network": 2}}')")"
  cri rmp -f "$one" >/dev/null
}

trap 'kill "${OCI_REGISTRY_PID:-}" 2>/dev/null || true; rm -rf "$WORK"' EXIT
service_start "$here" systemd
IMAGE=registry.k8s.io/e2e-test-images/busybox:1.29-2
cri pull $IMAGE >/dev/null
if [ -d /sys/kernel/security/apparmor ]; then
  echo "AppArmor:"
  apparmor
elif [ -e /sys/fs/selinux/enforce ]; then
  echo "SELinux, enforcing $(cat /sys/fs/selinux/enforce):"
  selinux
else
  echo "this kernel has neither AppArmor nor SELinux on" >&2
  exit 1
fi
like "no pod is left" "" "$(cri pods -q)"
service_end || BAD=1
played
