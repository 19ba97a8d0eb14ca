#!/bin/bash
# Fails unless a program is fit for a package: check.sh amd64|arm64 PROGRAM [--libc]
#
# For the right machine, position independent, with relocations that are read-only before main, a stack that is not
# executable, and no symbols. Prints its size and the oldest C library it runs with; or that library's version alone.
set -euo pipefail
arch=$1 program=$2
fail() { echo "check.sh: $program: $1" >&2; exit 1; }

header=$(readelf -hW "$program")
segments=$(readelf -lW "$program")
dynamic=$(readelf -dW "$program")
sections=$(readelf -SW "$program")
case $arch in
  amd64) machine='Advanced Micro Devices X86-64' ;;
  arm64) machine=AArch64 ;;
esac
grep -q "Machine: *$machine\$" <<<"$header" || fail "is not for $arch"
grep -q 'Type: *DYN' <<<"$header" && grep -q 'Flags: .*PIE' <<<"$dynamic" || fail "is not position independent (PIE)"
grep -q GNU_RELRO <<<"$segments" || fail "has writable relocations (no RELRO)"
grep -Eq 'BIND_NOW|Flags: .*NOW' <<<"$dynamic" || fail "binds symbols late, so relocations stay writable (no full RELRO)"
grep -Eq 'GNU_STACK .* RW +0' <<<"$segments" || fail "has an executable stack"
! grep -Eq ' \.(symtab|debug_[a-z]+) ' <<<"$sections" || fail "has symbols (not stripped)"

glibc=$(readelf -VW "$program" | grep -o 'GLIBC_[0-9.]*' | sort -Vu | tail -1)
if [ "${3:-}" = --libc ]; then
  echo "${glibc#GLIBC_}"
  exit
fi
printf '%s: %s bytes, %s, stripped, PIE, full RELRO, needs %s\n' "$program" "$(stat -c %s "$program")" "$arch" "${glibc/_/ }"
