#!/bin/bash
# Builds the package for Debian and Ubuntu: build.sh [--arch amd64|arm64] [--no-build]
#
# The same commit gives the same bytes: times are the commit's, paths are cut out of the program, and nothing
# is asked of this machine. Tools it needs (cargo-deb, go-md2man, jq) are installed if missing.
# --no-build takes target/release/crio as it is; --arch arm64 needs a program made for it.
set -euo pipefail
cd "$(dirname "$0")/.."

arch=$(dpkg --print-architecture 2>/dev/null || echo amd64)
build=yes
while [ $# -gt 0 ]; do
  case $1 in
    --arch) arch=$2; shift 2 ;;
    --no-build) build=no; shift ;;
    *) echo "build.sh: what is $1?" >&2; exit 2 ;;
  esac
done
case $arch in
  amd64) target=x86_64-unknown-linux-gnu ;;
  arm64) target=aarch64-unknown-linux-gnu ;;
  *) echo "build.sh: packages are made for amd64 and arm64, not for $arch" >&2; exit 2 ;;
esac

packaging/tools.sh
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
CRIO_GIT_COMMIT=$(git rev-parse HEAD)
CRIO_BUILD_DATE=$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)
export SOURCE_DATE_EPOCH CRIO_GIT_COMMIT CRIO_BUILD_DATE PATH="$PWD/target/tools/bin:$PATH"

native=x86_64-unknown-linux-gnu
[ "$(uname -m)" = aarch64 ] && native=aarch64-unknown-linux-gnu
program=target/$target/release/crio
if [ $build = yes ]; then
  export RUSTFLAGS="--remap-path-prefix=$PWD=/crioxide --remap-path-prefix=$HOME/.cargo=/cargo"
  cargo build --release --locked --target "$target"
  readable=target/$native/release/crio
  [ -x "$readable" ] || cargo build --release --locked --target "$native"
else
  program=target/release/crio readable=target/release/crio
fi

# What is not a program: the same for every architecture.
out=target/packaging
rm -rf "$out"
mkdir -p "$out"
install -m 0755 "$program" "$out/crio"
for page in crio.8 crio.conf.5; do "$readable" markdown "$page" >"$out/$page.md"; done
cp docs/man/crio.conf.d.5.md "$out/"
{
  printf '%% crio-policy 5\n\n# NAME\n\ncrio-policy - which images may run on a node\n\n'
  cat policy/README.md
} >"$out/crio-policy.5.md"
for page in crio.8 crio.conf.5 crio.conf.d.5 crio-policy.5; do
  go-md2man -in "$out/$page.md" -out "$out/$page"
  gzip -9n "$out/$page"
  rm "$out/$page.md"
done
for shell in bash fish zsh; do "$readable" completion $shell >"$out/crio.$shell"; done
gzip -9nc CHANGELOG.md >"$out/changelog.gz"
version=$(cargo metadata --locked --no-deps --format-version 1 | jq -r '.packages[0].version')
gzip -9n >"$out/changelog.Debian.gz" <<EOF
crioxide ($version-1) unstable; urgency=medium

  * What an administrator sees is in changelog.gz.

 -- The crioxide authors <crioxide@localhost>  $(LC_ALL=C date -u -R -d "@$SOURCE_DATE_EPOCH")
EOF
packaging/sbom.sh "$target" >"$out/sbom.cdx.json"
find "$out" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +

package=$(cargo deb --no-build --no-strip --target "$target" --output "target/crioxide_$arch.deb")
stat -c "$package: %s bytes" "$package"
stat -c "crio: %s bytes" "$out/crio"
