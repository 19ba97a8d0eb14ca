#!/bin/bash
# Shows on one machine, in a minute, what the daemon is for: a signed image is pulled, judged and run as
# a pod; an unsigned one is refused before anything of it is fetched.
#
# Installs what is missing, builds the daemon, and does the rest apart (tests/setup/apart.sh) in one
# directory: no file, network, container store or cgroup of this machine is used, and nothing stays.
#
# Usage: run.sh [--shell]   (--shell: stop before the cleaning up, with a shell beside the daemon)
# Environment: CRIO, a daemon to take instead of building one.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
# shellcheck source=tests/setup/node.sh
. "$here/../setup/node.sh"
# shellcheck source=tests/setup/cri.sh
. "$here/../setup/cri.sh"

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
show() { sed 's/^/    /'; }

# image NAME: an image whose only content is a busybox and a page that says the name
image() {
  local root=$NODE/make/$1
  mkdir -p "$root/bin" "$root/www"
  cp "$NODE/busybox" "$root/bin/busybox"
  ln -s busybox "$root/bin/sh"
  echo "hello from a pod whose image is $1" >"$root/www/index.html"
  oci_image '{"Cmd":["/bin/busybox","sh","-c","echo serving /www on port 8080; exec /bin/busybox httpd -f -v -p 8080 -h /www"]}' \
    "$(oci_layer "$root")"
}

# requests WHAT: the registry's own record of what it was asked for
requests() { grep -oE "\"(GET|HEAD) /v2/$1[^ ]*" "$NODE/registry.log" | tr -d '"' | sort | uniq -c | show; }

inside() {
  local signed unsigned ref pod container ip answer
  OCI_BLOBS=$NODE/blobs
  mkdir -p "$OCI_BLOBS" "$NODE/make" "$NODE/registries.conf.d"

  say "1. A private registry, and two images made from busybox"
  oci_registry "$NODE" 5000
  printf '[[registry]]\nlocation = "%s"\ninsecure = true\n' "$OCI_REGISTRY" >"$NODE/registries.conf"
  signed=$(image shop/signed)
  oci_push "$signed" shop/signed 1.0
  unsigned=$(image shop/unsigned)
  oci_push "$unsigned" shop/unsigned 1.0
  printf '%s\n' "$OCI_REGISTRY/shop/signed:1.0    $(jq -r .digest <<<"$signed")" \
    "$OCI_REGISTRY/shop/unsigned:1.0  $(jq -r .digest <<<"$unsigned")" | show

  say "2. A key made on the spot signs one of them; the policy asks for that key"
  oci_key "$NODE"
  oci_sign "$NODE/cosign.key" "$signed" shop/signed "$OCI_REGISTRY/shop/signed"
  node_policy "$(jq -n --arg key "$NODE/cosign.pub" --arg scope "$OCI_REGISTRY" '{
    default: [{type: "reject"}],
    transports: {docker: {($scope): [
      {type: "sigstoreSigned", keyPath: $key, signedIdentity: {type: "matchRepository"}}]}}}')"
  show <"$NODE/policy.json"

  say "3. The daemon starts"
  node_network
  node_start "$CRIO"
  CRI_SOCKET=$NODE/crio.sock
  cri Version 'version: "v1"' | show

  say "4. The signed image is pulled, and runs as a pod"
  ref=$(cri PullImage "image { image: \"$OCI_REGISTRY/shop/signed:1.0\" }" | cri_field image_ref)
  echo "image ID $ref" | show
  local config='metadata { name: "hello" uid: "hello-uid" namespace: "shop" } log_directory: "'$NODE/pods/hello'"'
  pod=$(cri RunPodSandbox "config { $config }" | cri_field pod_sandbox_id)
  container=$(cri CreateContainer "pod_sandbox_id: \"$pod\" sandbox_config { $config } config {
    metadata { name: \"web\" } image { image: \"$ref\" user_specified_image: \"$OCI_REGISTRY/shop/signed:1.0\" } log_path: \"web.log\" }" |
    cri_field container_id)
  cri StartContainer "container_id: \"$container\"" >/dev/null
  ip=$(cri PodSandboxStatus "pod_sandbox_id: \"$pod\"" | cri_field ip)
  echo "pod $pod has the address $ip" | show
  answer=$(curl -sS --retry 20 --retry-connrefused --retry-delay 1 --max-time 20 "http://$ip:8080/")
  printf '%s\n' "curl http://$ip:8080/" "$answer" | show
  [ "$answer" = 'hello from a pod whose image is shop/signed' ]
  echo "its log, $NODE/pods/hello/web.log:" | show
  grep -q 'serving /www' "$NODE/pods/hello/web.log"
  show <"$NODE/pods/hello/web.log"

  say "5. The unsigned image is refused"
  if cri PullImage "image { image: \"$OCI_REGISTRY/shop/unsigned:1.0\" }" >/dev/null 2>"$NODE/refusal"; then
    echo "quickstart: the unsigned image was pulled, that is wrong" >&2
    return 1
  fi
  show <"$NODE/refusal"
  grep -q 'SignatureValidationFailed: ' "$NODE/refusal"
  echo "what the registry was asked for it: no config, no layer" | show
  requests shop/unsigned
  if grep -q '"GET /v2/shop/unsigned/blobs/' "$NODE/registry.log"; then
    echo "quickstart: blobs of the refused image were fetched, that is wrong" >&2
    return 1
  fi

  if [ "${1:-}" = --shell ]; then
    say "A shell beside the daemon; its files are here; leave with exit"
    (cd "$NODE" && CONTAINER_RUNTIME_ENDPOINT=unix://$NODE/crio.sock bash -i) || true
  fi

  say "6. Cleaning up"
  cri StopPodSandbox "pod_sandbox_id: \"$pod\"" >/dev/null
  cri RemovePodSandbox "pod_sandbox_id: \"$pod\"" >/dev/null
  node_stop
  node_leftovers
  echo "pod removed, daemon stopped, nothing left" | show
}

case ${1:-} in
  --inside)
    NODE=$2
    shift 2
    trap 'status=$?; [ $status -eq 0 ] || { echo "quickstart: the last lines of the daemon:"; tail -15 "$NODE/crio.log"; } >&2; exit $status' EXIT
    inside "$@"
    exit
    ;;
  '' | --shell) ;;
  *) sed -n 's/^# \(Usage:.*\)/\1/p' "$0" >&2; exit 2 ;;
esac

start=$SECONDS
say "0. What is needed: packages, and the daemon built (the first time takes minutes)"
"$here/../setup/install.sh" --run
if [ -z "${CRIO:-}" ]; then
  (cd "$top" && PATH=$PATH:$HOME/.cargo/bin && ${CARGO:-cargo} build --release --locked)
fi
CRIO=$(readlink -f "${CRIO:-$top/target/release/crio}")
export CRIO

node_dir quickstart
busybox=$(command -v busybox)
if ldd "$busybox" >/dev/null 2>&1; then # not the static one
  oci_deb busybox-static "$NODE/deb"
  busybox=$(find "$NODE/deb" -name busybox -type f | head -1)
fi
cp "$busybox" "$NODE/busybox"
"$here/../setup/apart.sh" "$0" --inside "$NODE" "$@"

say "Seen, in $((SECONDS - start)) s"
cat <<'END'
  - an image signed with a key of yours was judged by policy.json, pulled, and ran as a pod on a bridge network
  - an unsigned one was refused before its config or a layer was asked for; `kubectl describe pod` shows that message
Try next
  make run          the same daemon with a registry of test images, and a shell with crictl beside it
  make conformance  the Kubernetes conformance suite against it
  policy/           policies to start from; README.md says how to install the daemon on a node
END
