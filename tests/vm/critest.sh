#!/bin/bash
# Runs cases of the CRI conformance suite on a machine with systemd: the daemon is a service, systemd makes the
# cgroups, version 2. Without --focus it runs what the machine has and a container mostly has not:
# AppArmor or SELinux, whichever the kernel runs, and user namespaces.
#
# Good if every case passed, none skipped itself, and each group had cases. The machine is thrown away afterwards.
#
# Usage: critest.sh [--focus REGEX]... RUN [ARG...]
#   RUN ARG... DIR COMMAND   copies DIR to /in of the machine, runs COMMAND there as root, and gives its
#                            output and exit code
# Environment: DEB, the package (default target/crioxide_ARCH.deb).
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)

if [ "${1:-}" != --inside ]; then
  focus=()
  while [ "${1:-}" = --focus ]; do
    focus+=("$2")
    shift 2
  done
  [ $# -gt 0 ] || { sed -n 's/^# \(Usage:.*\)/\1/p' "$0" >&2; exit 2; }
  # shellcheck source=tests/vm/service.sh
  . "$here/service.sh"
  dir=$(mktemp -d)
  trap 'rm -rf "$dir"' EXIT
  service_files "$top" "$dir"
  cp "$top/tests/conformance/bin/critest" "$0" "$here/play.sh" "$dir/"
  "$@" "$dir" "/in/$(basename "$0") --inside$([ ${#focus[@]} -eq 0 ] || printf ' %q' "${focus[@]}")"
  exit
fi
shift

# groups: what is run on this machine when nobody says
groups_here() {
  if [ -d /sys/kernel/security/apparmor ]; then echo AppArmor; fi
  if [ -e /sys/fs/selinux/enforce ]; then echo SELinux; fi
  echo UserNamespaces
}

# handler REGEX: what runs the pods of a group, empty for the default one; Debian's runc cannot map owners of mounts
handler() {
  [ "$1" != UserNamespaces ] || crictl --timeout 60s info |
    jq -r '[.runtimeHandlers[] | select(.features.user_namespaces) | .name // ""] | sort | first // ""'
}

# group REGEX: runs its cases, says how many passed, and which did not
group() {
  local regex=$1 start=$SECONDS report=/tmp/report.json passed bad
  rm -f $report
  critest --runtime-endpoint unix:///var/run/crio/crio.sock --runtime-handler "$(handler "$regex")" --ginkgo.no-color --ginkgo.timeout=60m \
    --ginkgo.focus="$regex" --ginkgo.json-report=$report >/tmp/critest.log 2>&1 || true
  [ -s $report ] || { echo "BAD   $regex: critest gave no report"; tail -20 /tmp/critest.log; return 1; }
  # Only a case that skipped itself carries a message.
  jq -r '.[0].SpecReports[] | select(.LeafNodeType == "It" and (.State != "skipped" or (.Failure.Message // "") != ""))
    | [.State, ((.ContainerHierarchyTexts // []) + [.LeafNodeText] | join(" ")), (.Failure.Message // "" | gsub("\\s+"; " "))]
    | @tsv' $report >/tmp/cases
  passed=$(grep -c '^passed' /tmp/cases || true)
  bad=$(grep -vc '^passed' /tmp/cases || true)
  printf '%s  %s: %d passed, %d not, %d s\n' "$([ "$bad" -eq 0 ] && [ "$passed" -gt 0 ] && echo good || echo 'BAD ')" \
    "$regex" "$passed" "$bad" $((SECONDS - start))
  grep -v '^passed' /tmp/cases | cut -c1-600 | sed 's/^/      /' || true
  [ "$bad" -eq 0 ] && [ "$passed" -gt 0 ]
}

export PATH=$here:$PATH
# shellcheck source=tests/vm/service.sh
. "$here/service.sh"
# shellcheck source=tests/vm/play.sh
. "$here/play.sh"
[ -e /sys/fs/cgroup/cgroup.controllers ] || { echo "critest: this machine has no cgroup v2" >&2; exit 1; }
# The suite calls sudo to load profiles; the machine has none, and the suite is root already.
command -v sudo >/dev/null || { printf '#!/bin/sh\nexec "$@"\n' >"$here/sudo"; chmod 755 "$here/sudo"; }
# The suite has its pods' logs below $TMPDIR, and SELinux lets the daemon write them where logs are.
export TMPDIR=/var/log/pods
mkdir -p $TMPDIR
[ ! -e /sys/fs/selinux/enforce ] || restorecon -R $TMPDIR
service_start "$here" systemd
[ $# -gt 0 ] || mapfile -t groups < <(groups_here)
[ $# -eq 0 ] || groups=("$@")
status=0
for regex in "${groups[@]}"; do
  group "$regex" || status=1
done
left=$(crictl --timeout 60s pods -q)
[ -z "$left" ] || { echo "BAD   pods left: $left"; status=1; }
[ $status -eq 0 ] || service_log 60
service_end || status=1
exit $status
