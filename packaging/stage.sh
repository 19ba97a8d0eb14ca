#!/bin/bash
# Lays out what a package holds as it will lie on a node: stage.sh deb|rpm PROGRAM READABLE ROOT
#
# The one list of what is in a package: what is in ROOT afterwards is packed, and what is below /etc there is a
# configuration file. READABLE is the same program for this machine, which prints its own documents.
set -euo pipefail
cd "$(dirname "$0")/.."
kind=$1 program=$2 readable=$3 root=$4
doc=$root/usr/share/doc/crioxide share=$root/usr/share/crioxide
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# put FILE PLACE: a file that is read
put() { install -D -m 0644 "$1" "$root$2"; }

rm -rf "$root"
install -D -m 0755 "$program" "$root/usr/bin/crio"
cp -R packaging/root/. "$root"
put policy/default.json /etc/crio/policy.json
put packaging/selinux/crioxide.cil /usr/share/selinux/packages/crioxide.cil

# Manual pages: the program prints what its own tables say.
for page in crio.8 crio.conf.5; do "$readable" markdown "$page" >"$work/$page"; done
cp docs/man/crio.conf.d.5.md "$work/crio.conf.d.5"
{
  printf '%% crio-policy 5\n\n# NAME\n\ncrio-policy - which images may run on a node\n\n'
  cat policy/README.md
} >"$work/crio-policy.5"
for page in crio.8 crio.conf.5 crio.conf.d.5 crio-policy.5; do
  go-md2man -in "$work/$page" -out "$work/$page.man"
  gzip -9nc "$work/$page.man" >"$work/$page.gz"
  put "$work/$page.gz" "/usr/share/man/man${page##*.}/$page.gz"
done

# Completions, documents, and what the program is made of.
for shell in bash fish zsh; do "$readable" completion $shell >"$work/$shell"; done
put "$work/bash" /usr/share/bash-completion/completions/crio
put "$work/fish" /usr/share/fish/vendor_completions.d/crio.fish
mkdir -p "$doc/docs" "$share"
cp README.md "$doc/"
cp docs/*.md "$doc/docs/"
# What commands of the documents take is no document: machines may leave those out.
cp -R policy kubeadm "$share/"
packaging/sbom.sh "$TARGET" >"$doc/sbom.cdx.json"
packaging/licences.sh "$doc/sbom.cdx.json" >"$work/third-party"

case $kind in
  deb)
    put "$work/zsh" /usr/share/zsh/vendor-completions/_crio
    put packaging/deb/lintian-overrides /usr/share/lintian/overrides/crioxide
    gzip -9nc CHANGELOG.md >"$doc/changelog.gz"
    gzip -9nc "$work/third-party" >"$doc/third-party.gz"
    ;;
  rpm)
    put "$work/zsh" /usr/share/zsh/site-functions/_crio
    put LICENSE /usr/share/licenses/crioxide/LICENSE
    put "$work/third-party" /usr/share/licenses/crioxide/third-party
    put CHANGELOG.md /usr/share/doc/crioxide/CHANGELOG.md
    for unit in systemd/*.service; do put "$unit" "/usr/lib/systemd/system/${unit##*/}"; done
    mkdir "$root/etc/sysconfig"
    mv "$root/etc/default/crio" "$root/etc/sysconfig/crio"
    rmdir "$root/etc/default"
    ;;
esac

# The same for everybody: times are the commit's, and nobody's umask counts.
find "$root" -type d -exec chmod 0755 {} +
find "$root" -type f -perm -u+x -exec chmod 0755 {} +
find "$root" -type f ! -perm -u+x -exec chmod 0644 {} +
find "$root" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
