# shellcheck shell=bash
# What is asked. To be sourced by run.sh.

STORIES=(node images pods containers failures streams lasting watched moved)

# play_begin DIR: answers go to DIR
play_begin() {
  PLAY=$1
  NAMES=$NODE/names.sed
  : >"$NAMES"
  PATH=$top/tests/conformance/bin:$PATH
  SOCKET=$NODE/crio.sock
  printf 'runtime-endpoint: unix://%s\ntimeout: 60\n' "$SOCKET" >"$NODE/crictl.yaml"
  mkdir -p "$NODE/json"
}

# as NAME ID: that id is called NAME in answers
as() {
  [ -n "$2" ] || return 0
  printf 's/%s/<%s>/g\ns/%s/<%s short>/g\ns/%s/<%s 12>/g\n' "$2" "$1" "${2:0:13}" "$1" "${2:0:12}" "$1" >>"$NAMES"
}

# alike: what differs by nature gets one name
alike() {
  sed -E -f "$NAMES" -e "s#$THEIRS/bin/crio#<crio>#g; s#$CRIO#<crio>#g" \
    -e 's/[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)? ?(Z|[+-][0-9]{2}:?[0-9]{2})( UTC)?/<time>/g' \
    -e 's/\b1[0-9]{18}\b/<nanos>/g' \
    -e 's/^[Dd]ate: .*/date: <time>/; s/^[Cc]ontent-[Ll]ength: .*/content-length: <n>/; s/^Content-Type/content-type/' \
    -e 's/timestamp "[^"]*"/timestamp <time>/' \
    -e 's/"pid": [0-9]+/"pid": <pid>/' \
    -e 's#/(net|ipc|uts|user|pid|cgroup)ns/[0-9a-f-]{36}#/\1ns/<uuid>#g' \
    -e 's/10\.85\.0\.[0-9]+/<ip>/g' \
    -e 's#overlay/[0-9a-f]{64}/#overlay/<layer>/#g' \
    -e 's#/(exec|attach|portforward)/[A-Za-z0-9_-]{8,}#/\1/<token>#' \
    -e 's#127\.0\.0\.1:[0-9]{5}/#127.0.0.1:<port>/#'
}

# ask NAME COMMAND...: runs a command, keeps what it says and how it ends
ask() {
  local file=$PLAY/$STORY/$1 status=0
  shift
  timeout 90 "$@" >"$NODE/said" 2>"$NODE/erred" </dev/null || status=$?
  {
    printf '$ %s\n' "$*" | alike
    # Documents are sorted by their keys.
    if jq -S . "$NODE/said" >"$NODE/said.json" 2>/dev/null && [ -s "$NODE/said.json" ]; then
      alike <"$NODE/said.json"
    else
      alike <"$NODE/said"
    fi
    sed '/^time=.* level=info msg="\(Updating\|Skipping\|Using\)/d; s/^/! /' "$NODE/erred" | alike
    echo "= $status"
  } >>"$file"
}

# said: what the last one said
said() { cat "$NODE/said"; }

# crictl_ask NAME WORDS...: as `ask`, by crictl
crictl_ask() {
  local name=$1
  shift
  ask "$name" crictl --config "$NODE/crictl.yaml" "$@"
}

# grpc NAME METHOD JSON: as `ask`, by the call itself
grpc() {
  local service=RuntimeService
  case $2 in *Image*) service=ImageService ;; esac
  ask "$1" grpcurl -plaintext -emit-defaults -max-time 60 -import-path "$top/proto/runtime/v1" -proto api.proto -d "$3" \
    "unix://$SOCKET" "runtime.v1.$service/$2"
}

BUSYBOX=registry.k8s.io/e2e-test-images/busybox:1.29-2

# pod NAME [JQ]: a sandbox config, as a file, changed by a jq program
pod() {
  jq -n --arg name "$1" --arg dir "$NODE/pods/$1" '{
    metadata: {name: $name, namespace: "default", uid: ($name + "-uid"), attempt: 1},
    log_directory: $dir, labels: {app: $name, "io.kubernetes.pod.name": $name, "io.kubernetes.pod.namespace": "default",
      "io.kubernetes.pod.uid": ($name + "-uid")}, annotations: {note: "pod"},
    dns_config: {servers: ["10.96.0.10"], searches: ["default.svc.cluster.local"], options: ["ndots:5"]},
    linux: {cgroup_parent: "/kubepods/burstable", security_context: {namespace_options: {network: 0, pid: 1}}}}' |
    jq "${2:-.}" >"$NODE/json/$1.pod"
  echo "$NODE/json/$1.pod"
}

# container NAME COMMAND [JQ]: a container config, as a file
container() {
  jq -n --arg name "$1" --arg command "$2" --arg image "$BUSYBOX" '{
    metadata: {name: $name, attempt: 2}, image: {image: $image, user_specified_image: $image},
    command: ["sh", "-c", $command], log_path: ($name + ".log"),
    labels: {"io.kubernetes.container.name": $name, tier: "one"},
    annotations: {"io.kubernetes.container.restartCount": "2", note: "container"},
    envs: [{key: "GREETING", value: "hello"}],
    linux: {resources: {cpu_period: 100000, cpu_quota: 50000, cpu_shares: 512, memory_limit_in_bytes: 67108864, oom_score_adj: 500},
      security_context: {namespace_options: {network: 0, pid: 1}}}}' |
    jq "${3:-.}" >"$NODE/json/$1.container"
  echo "$NODE/json/$1.container"
}

node() {
  crictl_ask version version
  crictl_ask info info
  grpc status Status '{}'
  grpc status-verbose Status '{"verbose": true}'
  grpc runtime-config RuntimeConfig '{}'
  grpc update-runtime-config UpdateRuntimeConfig '{"runtime_config": {"network_config": {"pod_cidr": "10.0.0.0/8"}}}'
  ask http-info curl -sS --unix-socket "$SOCKET" http://crio/info
  ask http-config curl -sS --unix-socket "$SOCKET" http://crio/config
  ask http-container-unknown curl -sS -i --unix-socket "$SOCKET" http://crio/containers/nosuch
  ask http-pause-unknown curl -sS -i --unix-socket "$SOCKET" http://crio/pause/nosuch
  ask http-unknown curl -sS -i --unix-socket "$SOCKET" http://crio/nosuch
  ask http-goroutines curl -sS -o /dev/null -w '%{http_code}' --unix-socket "$SOCKET" http://crio/debug/goroutines
  ask http-heap curl -sS -o /dev/null -w '%{http_code}' --unix-socket "$SOCKET" http://crio/debug/heap
  ask cli-status "$DAEMON" status --socket "$SOCKET"
  ask cli-status-info "$DAEMON" status --socket "$SOCKET" info
  ask cli-status-config "$DAEMON" status --socket "$SOCKET" config
  ask cli-status-containers "$DAEMON" status --socket "$SOCKET" containers --id nosuch
  ask cli-status-goroutines bash -c "'$DAEMON' status --socket '$SOCKET' goroutines | head -c 20"
  ask cli-version "$DAEMON" version
  ask cli-version-json "$DAEMON" version --json
  ask cli-version-flag "$DAEMON" --version
  ask cli-config "$DAEMON" --config "$NODE/crio.conf" --config-dir "$NODE/crio.conf.d" config
  ask cli-config-default "$DAEMON" config --default
  ask cli-config-nothing "$DAEMON" --config '' --config-dir '' config
  ask cli-help "$DAEMON" --help
  ask cli-unknown "$DAEMON" nosuch
  ask cli-unknown-flag "$DAEMON" --nosuch
  ask metric-names bash -c "curl -sS http://127.0.0.1:9537/metrics | grep ^# | grep -v ' go_\| process_\| promhttp' | sort"
  ask metric-descriptors grpcurl -plaintext -import-path "$top/proto/runtime/v1" -proto api.proto -d '{}' "unix://$SOCKET" runtime.v1.RuntimeService/ListMetricDescriptors
}

images() {
  local digest id
  crictl_ask images-none images -o json
  crictl_ask pull pull $BUSYBOX
  crictl_ask pull-again pull $BUSYBOX
  grpc pull-raw PullImage "{\"image\": {\"image\": \"$BUSYBOX\"}}"
  id=$(said | jq -r .imageRef)
  crictl_ask inspecti inspecti $BUSYBOX
  digest=$(said | jq -r '.status.repoDigests[0]')
  grpc image-status ImageStatus "{\"image\": {\"image\": \"$BUSYBOX\"}, \"verbose\": true}"
  crictl_ask pull-digest pull "$digest"
  crictl_ask inspecti-digest inspecti "$digest"
  crictl_ask pull-tag-digest pull "$BUSYBOX@${digest#*@}"
  crictl_ask inspecti-tag-digest inspecti "$BUSYBOX@${digest#*@}"
  crictl_ask inspecti-id inspecti "$id"
  crictl_ask inspecti-prefix inspecti "${id:0:8}"
  crictl_ask inspecti-sha inspecti "sha256:$id"
  crictl_ask inspecti-unknown inspecti registry.k8s.io/nosuch:1
  grpc image-status-unknown ImageStatus '{"image": {"image": "registry.k8s.io/nosuch:1"}}'
  grpc image-status-empty ImageStatus '{"image": {"image": ""}}'
  grpc image-status-none ImageStatus '{}'
  grpc image-status-bad ImageStatus '{"image": {"image": "UPPER CASE"}}'
  for name in uid username uid-group username-group; do
    crictl_ask pull-user pull registry.k8s.io/k8s-staging-cri-tools/test-image-user-$name:latest
    grpc image-user ImageStatus "{\"image\": {\"image\": \"registry.k8s.io/k8s-staging-cri-tools/test-image-user-$name:latest\"}}"
  done
  for tag in 1 2 3; do crictl_ask pull-tags pull registry.k8s.io/k8s-staging-cri-tools/test-image-tags:$tag; done
  crictl_ask pull-pause pull registry.k8s.io/pause:3.10.1
  crictl_ask pull-docker pull registry.k8s.io/e2e-test-images/nginx:1.14-2
  crictl_ask inspecti-docker inspecti registry.k8s.io/e2e-test-images/nginx:1.14-2
  crictl_ask images images -o json
  crictl_ask images-text images --digests --no-trunc
  grpc list-filter ListImages "{\"filter\": {\"image\": {\"image\": \"$BUSYBOX\"}}}"
  grpc list-filter-unknown ListImages '{"filter": {"image": {"image": "registry.k8s.io/nosuch:1"}}}'
  grpc list-filter-short ListImages '{"filter": {"image": {"image": "busybox"}}}'
  crictl_ask pull-unknown-tag pull registry.k8s.io/pause:nosuch
  grpc pull-unknown-tag PullImage '{"image": {"image": "registry.k8s.io/pause:nosuch"}}'
  grpc pull-unknown-repo PullImage '{"image": {"image": "127.0.0.1:5000/nosuch:1"}}'
  grpc pull-unknown-digest PullImage '{"image": {"image": "127.0.0.1:5000/pause@sha256:0000000000000000000000000000000000000000000000000000000000000000"}}'
  grpc pull-refused PullImage '{"image": {"image": "127.0.0.1:5999/pause:1"}}'
  grpc pull-no-host PullImage '{"image": {"image": "nosuch.example/pause:1"}}'
  grpc pull-policy PullImage '{"image": {"image": "registry.k8s.io/k8s-staging-cri-tools/test-image-3:latest"}}'
  grpc pull-short PullImage '{"image": {"image": "busybox"}}'
  grpc pull-bad PullImage '{"image": {"image": "UPPER CASE"}}'
  grpc pull-empty PullImage '{"image": {"image": ""}}'
  grpc pull-none PullImage '{}'
  grpc pull-bad-digest PullImage '{"image": {"image": "127.0.0.1:5000/pause@sha256:123"}}'
  grpc pull-id PullImage "{\"image\": {\"image\": \"$id\"}}"
  crictl_ask imagefsinfo imagefsinfo
  ask metrics bash -c "curl -sS http://127.0.0.1:9537/metrics | grep '^container_runtime_crio_image' | sed -E 's/ [0-9.e+-]+$//' | sort -u"
  crictl_ask rmi-tag rmi registry.k8s.io/k8s-staging-cri-tools/test-image-tags:1
  crictl_ask rmi-tag-left images -o json
  crictl_ask rmi-unknown rmi registry.k8s.io/nosuch:1
  grpc rmi-unknown RemoveImage '{"image": {"image": "registry.k8s.io/nosuch:1"}}'
  grpc rmi-empty RemoveImage '{"image": {"image": ""}}'
  grpc rmi-none RemoveImage '{}'
  grpc rmi-bad RemoveImage '{"image": {"image": "UPPER CASE"}}'
  crictl_ask rmi-pause rmi registry.k8s.io/pause:3.10.1
  crictl_ask pull-pause pull registry.k8s.io/pause:3.10.1
  crictl_ask rmi-prune rmi --prune
  crictl_ask images-pruned images -o json
}

pods() {
  local id
  crictl_ask pull pull $BUSYBOX
  crictl_ask pods-none pods -o json
  crictl_ask runp runp "$(pod one)"
  id=$(said); ONE=$id
  as pod-one "$id"
  crictl_ask runp-again runp "$(pod one)"
  crictl_ask pods pods
  crictl_ask pods-json pods -o json
  crictl_ask inspectp inspectp "$id"
  grpc pod-status PodSandboxStatus "{\"pod_sandbox_id\": \"$id\"}"
  crictl_ask pods-id pods -o json --id "${id:0:6}"
  crictl_ask pods-name pods -o json --name one
  crictl_ask pods-label pods -o json --label app=one
  crictl_ask pods-label-no pods -o json --label app=two
  crictl_ask pods-state pods -o json --state NotReady
  grpc pods-unknown ListPodSandbox '{"filter": {"id": "nosuch"}}'
  ask pod-dirs bash -c "ls '$NODE/pods/one'; stat -c '%a %n' '$NODE/pods' '$NODE/pods/one'"
  crictl_ask runp-host runp "$(pod host '.linux.security_context.namespace_options = {network: 2, pid: 2, ipc: 2} | .hostname = "theirs" | del(.dns_config)')"
  id=$(said); as pod-host "$id"
  crictl_ask inspectp-host inspectp "$id"
  crictl_ask runp-pid runp "$(pod pid '.linux.security_context.namespace_options.pid = 0 | .hostname = "apid"')"
  id=$(said); as pod-pid "$id"
  crictl_ask inspectp-pid inspectp "$id"
  crictl_ask runp-port runp "$(pod port '.port_mappings = [{protocol: 0, container_port: 80, host_port: 8081}]')"
  id=$(said); as pod-port "$id"
  crictl_ask inspectp-port inspectp "$id"
  crictl_ask stopp stopp "$id"
  crictl_ask stopp-again stopp "$id"
  crictl_ask inspectp-stopped inspectp "$id"
  crictl_ask pods-stopped pods -o json
  crictl_ask rmp rmp "$id"
  crictl_ask rmp-again rmp "$id"
  crictl_ask rmp-running rmp "$ONE"
  grpc rmp-unknown RemovePodSandbox '{"pod_sandbox_id": "nosuch"}'
  grpc rmp-empty RemovePodSandbox '{}'
  grpc stopp-unknown StopPodSandbox '{"pod_sandbox_id": "nosuch"}'
  grpc stopp-empty StopPodSandbox '{}'
  grpc status-unknown PodSandboxStatus '{"pod_sandbox_id": "nosuch"}'
  grpc status-empty PodSandboxStatus '{}'
  grpc update-unknown UpdatePodSandboxResources '{"pod_sandbox_id": "nosuch"}'
  grpc update UpdatePodSandboxResources "{\"pod_sandbox_id\": \"$ONE\", \"overhead\": {}, \"resources\": {}}"
  grpc run-handler RunPodSandbox "{\"config\": $(cat "$(pod handler)"), \"runtime_handler\": \"nosuch\"}"
  grpc run-none RunPodSandbox '{}'
  grpc run-nometa RunPodSandbox '{"config": {}}'
  grpc run-noname RunPodSandbox "{\"config\": $(cat "$(pod noname 'del(.metadata.name)')")}"
  grpc run-nouid RunPodSandbox "{\"config\": $(cat "$(pod nouid 'del(.metadata.uid)')")}"
  grpc run-nonamespace RunPodSandbox "{\"config\": $(cat "$(pod nons 'del(.metadata.namespace)')")}"
  grpc run-relative-log RunPodSandbox "{\"config\": $(cat "$(pod relative '.log_directory = "relative"')")}"
  grpc run-sysctl RunPodSandbox "{\"config\": $(cat "$(pod sysctl '.linux.sysctls = {"kernel.panic": "1"}')")}"
  grpc run-sysctl-bad RunPodSandbox "{\"config\": $(cat "$(pod sysctlbad '.linux.sysctls = {"net.nosuch": "1"}')")}"
  grpc run-cgroup RunPodSandbox "{\"config\": $(cat "$(pod slice '.linux.cgroup_parent = "kubepods.slice"')")}"
  grpc run-hostname RunPodSandbox "{\"config\": $(cat "$(pod hostname '.hostname = "a/b"')")}"
  grpc run-hostport-taken RunPodSandbox "{\"config\": $(cat "$(pod porttwo '.port_mappings = [{protocol: 0, container_port: 80, host_port: 8082}]')")}"
  grpc run-hostport-taken2 RunPodSandbox "{\"config\": $(cat "$(pod portthree '.port_mappings = [{protocol: 0, container_port: 80, host_port: 8082}]')")}"
  grpc run-userns RunPodSandbox "{\"config\": $(cat "$(pod userns '.linux.security_context.namespace_options.userns_options = {mode: 0, uids: [{host_id: 100000, container_id: 0, length: 65536}], gids: [{host_id: 100000, container_id: 0, length: 65536}]}')")}"
  crictl_ask rmp-all rmp -f -a
  crictl_ask pods-end pods -o json
}

# sandbox NAME: a pod, as $POD
sandbox() {
  crictl_ask runp runp "$(pod "$1" "${2:-.}")"
  POD=$(said)
  POD_FILE=$NODE/json/$1.pod
  as "pod-$1" "$POD"
}

# create NAME COMMAND [JQ]: a container in it, as $ID
create() {
  crictl_ask "create-$1" create --no-pull "$POD" "$(container "$@")" "$POD_FILE"
  ID=$(said)
  as "container-$1" "$ID"
}

# ended ID: waits until that container has ended
ended() {
  local _
  for _ in $(seq 100); do
    [ "$(crictl --config "$NODE/crictl.yaml" inspect "$1" 2>/dev/null | jq -r .status.state)" != CONTAINER_EXITED ] || return 0
    sleep 0.1
  done
}

containers() {
  local id
  crictl_ask pull pull $BUSYBOX
  sandbox two
  crictl_ask ps-none ps -o json
  create first 'echo out; echo err >&2; trap "exit 3" TERM; while :; do sleep 0.1; done'
  id=$ID
  crictl_ask create-again create --no-pull "$POD" "$NODE/json/first.container" "$POD_FILE"
  crictl_ask inspect-created inspect "$id"
  crictl_ask ps-created ps -a -o json
  crictl_ask exec-created exec "$id" true
  crictl_ask start start "$id"
  crictl_ask start-again start "$id"
  sleep 1
  crictl_ask inspect-running inspect "$id"
  crictl_ask inspectp-with inspectp "$POD"
  grpc status-raw ContainerStatus "{\"container_id\": \"$id\"}"
  ask http-container curl -sS --unix-socket "$SOCKET" "http://crio/containers/$id"
  ask cli-container "$DAEMON" status --socket "$SOCKET" containers --id "$id"
  crictl_ask ps ps -o json
  ask ps-text bash -c "crictl --config '$NODE/crictl.yaml' ps | sed -E 's/ +/ /g'"
  crictl_ask logs logs "$id"
  ask log-file sed 's/^[^ ]* //' "$NODE/pods/two/first.log"
  ask log-mode stat -c %a "$NODE/pods/two/first.log" "$NODE/pods/two"
  crictl_ask exec-true exec -s "$id" true
  crictl_ask exec-out exec -s "$id" sh -c 'echo out; echo err >&2'
  crictl_ask exec-7 exec -s "$id" sh -c 'exit 7'
  crictl_ask exec-nosuch exec -s "$id" nosuch
  crictl_ask exec-noexec exec -s "$id" /etc/passwd
  crictl_ask exec-timeout exec -s --timeout 1 "$id" sleep 5
  grpc exec-sync-timeout ExecSync "{\"container_id\": \"$id\", \"cmd\": [\"sleep\", \"5\"], \"timeout\": 1}"
  grpc exec-sync-nosuch ExecSync "{\"container_id\": \"$id\", \"cmd\": [\"nosuch\"]}"
  grpc exec-sync-empty ExecSync "{\"container_id\": \"$id\"}"
  grpc exec-sync-unknown ExecSync '{"container_id": "nosuch", "cmd": ["true"]}'
  grpc exec-unknown Exec '{"container_id": "nosuch", "cmd": ["true"], "stdout": true}'
  grpc exec-url Exec "{\"container_id\": \"$id\", \"cmd\": [\"true\"], \"stdout\": true}"
  grpc exec-nothing Exec "{\"container_id\": \"$id\", \"cmd\": [\"true\"]}"
  grpc exec-tty-stderr Exec "{\"container_id\": \"$id\", \"cmd\": [\"true\"], \"tty\": true, \"stderr\": true}"
  grpc attach-unknown Attach '{"container_id": "nosuch", "stdout": true}'
  grpc port-unknown PortForward '{"pod_sandbox_id": "nosuch", "port": [80]}'
  crictl_ask env exec -s "$id" env
  crictl_ask hosts exec -s "$id" cat /etc/hosts /etc/hostname /etc/resolv.conf
  crictl_ask mounts exec -s "$id" sh -c "cut -d' ' -f2,3 /proc/mounts"
  crictl_ask caps exec -s "$id" sh -c "grep -E '^(Cap|NoNew|Seccomp:|Groups|Uid)' /proc/self/status"
  crictl_ask limits exec -s "$id" sh -c "cat /proc/1/oom_score_adj; cat /proc/1/cgroup | cut -d: -f2 | sort; ulimit -a"
  crictl_ask devices exec -s "$id" ls /dev
  ask stats bash -c "crictl --config '$NODE/crictl.yaml' stats -o json '$id' | jq '$SHAPE'"
  ask statsp bash -c "crictl --config '$NODE/crictl.yaml' statsp -o json | jq '$SHAPE'"
  grpc stats-unknown ContainerStats '{"container_id": "nosuch"}'
  grpc statsp-unknown PodSandboxStats '{"pod_sandbox_id": "nosuch"}'
  grpc stats-list-unknown ListContainerStats '{"filter": {"id": "nosuch"}}'
  crictl_ask update update --memory 134217728 --cpu-quota 20000 "$id"
  crictl_ask update-seen inspect "$id"
  grpc update-low UpdateContainerResources "{\"container_id\": \"$id\", \"linux\": {\"memory_limit_in_bytes\": 1000}}"
  grpc update-unknown UpdateContainerResources '{"container_id": "nosuch", "linux": {}}'
  grpc reopen ReopenContainerLog "{\"container_id\": \"$id\"}"
  grpc reopen-unknown ReopenContainerLog '{"container_id": "nosuch"}'
  crictl_ask checkpoint checkpoint --export "$NODE/checkpoint.tar" "$id"
  ask http-pause curl -sS -i --unix-socket "$SOCKET" "http://crio/pause/$id"
  crictl_ask inspect-paused inspect "$id"
  ask http-pause-again curl -sS -i --unix-socket "$SOCKET" "http://crio/pause/$id"
  ask http-unpause curl -sS -i --unix-socket "$SOCKET" "http://crio/unpause/$id"
  ask http-unpause-again curl -sS -i --unix-socket "$SOCKET" "http://crio/unpause/$id"
  crictl_ask stop stop "$id"
  crictl_ask stop-again stop "$id"
  crictl_ask inspect-stopped inspect "$id"
  crictl_ask exec-stopped exec -s "$id" true
  grpc exec-stopped ExecSync "{\"container_id\": \"$id\", \"cmd\": [\"true\"]}"
  grpc exec-url-stopped Exec "{\"container_id\": \"$id\", \"cmd\": [\"true\"], \"stdout\": true}"
  grpc update-stopped UpdateContainerResources "{\"container_id\": \"$id\", \"linux\": {\"cpu_shares\": 2}}"
  grpc reopen-stopped ReopenContainerLog "{\"container_id\": \"$id\"}"
  grpc stats-stopped ContainerStats "{\"container_id\": \"$id\"}"
  crictl_ask start-stopped start "$id"
  crictl_ask rm rm "$id"
  crictl_ask rm-again rm "$id"
  create seven 'exit 7'
  crictl_ask start start "$ID"
  ended "$ID"
  crictl_ask inspect-seven inspect "$ID"
  create zero 'exit 0'
  crictl_ask start start "$ID"
  ended "$ID"
  crictl_ask inspect-zero inspect "$ID"
  create oom 'dd if=/dev/zero of=/dev/null bs=100M count=1' '.linux.resources.memory_limit_in_bytes = 20000000'
  crictl_ask start start "$ID"
  ended "$ID"
  crictl_ask inspect-oom inspect "$ID"
  create segv 'kill -SEGV $$'
  crictl_ask start start "$ID"
  ended "$ID"
  crictl_ask inspect-segv inspect "$ID"
  create stubborn 'trap "" TERM; while :; do sleep 0.1; done'
  crictl_ask start start "$ID"
  sleep 0.5
  crictl_ask stop-stubborn stop --timeout 1 "$ID"
  crictl_ask inspect-stubborn inspect "$ID"
  crictl_ask ps-all ps -a -o json
  create running 'sleep 1000'
  crictl_ask start start "$ID"
  crictl_ask rm-running rm "$ID"
  crictl_ask rm-force rm -f "$ID"
  crictl_ask rmp-force rmp -f "$POD"
  crictl_ask ps-end ps -a -o json
}

# fail NAME COMMAND JQ: a container that cannot be; by which call, and what remains
fail() {
  local name=$1
  crictl_ask "$name" create --no-pull "$POD" "$(container "$@")" "$POD_FILE"
  ID=$(said)
  [ -n "$ID" ] || return 0
  as "container-$name" "$ID"
  crictl_ask "$name" start "$ID"
  ask "$name" bash -c "crictl --config '$NODE/crictl.yaml' inspect '$ID' | jq '.status | {state, exitCode, reason, message}'"
  crictl_ask "$name" rm -f "$ID"
}

failures() {
  crictl_ask pull pull $BUSYBOX
  sandbox three
  fail image true '.image.image = "registry.k8s.io/nosuch:1"'
  fail image-empty true '.image = {image: ""}'
  fail image-none true 'del(.image)'
  fail image-id true '.image.image = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"'
  fail name-none true 'del(.metadata.name)'
  fail meta-none true 'del(.metadata)'
  fail command '' '.command = ["nosuch"]'
  fail command-path '' '.command = ["/nosuch/program"]'
  fail command-noexec '' '.command = ["/etc/passwd"]'
  fail command-dir '' '.command = ["/etc"]'
  fail command-none '' 'del(.command)'
  fail cwd true '.working_dir = "/made/by/daemon"'
  fail cwd-file true '.working_dir = "/etc/passwd"'
  fail cwd-relative true '.working_dir = "relative"'
  fail mount-missing true ".mounts = [{host_path: \"$NODE/nosuch\", container_path: \"/mnt\"}]"
  fail mount-empty-host true '.mounts = [{container_path: "/mnt"}]'
  fail mount-empty-container true '.mounts = [{host_path: "/tmp"}]'
  fail mount-relative true '.mounts = [{host_path: "/tmp", container_path: "mnt"}]'
  fail mount-propagation true '.mounts = [{host_path: "/tmp", container_path: "/mnt", propagation: 7}]'
  fail mount-rro true '.mounts = [{host_path: "/tmp", container_path: "/mnt", recursive_read_only: true}]'
  fail mount-file-on-dir true '.mounts = [{host_path: "/etc/passwd", container_path: "/etc"}]'
  fail mount-image true '.mounts = [{image: {image: "registry.k8s.io/nosuch:1"}, container_path: "/mnt"}]'
  fail user-name true '.linux.security_context.run_as_username = "nosuch"'
  fail user-uid 'id' '.linux.security_context.run_as_user = {value: 4242}'
  fail user-group true '.linux.security_context.run_as_group = {value: 5}'
  fail user-negative true '.linux.security_context.run_as_user = {value: -1}'
  fail user-huge true '.linux.security_context.run_as_user = {value: 5000000000}'
  fail caps true '.linux.security_context.capabilities = {add_capabilities: ["NOSUCH"]}'
  fail caps-drop true '.linux.security_context.capabilities = {drop_capabilities: ["NOSUCH"]}'
  fail caps-lower 'grep CapEff /proc/self/status' '.linux.security_context.capabilities = {add_capabilities: ["net_raw"]}'
  fail privileged true '.linux.security_context.privileged = true'
  fail seccomp true '.linux.security_context.seccomp = {profile_type: 2, localhost_ref: "/nosuch.json"}'
  fail seccomp-path true '.linux.security_context.seccomp_profile_path = "localhost//nosuch.json"'
  fail apparmor true '.linux.security_context.apparmor = {profile_type: 2, localhost_ref: "nosuch"}'
  fail device true '.devices = [{host_path: "/dev/nosuch", container_path: "/dev/nosuch", permissions: "rwm"}]'
  fail device-file true '.devices = [{host_path: "/etc/passwd", container_path: "/dev/nosuch", permissions: "rwm"}]'
  fail cdi true '.CDI_devices = [{name: "vendor.com/class=nosuch"}]'
  fail memory true '.linux.resources.memory_limit_in_bytes = 1000'
  fail cpus true '.linux.resources.cpuset_cpus = "77"'
  fail hugepages true '.linux.resources.hugepage_limits = [{page_size: "3MB", limit: 1}]'
  fail log-path true '.log_path = "../../x.log"'
  fail log-none true 'del(.log_path)'
  fail env true '.envs = [{key: "", value: "x"}]'
  fail env-equals 'env' '.envs = [{key: "A=B", value: "x"}]'
  fail signal true '.stop_signal = 99'
  fail tty 'tty' '.tty = true | .stdin = true'
  grpc create-unknown-pod CreateContainer "{\"pod_sandbox_id\": \"nosuch\", \"config\": $(cat "$(container lost true)"), \"sandbox_config\": $(cat "$POD_FILE")}"
  grpc create-no-config CreateContainer "{\"pod_sandbox_id\": \"$POD\"}"
  grpc create-no-pod-config CreateContainer "{\"pod_sandbox_id\": \"$POD\", \"config\": $(cat "$(container lost true)")}"
  grpc create-empty CreateContainer '{}'
  grpc start-unknown StartContainer '{"container_id": "nosuch"}'
  grpc start-empty StartContainer '{}'
  grpc stop-unknown StopContainer '{"container_id": "nosuch"}'
  grpc stop-empty StopContainer '{}'
  grpc rm-unknown RemoveContainer '{"container_id": "nosuch"}'
  grpc rm-empty RemoveContainer '{}'
  grpc status-unknown ContainerStatus '{"container_id": "nosuch"}'
  grpc status-empty ContainerStatus '{}'
  grpc list-unknown ListContainers '{"filter": {"id": "nosuch"}}'
  grpc list-pod-unknown ListContainers '{"filter": {"pod_sandbox_id": "nosuch"}}'
  grpc checkpoint-unknown CheckpointContainer '{"container_id": "nosuch", "location": "/tmp/x.tar"}'
  crictl_ask stopp stopp "$POD"
  grpc create-stopped-pod CreateContainer "{\"pod_sandbox_id\": \"$POD\", \"config\": $(cat "$(container late true)"), \"sandbox_config\": $(cat "$POD_FILE")}"
  crictl_ask rmp rmp "$POD"
}

# What a document has, without its numbers.
SHAPE='walk(if type == "number" then (if . == 0 then 0 else 1 end) elif type == "string" and test("^[0-9]+$") then (if . == "0" then "0" else "N" end) else . end)'

streams() {
  local id
  crictl_ask pull pull $BUSYBOX
  sandbox four
  create web 'mkdir /www; echo page >/www/index.html; exec httpd -f -p 80 -h /www'
  id=$ID
  crictl_ask start start "$id"
  sleep 0.5
  crictl_ask exec exec "$id" sh -c 'echo out; echo err >&2; exit 4'
  crictl_ask exec-nosuch exec "$id" nosuch
  crictl_ask exec-dir exec "$id" /etc
  crictl_ask exec-ws exec --transport websocket "$id" sh -c 'echo out; exit 5'
  crictl_ask exec-ws-nosuch exec --transport websocket "$id" nosuch
  ask exec-stdin bash -c "echo in | crictl --config '$NODE/crictl.yaml' exec -i '$id' cat"
  ask port-forward bash -c "timeout 5 crictl --config '$NODE/crictl.yaml' port-forward '$POD' 7777:80 & sleep 1; curl -sS http://127.0.0.1:7777/; kill %1"
  crictl_ask metrics-pods metricsp
  crictl_ask stop stop "$id"
  crictl_ask attach-stopped attach "$id"
  crictl_ask rmp rmp -f "$POD"
}

# lasting: a daemon's restart, and what its counters and events say
lasting() {
  local id
  crictl_ask pull pull $BUSYBOX
  grpcurl -plaintext -emit-defaults -max-time 20 -import-path "$top/proto/runtime/v1" -proto api.proto -d '{}' \
    "unix://$SOCKET" runtime.v1.RuntimeService/GetContainerEvents >"$NODE/events" 2>/dev/null &
  sleep 0.5
  sandbox five
  create long 'trap "exit 0" TERM; while :; do sleep 0.1; done'
  id=$ID
  crictl_ask start start "$id"
  create short 'exit 9'
  crictl_ask start start "$ID"
  ended "$ID"
  sleep 1
  ask events jq -c 'select(.podSandboxStatus.metadata.name == "five") | [.containerEventType, .containerId, (.podSandboxStatus.metadata.name), [.containersStatuses[]? | [.metadata.name, .state, .exitCode, .reason]]]' "$NODE/events"
  change "$WHO"
  crictl_ask pods-restarted pods -o json
  crictl_ask ps-restarted ps -a -o json
  crictl_ask inspect-restarted inspect "$id"
  crictl_ask inspectp-restarted inspectp "$POD"
  crictl_ask stop stop "$id"
  crictl_ask inspect-stopped inspect "$id"
  crictl_ask rmp rmp -f "$POD"
  ask metrics bash -c "curl -sS http://127.0.0.1:9537/metrics | grep ^container_runtime | sed -E 's/ [0-9.e+-]+$//' | sort -u"
}

# watched: what cAdvisor sees of a pod, for which it asks the socket; its program is CAD, which prints a line a container
watched() {
  [ -n "${CAD:-}" ] || return 0
  crictl_ask pull pull $BUSYBOX
  sandbox six
  create seen 'while :; do sleep 0.1; done'
  crictl_ask start start "$ID"
  mkdir -p /var/run/crio
  ln -sf "$SOCKET" /var/run/crio/crio.sock
  ask http-pod curl -sS --unix-socket "$SOCKET" "http://crio/containers/$POD"
  ask cgroups bash -c "cd /sys/fs/cgroup; find . -path '*kubepods*' -name 'crio-*' | grep -v conmon | sort"
  ask cadvisor bash -c "'$CAD' 2>'$NODE/cad.log' | sort"
  crictl_ask rmp rmp -f "$POD"
  ask cgroups-after bash -c "cd /sys/fs/cgroup; find . -path '*kubepods*' -name 'crio-*' | sort"
}

# moved: what becomes of images and pods when the other daemon takes the store, and when the first comes back
moved() {
  local id pid other=theirs
  [ "$WHO" = ours ] || other=ours
  crictl_ask pull pull $BUSYBOX
  crictl_ask pull pull registry.k8s.io/e2e-test-images/nginx:1.14-2
  sandbox seven
  create stays 'trap "exit 0" TERM; while :; do sleep 0.1; done'
  id=$ID
  crictl_ask start start "$id"
  pid=$(crictl --config "$NODE/crictl.yaml" inspect "$id" | jq .info.pid)
  crictl_ask images-before images --digests --no-trunc
  change "$other"
  crictl_ask images-other images --digests --no-trunc
  crictl_ask pods-other pods
  crictl_ask ps-other ps -a
  ask process-other kill -0 "$pid"
  ask containers-other jq -c '.[] | [.id, .names]' "$NODE/storage/overlay-containers/volatile-containers.json"
  crictl_ask runp-other runp "$NODE/json/seven.pod"
  POD=$(said)
  as pod-other "$POD"
  create stays true
  crictl_ask rmp-other rmp -f -a
  ask process-other-emptied kill -0 "$pid"
  change "$WHO"
  crictl_ask pods-back pods
  crictl_ask ps-back ps -a
  crictl_ask rmp-back rmp -f -a
  ask process-back kill -0 "$pid"
  ask containers-back jq -c '.[] | [.id, .names]' "$NODE/storage/overlay-containers/volatile-containers.json"
  kill -KILL "$pid" 2>/dev/null || true
}

# change WHO: that daemon takes the store
change() {
  node_stop || true
  rm -f "$NODE/crio.sock"
  start "$1"
}
