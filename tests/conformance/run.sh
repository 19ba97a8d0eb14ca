#!/bin/bash
# Runs the CRI conformance suite, critest, against the daemon, with every real part below it.
#
# All of it happens apart (tests/setup/apart.sh) and in one directory, which is removed at the end; a
# loopback registry serves the images. A run is good if no case failed, no case skipped itself that
# may-skip.list does not name, and the daemon left nothing behind. Logs are kept in
# target/conformance: critest.log, critest.err.log, crio.log, registry.log, report.json.
#
# Usage: run.sh [--focus REGEX] [--skip REGEX] [--shell]
#   --focus, --skip   passed on to critest, beside skip.list
#   --shell           a shell beside the running daemon, with crictl and critest, instead of the suite
# Environment: CRIO, the daemon's binary (default target/release/crio).
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
out=$top/target/conformance
CRIO=$(readlink -f "${CRIO:-$top/target/release/crio}")
# shellcheck source=tests/setup/node.sh
. "$here/../setup/node.sh"

# entries FILE: its lines without comments
entries() { grep -v -e '^#' -e '^$' "$1" || true; }

# cases: the names of the cases in a report, with their state and what they said
cases() {
  jq -r '.[0].SpecReports[] | select(.LeafNodeType == "It")
    | [.State, ((.ContainerHierarchyTexts // []) + [.LeafNodeText] | join(" ")), (.Failure.Message // "" | split("\n")[0])] | @tsv' "$1"
}

check_lists() {
  local list regex reason bad=0
  "$here/bin/critest" --ginkgo.dry-run --ginkgo.json-report="$out/all.json" >/dev/null 2>&1
  cases "$out/all.json" | cut -f2 >"$out/all.txt"
  for list in skip may-skip; do
    while IFS=$'\t' read -r regex reason; do
      [ -n "$reason" ] || { echo "conformance: $list.list: no reason given for $regex" >&2; bad=1; }
      grep -qE -- "$regex" "$out/all.txt" || { echo "conformance: $list.list: no case matches $regex" >&2; bad=1; }
    done < <(entries "$here/$list.list")
  done
  return $bad
}

# suite: runs critest in the namespaces, judges its report
suite() {
  local args=(--runtime-endpoint "unix://$NODE/crio.sock" --ginkgo.no-color --ginkgo.v=false --ginkgo.timeout=25m
    --ginkgo.json-report="$out/report.json") regex status=0 bad=0 state name message
  while IFS=$'\t' read -r regex _; do
    args+=(--ginkgo.skip="$regex")
  done < <(entries "$here/skip.list")
  # Its client logs every refused request on the error stream, the expected ones too.
  "$here/bin/critest" "${args[@]}" "$@" 2>"$out/critest.err.log" | tee "$out/critest.log" || true
  status=${PIPESTATUS[0]}
  [ -s "$out/report.json" ] || { echo "conformance: critest gave no report" >&2; return 1; }

  echo
  while IFS=$'\t' read -r state name message; do
    case $state in
      passed) ;;
      skipped)
        # Only a case that skipped itself carries a message.
        if [ -n "$message" ] && ! grep -qE -f <(entries "$here/may-skip.list" | cut -f1) <<<"$name"; then
          echo "SKIPPED ITSELF  $name: $message"
          bad=1
        fi ;;
      *) echo "${state^^}  $name"; bad=1 ;;
    esac
  done < <(cases "$out/report.json")
  cases "$out/report.json" | cut -f1 | sort | uniq -c | awk '{ printf "%s%d %s", (NR > 1 ? ", " : "conformance: "), $1, $2 } END { print "" }'
  [ "$status" -eq 0 ] && [ $bad -eq 0 ]
}

# inside: what happens in the namespaces, with the node's directory as $NODE
inside() {
  local status=0
  trap 'cp "$NODE"/*.log "$out/" 2>/dev/null || true' EXIT
  node_registry "$out/images"
  node_network
  node_policy '{"default": [{"type": "insecureAcceptAnything"}]}'
  node_start "$CRIO"
  export PATH=$here/bin:$PATH CONTAINER_RUNTIME_ENDPOINT=unix://$NODE/crio.sock TMPDIR=$NODE/tmp
  if [ "${1:-}" = --shell ]; then
    echo "critest, crictl and the daemon's files: cd $NODE; leave with exit"
    (cd "$NODE" && bash -i) || true
    return
  fi
  suite "$@" || status=1
  node_clear "$here/bin/crictl" || status=1
  if ! node_stop; then
    status=1
  fi
  node_leftovers || status=1
  return $status
}

if [ "${1:-}" = --inside ]; then
  NODE=$2
  shift 2
  inside "$@"
  exit
fi

args=()
while [ $# -gt 0 ]; do
  case $1 in
    --focus | --skip) args+=("--ginkgo.${1#--}=$2"); shift 2 ;;
    --shell) args=(--shell); shift ;;
    *) sed -n 's/^# \(Usage:.*\)/\1/p' "$0" >&2; exit 2 ;;
  esac
done
if [ ! -x "$CRIO" ]; then
  echo "conformance: no daemon at $CRIO: build it (cargo build --release) or set CRIO" >&2
  exit 1
fi
"$here/../setup/install.sh"
"$here/build.sh"
mkdir -p "$out"
"$here/images.sh" "$out/images"
check_lists
rm -f "$out"/*.log "$out/report.json"

node_dir conformance
status=0
start=$SECONDS
"$here/../setup/apart.sh" "$0" --inside "$NODE" "${args[@]}" || status=$?
if [ $status -eq 0 ]; then
  echo "conformance: good, $((SECONDS - start)) s"
else
  echo "conformance: NOT good, $((SECONDS - start)) s; see $out/critest.log and $out/crio.log" >&2
fi
exit $status
