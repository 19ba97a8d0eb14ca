# shellcheck shell=bash
# Speaks the CRI from a shell, with curl and protoc: gRPC is one framed message over HTTP/2.
#
# To be sourced. For demonstrations that should not need a Go toolchain for crictl. Callers set
# CRI_SOCKET. Streams are not spoken.

CRI_PROTO=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../proto/runtime/v1" && pwd)/api.proto

# cri METHOD [REQUEST]: calls a method, prints its answer; both are in protobuf's text format
#
# A refusal is printed as "code N: message" on the error stream, and the function fails.
cri() {
  local method=$1 service=RuntimeService dir status message
  case $method in
    *Image*) service=ImageService ;;
  esac
  dir=$(mktemp -d)
  # The protoc of Debian 12 does not know this option yet; it means nothing for the encoding.
  sed 's/\[debug_redact = true\]//' "$CRI_PROTO" >"$dir/api.proto"
  protoc -I "$dir" --encode="runtime.v1.${method}Request" api.proto <<<"${2:-}" >"$dir/request"
  # The frame: not compressed, four bytes of length, the message.
  { printf '%b' "\\x00$(printf '%08x' "$(stat -c %s "$dir/request")" | sed 's/../\\x&/g')"; cat "$dir/request"; } >"$dir/frame"
  if ! curl -sS --http2-prior-knowledge --unix-socket "$CRI_SOCKET" --max-time "${CRI_TIMEOUT:-60}" \
    -H 'content-type: application/grpc' -H 'te: trailers' --data-binary @"$dir/frame" \
    -D "$dir/headers" -o "$dir/answer" "http://localhost/runtime.v1.$service/$method"; then
    rm -rf "$dir"
    return 1
  fi
  # The status is in the trailers, which curl writes behind the headers.
  status=$(sed -n 's/^grpc-status: *\([0-9]*\).*/\1/p' "$dir/headers" | tail -1)
  message=$(sed -n 's/^grpc-message: *\([^\r]*\).*/\1/p' "$dir/headers" | tail -1)
  if [ "$status" = 0 ]; then
    tail -c +6 "$dir/answer" | protoc -I "$dir" --decode="runtime.v1.${method}Response" api.proto
    rm -rf "$dir"
  else
    rm -rf "$dir"
    printf 'code %s: %b\n' "${status:-missing}" "${message//%/\\x}" >&2
    return 1
  fi
}

# cri_field NAME: the first value of a field in an answer
cri_field() { sed -n "s/^ *$1: \"\\(.*\\)\"\$/\\1/p" | head -1; }
