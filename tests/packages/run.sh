#!/bin/bash
# Builds both packages, looks at them, and installs, upgrades and removes them: run.sh [--no-build]
#
# On a Debian of its own in a directory (target/test-packages/tree, made once) where no systemd runs; how the daemon
# lives through it is for the virtual machines. Installs what it needs. --no-build takes target/release/crio as it is.
set -euo pipefail
cd "$(dirname "$0")/../.."
dir=target/test-packages
mkdir -p "$dir"

missing=()
for pair in mmdebstrap:mmdebstrap lintian:lintian rpmlint:rpmlint rpm2cpio:rpm2cpio cpio:cpio jq:jq; do
  command -v "${pair%:*}" >/dev/null || missing+=("${pair#*:}")
done
if [ ${#missing[@]} -gt 0 ]; then
  apt-get update -qq
  apt-get install -qqy --no-install-recommends "${missing[@]}" >/dev/null
fi
if [ -z "${PACKAGES_TREE:-}" ] && [ ! -e "$dir/tree.done" ]; then
  rm -rf "$dir/tree"
  mirror=$(sed -nE 's/^URIs: *//p' /etc/apt/sources.list.d/debian.sources | head -1)
  mmdebstrap --quiet --mode=root --variant=apt --aptopt='APT::Install-Recommends "false"' --dpkgopt=force-unsafe-io \
    --include=systemd,runc,conmon,nftables,procps,kmod,policycoreutils,selinux-policy-default trixie "$dir/tree" "deb $mirror trixie main"
  touch "$dir/tree.done"
fi

packaging/build.sh deb rpm "$@"
program=target/release/crio
[ $# -gt 0 ] || program=target/$(uname -m)-unknown-linux-gnu/release/crio
tests/packages/older.sh "$dir/older" "$program"

echo "the check of a program:"
for wrong in "arm64 $program" 'amd64 /bin/ls'; do
  # shellcheck disable=SC2086
  ! packaging/check.sh $wrong || { echo "  FAILED: $wrong is fit for a package" >&2; exit 1; }
done

for arch in amd64 arm64; do
  machine=x86_64
  [ $arch = amd64 ] || machine=aarch64
  [ -e "target/crioxide_$arch.deb" ] && [ -e "target/crioxide.$machine.rpm" ] || { echo "not built, not looked at: $arch"; continue; }
  echo "$arch:"
  tests/packages/contents.sh $arch "target/crioxide_$arch.deb" "target/crioxide.$machine.rpm"
  lintian --allow-root --fail-on error,warning "target/crioxide_$arch.deb"
  rpmlint --strict -c packaging/rpm/rpmlint.toml "target/crioxide.$machine.rpm" >"$dir/rpmlint" || { cat "$dir/rpmlint" >&2; exit 1; }
  echo "  lintian and rpmlint have nothing to say"
done

case $(uname -m) in aarch64) arch=arm64 ;; *) arch=amd64 ;; esac
tests/packages/deb.sh "$dir/older/target/crioxide_$arch.deb" "target/crioxide_$arch.deb"
tests/packages/rpm.sh "$dir/older/target/crioxide.$(uname -m).rpm" "target/crioxide.$(uname -m).rpm"
echo "the packages are good"
