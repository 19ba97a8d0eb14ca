#!/bin/bash
# Says whether a DEB and an RPM are what they should be: contents.sh amd64|arm64 DEB RPM
#
# Paths are as seen from the top of the sources. Their metadata, and that both hold the same files: what differs is named here.
set -euo pipefail
cd "$(dirname "$0")/../.."
arch=$1 deb=$(realpath "$2") rpm=$(realpath "$3")
case $arch in amd64) machine=x86_64 ;; arm64) machine=aarch64 ;; esac
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
good() { echo "  $1"; }
bad() { echo "  FAILED: $1" >&2; exit 1; }

# is WHAT WANTED FOUND; has WHAT WANTED LIST (lines)
is() { [ "$2" = "$3" ] || bad "$1: $3, not $2"; }
has() { grep -qxF -- "$2" <<<"$3" || { echo "$3" >&2; bad "$1: no $2"; }; }

field() { dpkg-deb -f "$deb" "$1"; }
is "architecture of the DEB" "$arch" "$(field Architecture)"
is "architecture of the RPM" "$machine" "$(rpm -qp --qf '%{ARCH}' "$rpm")"
is "name of the DEB" "crioxide_$arch.deb" "$(basename "$deb")"
is "name of the RPM" "crioxide.$machine.rpm" "$(basename "$rpm")"
is "version of the RPM" "$(field Version)" "$(rpm -qp --qf '%{VERSION}-%{RELEASE}' "$rpm")"
for name in Conflicts Replaces; do is "$name" cri-o "$(field $name)"; done
depends=$(field Depends | sed 's/, /\n/g')
for wanted in conmon 'runc | crun' 'nftables | iptables'; do has Depends "$wanted" "$depends"; done
has Provides cri-o "$(field Provides | sed 's/, /\n/g')"
requires=$(rpm -qp --requires "$rpm")
for wanted in conmon '(runc or crun)' '(nftables or iptables)' 'libc.so.6()(64bit)'; do has Requires "$wanted" "$requires"; done
has Provides "cri-o = $(rpm -qp --qf '%{VERSION}' "$rpm")" "$(rpm -qp --provides "$rpm")"
has Conflicts cri-o "$(rpm -qp --conflicts "$rpm")"
is Obsoletes '' "$(rpm -qp --obsoletes "$rpm")"
good "metadata for $arch"

mkdir "$work/deb" "$work/rpm"
dpkg-deb -x "$deb" "$work/deb"
(cd "$work/rpm" && rpm2cpio "$rpm" | cpio -idm --quiet --no-absolute-filenames)
# list DIR: checksum, mode and name of each file, by the DEB's names
list() {
  (cd "$1" && find . -type f -printf '%m %P\n' | while read -r mode path; do
    printf '%s %s %s\n' "$(sha256sum <"$path" | cut -c1-16)" "$mode" "$path"
  done) | sed -e 's|etc/sysconfig/crio$|etc/default/crio|' -e 's|zsh/site-functions/|zsh/vendor-completions/|' | LC_ALL=C sort -k3
}
own='share/(doc/crioxide/(copyright|changelog(\.Debian)?\.gz|third-party\.gz|CHANGELOG\.md)|licenses/crioxide/.*|lintian/.*)$'
diff <(list "$work/deb" | grep -Ev "$own") <(list "$work/rpm" | grep -Ev "$own") || bad "the packages differ"
good "both hold the same $(list "$work/deb" | wc -l) files"
[ -z "$(find "$work/deb" "$work/rpm" ! -type l \( -perm /022 -o -perm /7000 \))" ] || bad "somebody else may write, or setuid"
cmp <(zcat "$work/deb/usr/share/doc/crioxide/third-party.gz") "$work/rpm/usr/share/licenses/crioxide/third-party" || bad "licences"
cmp "$work/rpm/usr/share/licenses/crioxide/LICENSE" LICENSE || bad "our licence"
for library in $(jq -r '.components[].name' "$work/deb/usr/share/doc/crioxide/sbom.cdx.json"); do
  grep -q "^$library " "$work/rpm/usr/share/licenses/crioxide/third-party" || bad "no licence of $library"
done
good "the licence of every library in the SBOM is there"

libc=$(packaging/check.sh "$arch" "$work/deb/usr/bin/crio" --libc)
has Depends "libc6 (>= $libc)" "$depends"
has Requires "libc.so.6(GLIBC_$libc)(64bit)" "$requires"
good "both say that they need glibc $libc"
is "configuration files of the DEB" "$(cd "$work/deb" && find etc -type f -printf '/%p\n' | LC_ALL=C sort)" \
  "$(dpkg-deb --ctrl-tarfile "$deb" | tar -xO ./conffiles | LC_ALL=C sort)"
is "configuration files of the RPM" "$(cd "$work/rpm" && find etc -type f -printf '/%p\n' | LC_ALL=C sort)" \
  "$(rpm -qp --qf '[%{FILENAMES} %{FILEFLAGS:fflags}\n]' "$rpm" | sed -n 's/ .*c.*n.*$//p' | LC_ALL=C sort)"
good "all below /etc are configuration files, and the RPM's are noreplace"
packaging/check.sh "$arch" "$work/deb/usr/bin/crio"
