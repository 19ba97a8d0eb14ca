#!/bin/bash
# Builds packages: build.sh [deb] [rpm] [--arch amd64|arm64] [--no-build]
#
# deb (for Debian and Ubuntu, if nothing is said) becomes target/crioxide_ARCH.deb, rpm (for Fedora and RHEL)
# target/crioxide.ARCH.rpm. The same commit gives the same bytes: times are the commit's, paths are cut out of the
# program, and nothing is asked of this machine. Tools that are missing are installed.
# --no-build takes target/release/crio as it is, or target/TRIPLE/release/crio for the other architecture.
# VERSION=1.36.0~rc1 gives the package another version than the program has, as a distributor does who mends something.
set -euo pipefail
# What is called for its answer fails like everything else: a program that did not compile must not be packed as it was.
shopt -s inherit_errexit
cd "$(dirname "$0")/.."

triple() {
  case $1 in
    amd64) echo x86_64-unknown-linux-gnu ;;
    arm64) echo aarch64-unknown-linux-gnu ;;
    *) echo "build.sh: packages are made for amd64 and arm64, not for $1" >&2; return 2 ;;
  esac
}
case $(uname -m) in aarch64) native=arm64 ;; *) native=amd64 ;; esac

kinds=() arch=$native build=yes
while [ $# -gt 0 ]; do
  case $1 in
    deb | rpm) kinds+=("$1"); shift ;;
    --arch) arch=$2; shift 2 ;;
    --no-build) build=no; shift ;;
    *) echo "build.sh: what is $1?" >&2; exit 2 ;;
  esac
done
[ ${#kinds[@]} -gt 0 ] || kinds=(deb)
TARGET=$(triple "$arch")
out=target/packaging

packaging/tools.sh "$arch" "${kinds[@]}"
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
CRIO_GIT_COMMIT=$(git rev-parse HEAD)
CRIO_BUILD_DATE=$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)
export TARGET SOURCE_DATE_EPOCH CRIO_GIT_COMMIT CRIO_BUILD_DATE PATH="$PWD/target/tools/bin:$PATH"

# compile ARCH: the program for it; prints where it is
compile() {
  local target
  target=$(triple "$1")
  if [ $build = yes ]; then
    export RUSTFLAGS="--remap-path-prefix=$PWD=/crioxide --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo"
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
    [ "$1" = "$native" ] || rustup --quiet target add "$target" >&2
    cargo build --release --locked --target "$target" >&2
    echo "target/$target/release/crio"
  elif [ "$1" = "$native" ]; then
    echo target/release/crio
  else
    echo "target/$target/release/crio"
  fi
}
program=$(compile "$arch")
readable=$program
[ "$arch" = "$native" ] || readable=$(compile "$native")
packaging/check.sh "$arch" "$program"

about() { cargo metadata --locked --no-deps --format-version 1 | jq -r ".packages[0].$1"; }
version=${VERSION:-$(about version)}
maintainer=$(about metadata.deb.maintainer)

make_deb() {
  gzip -9n >"$out/changelog.Debian.gz" <<END
crioxide ($version-1) unstable; urgency=medium

  * What an administrator sees is in changelog.gz.

 -- $maintainer  $(LC_ALL=C date -u -R -d "@$SOURCE_DATE_EPOCH")
END
  touch -d "@$SOURCE_DATE_EPOCH" "$out/changelog.Debian.gz"
  mkdir -p "$out/scripts"
  for script in postinst postrm; do
    sed -e '/^#READY#$/{r packaging/scriptlets/ready.sh' -e 'd}' \
      -e '/^#AWAY#$/{r packaging/scriptlets/away.sh' -e 'd}' "packaging/deb/$script" >"$out/scripts/$script"
  done
  # cargo-deb asks this program what ours needs. Debian's answers for another architecture from cross compilers'
  # packages, with names and versions that no node has; it is in the program itself.
  mkdir -p "$out/bin"
  printf '#!/bin/sh\necho "shlibs:Depends=libc6 (>= %s)"\n' "$(packaging/check.sh "$arch" "$program" --libc)" >"$out/bin/dpkg-shlibdeps"
  chmod 0755 "$out/bin/dpkg-shlibdeps"
  PATH="$PWD/$out/bin:$PATH" cargo deb --no-build --no-strip --target "$TARGET" --deb-version "$version-1" --output "target/crioxide_$arch.deb"
}

# The licence of the program and of every library in it, as one SPDX expression.
licences() {
  jq -r --arg ours "$(about license)" '
    [.components[].licenses[].expression | if test("AND|\\(") then . else split(" OR ") | sort | join(" OR ") end]
    | unique - [$ours] | [$ours] + map(if test(" ") then "(\(.))" else . end) | join(" AND ")' \
    "$out/rpm/usr/share/doc/crioxide/sbom.cdx.json"
}

make_rpm() {
  local machine=${TARGET%%-*}
  printf '* %s %s - %s-1\n- What an administrator sees is in CHANGELOG.md.\n' \
    "$(LC_ALL=C date -u -d "@$SOURCE_DATE_EPOCH" '+%a %b %d %Y')" "$maintainer" "$version" >"$out/changelog"
  (cd "$out/rpm" && find . -type f -printf '/%P\n' | LC_ALL=C sort) | sed \
    -e 's|^/etc/|%config(noreplace) &|' -e 's|^/usr/share/doc/|%doc &|' -e 's|^/usr/share/licenses/|%license &|' >"$out/files"
  # Directories that every system has are its own; the others are also this package's.
  (cd "$out/rpm" && find . -mindepth 1 -type d -printf '/%P\n' | LC_ALL=C sort) | grep -Evx \
    '/etc(/sysconfig)?|/usr(/bin|/lib(/systemd(/system)?|/sysctl.d|/modules-load.d)?|/share(/doc|/licenses|/man(/man[0-9])?)?)?' |
    sed 's/^/%dir /' >>"$out/files"
  rpmbuild -bb --quiet --target "$machine-linux" \
    --define "_topdir $PWD/$out/rpmbuild" --define "_rpmdir $PWD/$out" --define "_rpmfilename crioxide.rpm" \
    --define "_buildhost localhost" --define "use_source_date_epoch_as_buildtime 1" --define "clamp_mtime_to_source_date_epoch 1" \
    --define "_binary_payload w19.zstdio" --define "_docdir /usr/share/doc" \
    --define "crioxide_version $version" --define "crioxide_maintainer $maintainer" \
    --define "crioxide_licences $(licences)" --define "crioxide_changelog $PWD/$out/changelog" \
    --define "crioxide_root $PWD/$out/rpm" \
    --define "crioxide_files $PWD/$out/files" --define "crioxide_scriptlets $PWD/packaging/scriptlets" \
    packaging/rpm/crioxide.spec >&2
  mv "$out/crioxide.rpm" "target/crioxide.$machine.rpm"
  echo "target/crioxide.$machine.rpm"
}

for kind in "${kinds[@]}"; do
  packaging/stage.sh "$kind" "$program" "$readable" "$out/$kind"
  package=$("make_$kind")
  stat -c '%n: %s bytes' "$package"
done
