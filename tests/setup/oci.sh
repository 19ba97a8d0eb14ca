# shellcheck shell=bash
# Makes small container images without a container tool and serves them from a loopback registry.
#
# To be sourced. Images are deterministic: the same files give the same digests, on any day, so a
# filled registry can be kept between runs. Callers set OCI_BLOBS (a directory for the blobs) and,
# before a push, OCI_REGISTRY (host:port, plain http).

# oci_fresh DIR SCRIPT [TMP]: begins to fill DIR anew, unless SCRIPT and this file filled it as they are; then it
# ends the caller. Sets dir (absolute), work (which goes at the end, as the registry does), stamp and OCI_BLOBS.
oci_fresh() {
  dir=$1
  stamp=$(cat "$2" "${BASH_SOURCE[0]}" | sha256sum | cut -c1-64)
  [ "$(cat "$dir/stamp" 2>/dev/null)" != "$stamp" ] || exit 0
  rm -rf "$dir"
  mkdir -p "$dir"
  dir=$(cd "$dir" && pwd)
  work=$(mktemp -d -p "${3:-${TMPDIR:-/tmp}}")
  OCI_BLOBS=$work/blobs
  mkdir "$OCI_BLOBS"
  trap 'kill "${OCI_REGISTRY_PID:-}" 2>/dev/null || true; rm -rf "$work"' EXIT
}

# oci_done: ends the registry, and notes that the directory is filled
oci_done() {
  kill "$OCI_REGISTRY_PID"
  wait "$OCI_REGISTRY_PID" 2>/dev/null || true
  OCI_REGISTRY_PID=
  echo "$stamp" >"$dir/stamp"
}

OCI_PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

# oci_deb PACKAGE DIR: unpacks a Debian package into DIR without installing it
oci_deb() {
  local tmp
  tmp=$(mktemp -d)
  chmod 755 "$tmp"
  if ! (cd "$tmp" && apt-get download -q "$1" >log 2>&1); then
    apt-get update -q >"$tmp/log" 2>&1 || true
    (cd "$tmp" && apt-get download -q "$1" >>log 2>&1) || { cat "$tmp/log" >&2; return 1; }
  fi
  mkdir -p "$2"
  dpkg-deb -x "$tmp"/*.deb "$2"
  rm -rf "$tmp"
}

# oci_libs DIR BINARY...: copies the shared libraries (and the loader) of binaries into a rootfs
oci_libs() {
  local root=$1 binary lib
  shift
  for binary in "$@"; do
    if ldd "$binary" 2>/dev/null | grep 'not found' >&2; then
      echo "oci: $binary needs libraries that this machine lacks" >&2
      return 1
    fi
    for lib in $(ldd "$binary" | grep -o '/[^ ]*'); do
      [ -e "$root$lib" ] || install -D -m 755 "$lib" "$root$lib"
    done
  done
}

# oci_blob FILE: moves a file into the blob directory, prints {digest, size}
oci_blob() {
  local digest size
  digest=$(sha256sum "$1" | cut -c1-64)
  size=$(stat -c %s "$1")
  mv "$1" "$OCI_BLOBS/$digest"
  printf '{"digest":"sha256:%s","size":%d}\n' "$digest" "$size"
}

# oci_layer DIR [gzip|zstd|plain]: packs a directory as a layer, prints {type, digest, size, diff}
oci_layer() {
  local tar=$OCI_BLOBS/layer.$BASHPID diff
  (cd "$1" && find . -mindepth 1 -maxdepth 1 -printf '%P\0' | sort -z |
    tar --create --format=ustar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner \
      --null --files-from=- --file="$tar")
  diff=$(sha256sum "$tar" | cut -c1-64)
  case ${2:-gzip} in
    gzip) gzip -n -6 "$tar"; mv "$tar.gz" "$tar" ;;
    zstd) zstd -q --rm "$tar" -o "$tar.zst"; mv "$tar.zst" "$tar" ;;
    plain) ;;
  esac
  oci_blob "$tar" | jq -c --arg c "${2:-gzip}" --arg diff "sha256:$diff" '. + {c: $c, diff: $diff}'
}

# oci_image CONFIG LAYER...: writes config and manifest, prints the manifest's {mediaType, digest, size}
#
# CONFIG is the JSON of the image config's "config"; LAYER is what oci_layer printed. With
# OCI_FORMAT=docker the manifest is a Docker schema 2 one.
oci_image() {
  local config=$1 arch layers file=$OCI_BLOBS/image.$BASHPID blob
  shift
  arch=$(dpkg --print-architecture)
  layers=$(printf '%s\n' "$@" | jq -cs .)
  jq -cn --argjson config "$config" --argjson layers "$layers" --arg arch "$arch" --arg path "$OCI_PATH" '{
    created: "1970-01-01T00:00:00Z", architecture: $arch, os: "linux",
    config: ({Env: ["PATH=" + $path]} + $config),
    rootfs: {type: "layers", diff_ids: [$layers[].diff]},
    history: [$layers[] | {created: "1970-01-01T00:00:00Z", created_by: "tests/setup/oci.sh"}]}' >"$file"
  blob=$(oci_blob "$file")
  jq -cn --argjson config "$blob" --argjson layers "$layers" --arg format "${OCI_FORMAT:-oci}" '
    (if $format == "docker" then
       {m: "application/vnd.docker.distribution.manifest.v2+json", c: "application/vnd.docker.container.image.v1+json",
        gzip: "application/vnd.docker.image.rootfs.diff.tar.gzip"}
     else
       {m: "application/vnd.oci.image.manifest.v1+json", c: "application/vnd.oci.image.config.v1+json",
        gzip: "application/vnd.oci.image.layer.v1.tar+gzip", zstd: "application/vnd.oci.image.layer.v1.tar+zstd",
        plain: "application/vnd.oci.image.layer.v1.tar"}
     end) as $t
    | {schemaVersion: 2, mediaType: $t.m, config: ({mediaType: $t.c} + $config),
       layers: [$layers[] | {mediaType: $t[.c], digest, size}]}' >"$file"
  oci_manifest "$file"
}

# oci_index MANIFEST: an index that offers the image for this platform and, first, for one nobody has
oci_index() {
  local file=$OCI_BLOBS/index.$BASHPID
  jq -cn --argjson m "$1" --arg arch "$(dpkg --print-architecture)" '{
    schemaVersion: 2, mediaType: "application/vnd.oci.image.index.v1+json",
    manifests: [
      ($m + {platform: {architecture: "s390", os: "plan9"}}),
      ($m + {platform: {architecture: $arch, os: "linux"}})]}' >"$file"
  oci_manifest "$file"
}

# oci_manifest FILE: takes a finished manifest in, prints its descriptor
oci_manifest() {
  local type
  type=$(jq -r .mediaType "$1")
  oci_blob "$1" | jq -c --arg t "$type" '{mediaType: $t} + .'
}

# oci_push DESCRIPTOR REPOSITORY TAG...: pushes a manifest and all that it names
oci_push() {
  local desc=$1 repo=$2 digest type tag child blob
  shift 2
  digest=$(jq -r .digest <<<"$desc")
  type=$(jq -r .mediaType <<<"$desc")
  local file=$OCI_BLOBS/${digest#sha256:}
  for child in $(jq -c '.manifests[]?' "$file"); do
    oci_push "$child" "$repo" "$(jq -r .digest <<<"$child")"
  done
  for blob in $(jq -r '(.config, .layers[]?).digest // empty' "$file"); do
    oci_push_blob "$repo" "$blob"
  done
  for tag in "$@"; do
    curl -sS --fail-with-body -o /dev/null -X PUT -H "Content-Type: $type" --data-binary @"$file" \
      "http://$OCI_REGISTRY/v2/$repo/manifests/$tag"
  done
}

# oci_push_blob REPOSITORY DIGEST: uploads a blob, or mounts it from where it was pushed before
oci_push_blob() {
  local repo=$1 digest=$2 file=$OCI_BLOBS/${2#sha256:} from='' answer where
  [ ! -e "$file.in" ] || from="?mount=$digest&from=$(cat "$file.in")"
  answer=$(curl -sS --fail-with-body -o /dev/null -D - -X POST "http://$OCI_REGISTRY/v2/$repo/blobs/uploads/$from")
  case $answer in
    *' 201 '*) return ;;
  esac
  where=$(sed -n 's/^[Ll]ocation: *\([^\r]*\).*/\1/p' <<<"$answer")
  curl -sS --fail-with-body -o /dev/null -X PUT -H 'Content-Type: application/octet-stream' \
    --data-binary @"$file" "$where&digest=$digest"
  echo "$repo" >"$file.in"
}

# oci_sign KEY DESCRIPTOR REPOSITORY NAME: puts beside a manifest what `cosign sign --key` would, under NAME
oci_sign() {
  local key=$1 digest repo=$3 payload=$OCI_BLOBS/payload.$BASHPID signature layer config
  digest=$(jq -r .digest <<<"$2")
  jq -cjn --arg digest "$digest" --arg name "$4" '{
    critical: {identity: {"docker-reference": $name}, image: {"docker-manifest-digest": $digest},
               type: "cosign container image signature"}, optional: null}' >"$payload"
  signature=$(openssl dgst -sha256 -sign "$key" "$payload" | base64 -w0)
  layer=$(oci_blob "$payload")
  printf '{}' >"$payload"
  config=$(oci_blob "$payload")
  jq -cn --argjson layer "$layer" --argjson config "$config" --arg signature "$signature" '{
    schemaVersion: 2, mediaType: "application/vnd.oci.image.manifest.v1+json",
    config: ({mediaType: "application/vnd.oci.image.config.v1+json"} + $config),
    layers: [{mediaType: "application/vnd.dev.cosign.simplesigning.v1+json",
              annotations: {"dev.cosignproject.cosign/signature": $signature}} + $layer]}' >"$payload"
  oci_push "$(oci_manifest "$payload")" "$repo" "${digest/:/-}.sig"
}

# oci_key DIR: makes DIR/cosign.key and DIR/cosign.pub
oci_key() {
  openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt -out "$1/cosign.key"
  openssl ec -in "$1/cosign.key" -pubout -out "$1/cosign.pub" 2>/dev/null
}

# oci_registry DIR [PORT]: serves DIR/registry on loopback, sets OCI_REGISTRY and OCI_REGISTRY_PID
#
# Without a port a free one is taken. The log is DIR/registry.log.
oci_registry() {
  local dir=$1 port
  mkdir -p "$dir/registry"
  for _ in 1 2 3 4 5; do
    port=${2:-$((20000 + (RANDOM % 10000)))}
    cat >"$dir/registry.yml" <<-YML
	version: 0.1
	log: {level: info, fields: {service: registry}}
	storage: {filesystem: {rootdirectory: $dir/registry}}
	http: {addr: "127.0.0.1:$port"}
	YML
    docker-registry serve "$dir/registry.yml" >"$dir/registry.log" 2>&1 &
    OCI_REGISTRY_PID=$!
    OCI_REGISTRY=127.0.0.1:$port
    for _ in $(seq 100); do
      kill -0 "$OCI_REGISTRY_PID" 2>/dev/null || continue 2
      # Another's registry may sit on the port while ours is dying of that: ask who listens.
      if curl -s -o /dev/null "http://$OCI_REGISTRY/v2/" && grep -q 'listening on' "$dir/registry.log"; then
        return
      fi
      sleep 0.05
    done
    kill "$OCI_REGISTRY_PID" 2>/dev/null || true
  done
  echo "oci: no registry came up: $(tail -3 "$dir/registry.log")" >&2
  return 1
}
