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
  mirror=$(sed -nE 's/^URIs: *//p' /etc/apt/sources.list.d/debian.sources 2>/dev/null | head -1 || true)
  mmdebstrap --quiet --mode=root --variant=apt --aptopt='APT::Install-Recommends "false"' --dpkgopt=force-unsafe-io \
    --include=systemd,runc,conmon,nftables,procps,kmod,policycoreutils,selinux-policy-default trixie "$dir/tree" ${mirror:+"deb $mirror trixie main"}
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

# A program that does not compile is not packed as it was before.
stale=$dir/older/target/$(uname -m)-unknown-linux-gnu/release/crio
mkdir -p "${stale%/*}" "$dir/fake"
cp "$program" "$stale"
printf '#!/bin/sh\n[ "$1" != build ] || exit 101\nexec "%s" "$@"\n' "$(command -v cargo)" >"$dir/fake/cargo"
chmod 755 "$dir/fake/cargo"
! PATH="$PWD/$dir/fake:$PATH" "$dir/older/packaging/build.sh" deb >/dev/null 2>&1 || { echo "  FAILED: an old program is packed" >&2; exit 1; }
rm "$stale"

# look ARCH MACHINE TARGET: at the packages for it
look() {
  echo "the packages for $1:"
  tests/packages/contents.sh "$1" "$3/crioxide_$1.deb" "$3/crioxide.$2.rpm"
  lintian --allow-root --fail-on error,warning "$3/crioxide_$1.deb"
  rpmlint --strict -c packaging/rpm/rpmlint.toml "$3/crioxide.$2.rpm" >"$dir/rpmlint" || { cat "$dir/rpmlint" >&2; exit 1; }
  echo "  lintian and rpmlint have nothing to say"
}
if [ "$(uname -m)" = x86_64 ]; then
  arch=amd64
  look amd64 x86_64 target
  # For the other architecture: ours, compiled; with --no-build what is there, or a program that stands in for it.
  if [ $# -gt 0 ]; then packaging/tools.sh arm64; else packaging/build.sh deb rpm --arch arm64; fi
  foreign=aarch64-unknown-linux-gnu/release/crio
  mkdir -p "$dir/older/target/${foreign%/*}"
  if [ -e "target/$foreign" ]; then
    cp "target/$foreign" "$dir/older/target/$foreign"
  else
    echo 'int main(void) { return 1; }' |
      aarch64-linux-gnu-gcc -x c - -fPIE -pie -Wl,-z,now,-z,relro -s -o "$dir/older/target/$foreign"
  fi
  "$dir/older/packaging/build.sh" deb rpm --arch arm64 --no-build
  look arm64 aarch64 "$dir/older/target"
else
  arch=arm64
  look arm64 aarch64 target
fi

tests/packages/deb.sh "$dir/older/target/crioxide_$arch.deb" "target/crioxide_$arch.deb"
tests/packages/rpm.sh "$dir/older/target/crioxide.$(uname -m).rpm" "target/crioxide.$(uname -m).rpm"
echo "the packages are good"
