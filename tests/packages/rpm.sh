#!/bin/bash
# The life of the RPM on a node: rpm.sh OLD NEW
#
# OLD has an older version, and other text in two configuration files: 10-crio.conf and /etc/sysconfig/crio. The node is a
# Debian, where the RPM's scriptlets run as they would on a Fedora; what it requires is stood for by empty RPMs.
. "$(dirname "$0")/node.sh"
old=$(cd "$here" && realpath "$1") new=$(cd "$here" && realpath "$2")
rpm_() { rpm --root "$node" --dbpath /var/lib/rpm --force-debian "$@"; }
does() { rpm_ "$@" >"$work/said" 2>&1 || { cat "$work/said" >&2; bad "rpm $*"; }; }

# stub NAME PROVIDES: an empty RPM as $work/NAME.rpm
stub() {
  printf '%s\n' "Name: $1" 'Version: 1' 'Release: 1' 'Summary: stub' 'License: none' 'BuildArch: noarch' "Provides: $2" \
    '%description' 'stub' '%files' >"$work/$1.spec"
  rpmbuild -bb --quiet --define "_topdir $work/build" --define "_rpmdir $work" --define "_rpmfilename $1.rpm" "$work/$1.spec" >/dev/null 2>&1
}
libraries=$(rpm -qp --requires "$new" | grep -E '^(lib|ld-|rtld)' | paste -sd,)
stub system "/bin/sh, /bin/bash, systemd, $libraries"
stub parts 'conmon, runc, nftables'
stub cri-o 'something'

# node_ PRESET: a node with a system, whose presets say enable or disable
node_() {
  fresh
  # What a Fedora has and a Debian has not.
  mkdir -p "$node"/{etc/systemd/system-preset,etc/sysconfig,usr/lib/modules-load.d,usr/share/licenses,var/lib/rpm}
  echo "$1 *" >"$node/etc/systemd/system-preset/00-test.preset"
  rpm --root "$node" --dbpath /var/lib/rpm --initdb
  does -i "$work/system.rpm"
}

echo "the RPM on a node without conmon, a runtime or a firewall:"
node_ disable
for name in conmon 'runc or crun' 'nftables or iptables'; do
  refused "it is refused, and $name is named" "$name\)? is needed by crioxide" rpm_ -i "$new"
done
lacks "nothing of it is there" /usr/bin/crio /etc/crio

echo "the RPM on a node with CRI-O:"
node_ disable
does -i "$work/parts.rpm" "$work/cri-o.rpm"
refused "rpm does not have both" 'cri-o conflicts with crioxide' rpm_ -i "$new"

echo "the RPM's life:"
node_ disable
does -i "$work/parts.rpm"
before=$(state)
does -i "$old"
works
module yes
lacks "a preset of Fedora leaves the unit disabled" /etc/systemd/system/multi-user.target.wants/crio.service
lacks "a place of Debian's is not used" /etc/default/crio /usr/share/zsh/vendor-completions/_crio
does -V crioxide
conf=/etc/crio/crio.conf.d
echo '# the administrator' >>"$node$conf/10-crio.conf"
echo '{"default": [{"type": "reject"}]}' >"$node/etc/crio/policy.json"
echo '[crio]' >"$node$conf/50-site.conf"
on systemctl enable crio.service 2>/dev/null

does -U "$new"
works
module yes
holds "upgraded: a file that was changed stays as it is" "$conf/10-crio.conf" '# the administrator'
holds "upgraded: also one that the package did not change" /etc/crio/policy.json reject
[ -e "$node$conf/10-crio.conf.rpmnew" ] && [ ! -e "$node/etc/crio/policy.json.rpmnew" ] || bad "the new text is not beside it"
! grep -q 'an older text' "$node/etc/sysconfig/crio" || bad "a file that nobody changed is not renewed"
holds "upgraded: an enabled unit stays enabled" /etc/systemd/system/multi-user.target.wants/crio.service ExecStart
[ "$(rpm_ -q crioxide | wc -l)" = 1 ] || bad "the old version is there too"

does -e crioxide
module no
lacks "erased: program, unit and its enabling are gone" /usr/bin/crio /usr/lib/systemd/system/crio.service \
  /etc/systemd/system/multi-user.target.wants/crio.service /etc/systemd/system/cri-o.service
[ -e "$node$conf/10-crio.conf.rpmsave" ] && [ -e "$node/etc/crio/policy.json.rpmsave" ] && [ -e "$node$conf/50-site.conf" ] ||
  bad "erased: what was changed is gone too"
good "erased: what was changed is kept as .rpmsave"
rm -r "$node/etc/crio"
same "erased: nothing else is left" "$before"

echo "the RPM where presets enable:"
node_ enable
does -i "$work/parts.rpm" "$new"
holds "the unit is enabled" /etc/systemd/system/multi-user.target.wants/crio.service ExecStart
