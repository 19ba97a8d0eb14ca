#!/bin/bash
# Runs a command as root in a machine of vm.sh, prints its output, ends with its code.
#
# 124 is a time-out, 125 trouble with the machine. A machine is used again while it is up, and stays up
# (vm.sh down NAME ends it); with -f it is a fresh one that is thrown away.
#
# Usage: vmrun.sh [-p PROFILE] [-n NAME] [-i DIR] [-o DIR] [-t SECONDS] [-f] COMMAND
#   -p apparmor | selinux | enforcing | plain (default apparmor)   -n name of the machine (default the profile's)
#   -i DIR is copied to /in   -o /out is copied to DIR   -t time for the command (default 600)
set -uo pipefail

here=$(cd "$(dirname "$0")" && pwd)
profile=apparmor name='' in='' out='' time=600 fresh=''
while getopts p:n:i:o:t:f option; do
  case $option in
    p) profile=$OPTARG ;;
    n) name=$OPTARG ;;
    i) in=$OPTARG ;;
    o) out=$OPTARG ;;
    t) time=$OPTARG ;;
    f) fresh=1 ;;
    *) exit 125 ;;
  esac
done
shift $((OPTIND - 1))
# -i may come last, so that a script can add the directory and the command.
[ $# -eq 1 ] || { sed -n 's/^# \(Usage:.*\)/\1/p' "$0" >&2; exit 125; }
name=${name:-$profile${fresh:+-$$}}
if [ -n "$fresh" ]; then
  trap '"$here/vm.sh" down "$name"' EXIT
fi
"$here/vm.sh" up "$name" "$profile" || exit 125
[ -z "$in" ] || "$here/vm.sh" put "$name" "$in" || exit 125
timeout "$time" "$here/vm.sh" exec "$name" "$1"
status=$?
case $status in
  124) echo "vmrun: not done within $time s" >&2 ;;
  255) echo "vmrun: the machine $name is lost, or the command ended with 255" >&2 ;;
esac
[ -z "$out" ] || "$here/vm.sh" get "$name" "$out" || status=125
exit $status
