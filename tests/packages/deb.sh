#!/bin/bash
# The life of the DEB on a node: deb.sh OLD NEW
#
# OLD has an older version, and other text in two configuration files: 10-crio.conf and /etc/default/crio.
. "$(dirname "$0")/node.sh"
old=$(cd "$here" && realpath "$1") new=$(cd "$here" && realpath "$2")
apt() { on apt-get -qqy -o Dpkg::Use-Pty=0 -o APT::Sandbox::User=root "$@" >"$work/apt" 2>&1 || { cat "$work/apt" >&2; bad "apt-get $*"; }; }
status() { on dpkg-query -W -f '${db:Status-Abbrev}' crioxide 2>/dev/null || echo none; }

# stub NAME PATH: a package of another's, with one program and one configuration file
stub() {
  mkdir -p "$work/$1/DEBIAN" "$work/$1$(dirname "$2")" "$work/$1/etc/$1"
  printf 'Package: %s\nVersion: 1.35.0\nArchitecture: all\nMaintainer: nobody <nobody@crioxide.example>\nDescription: a stub\n' "$1" >"$work/$1/DEBIAN/control"
  echo "/etc/$1/stub.conf" >"$work/$1/DEBIAN/conffiles"
  : >"$work/$1/etc/$1/stub.conf"
  printf '#!/bin/sh\necho stub\n' >"$work/$1$2"
  chmod 755 "$work/$1$2"
  dpkg-deb -Zgzip --root-owner-group -b "$work/$1" "$node/in/$1.deb" >/dev/null
}

echo "the DEB on a node without conmon:"
fresh
cp "$new" "$node/in/new.deb"
on dpkg --purge --force-depends conmon >/dev/null 2>&1
refused "it is refused, and conmon is named" 'conmon' on apt-get -qqy --no-download install /in/new.deb
[ "$(status)" = none ] || bad "it is there all the same"

echo "the DEB on a node with CRI-O:"
fresh
cp "$new" "$node/in/new.deb"
stub cri-o /usr/bin/crio
on dpkg -i /in/cri-o.deb >/dev/null
apt install /in/new.deb
[ "$(on dpkg-query -W -f '${db:Status-Abbrev}' cri-o)" = "rc " ] || bad "cri-o is not removed"
works
apt install /in/cri-o.deb
[ "$(on crio)" = stub ] || bad "the way back to cri-o"
good "apt puts it in CRI-O's place, and CRI-O back"
enabled=/etc/systemd/system/multi-user.target.wants/crio.service
[ ! -L "$node/etc/systemd/system/crio.service" ] || bad "CRI-O's unit would be masked"
mkdir -p "$node/run/crio" "$node/var/lib/crio"
touch "$node/run/crio/crio.sock" "$node/var/lib/crio/version"
apt purge crioxide
[ "$(status)" = none ] || bad "status after the purge: $(status)"
[ -e "$node/run/crio/crio.sock" ] && [ -e "$node/var/lib/crio/version" ] && [ -L "$node$enabled" ] || bad "purged: what is CRI-O's is gone"
good "purged beside CRI-O: its unit is not masked, and its socket and state stay"

echo "the DEB's life:"
fresh
before=$(state)
cp "$old" "$node/in/old.deb"
cp "$new" "$node/in/new.deb"
apt install /in/old.deb
works
module yes
holds "the unit is enabled" /etc/systemd/system/multi-user.target.wants/crio.service ExecStart
holds "its other name is CRI-O's" /etc/systemd/system/cri-o.service ExecStart
lacks "crio-wipe is not enabled" /etc/systemd/system/multi-user.target.wants/crio-wipe.service
conf=/etc/crio/crio.conf.d
echo '# the administrator' >>"$node$conf/10-crio.conf"
echo '[crio]' >"$node$conf/50-site.conf"
rm "$node/etc/crictl.yaml"
mkdir -p "$node/etc/crio/policies" "$node/var/lib/crio" "$node/var/log/crio" "$node/run/crio"
touch "$node/etc/crio/policies/shop.json" "$node/var/lib/crio/version" "$node/var/log/crio/audit.log" "$node/run/crio/x"
on systemctl disable crio.service 2>/dev/null

apt -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold install /in/new.deb
works
module yes
holds "upgraded: a file that was changed stays as it is" "$conf/10-crio.conf" '# the administrator'
[ -e "$node$conf/10-crio.conf.dpkg-dist" ] || bad "the new text is not beside it"
! grep -q 'an older text' "$node/etc/default/crio" || bad "a file that nobody changed is not renewed"
lacks "upgraded: a file that was deleted stays away, a disabled unit stays disabled" /etc/crictl.yaml \
  /etc/systemd/system/multi-user.target.wants/crio.service
[ -e "$node$conf/50-site.conf" ] && [ -e "$node/etc/crio/policies/shop.json" ] || bad "what the administrator made is gone"

# A process that stands for a container's: what its label is, is read at a place that is mounted over.
echo 'system_u:system_r:container_t:s0:c1,c2' >"$work/label"
on sleep 1000 &
container=$!
until pid=$(on pgrep -xf 'sleep 1000'); do kill -0 $container; done
mount --bind "$work/label" "$node/proc/$pid/attr/current"
apt remove crioxide
[ "$(status)" = "rc " ] || bad "status after the removal: $(status)"
grep -q 'semodule -X 200 -r crioxide' "$work/apt" || bad "removed: nobody says how the SELinux module goes"
module yes
good "removed: the SELinux module stays under a container"
umount "$node/proc/$pid/attr/current"
kill $container
wait $container 2>/dev/null || true
lacks "removed: the program and its units are gone" /usr/bin/crio /usr/lib/systemd/system/crio.service /usr/share/doc/crioxide
for path in "$conf/10-crio.conf" "$conf/50-site.conf" /etc/crio/policy.json /etc/crio/policies/shop.json /etc/default/crio \
  /var/lib/crio/version /var/log/crio/audit.log; do
  [ -e "$node$path" ] || bad "removed: $path is gone too"
done
good "removed: configuration, state and logs stay"

apt purge crioxide
module no
[ -e "$node$conf/50-site.conf" ] && [ -e "$node/etc/crio/policies/shop.json" ] || bad "purged: what the administrator made is gone"
good "purged: what the administrator made stays"
rm -r "$node/etc/crio"
same "purged: nothing else is left" "$before"
