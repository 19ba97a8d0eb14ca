# What a node needs beside the files; all of it may be missing, and then nothing is to be done.
selinux_store() {
  command -v semodule >/dev/null 2>&1 && [ -e /etc/selinux/config ] || return 1
  [ -d "/var/lib/selinux/$(sed -n 's/^SELINUXTYPE=//p' /etc/selinux/config)/active" ]
}
# To load a module builds the whole policy again, so one that is there is left alone; an old semodule cannot tell.
selinux_loaded() {
  semodule -lfull --checksum 2>/dev/null | grep -q "^200 *crioxide .*:$(sha256sum "$1" | cut -d' ' -f1)"
}
if selinux_store; then
  module=/usr/share/selinux/packages/crioxide.cil
  selinux_loaded $module || semodule -X 200 -i $module ||
    echo "crioxide: its SELinux module is not loaded; load it with: semodule -X 200 -i $module" >&2
  for path in /usr/bin/crio /usr/lib/cni /etc/crio /etc/containers /etc/cni /var/lib/crio /var/log/crio; do
    [ ! -e "$path" ] || restorecon -R "$path" || true
  done
fi
if [ -d /run/systemd/system ]; then
  /usr/lib/systemd/systemd-modules-load crio.conf || true
  sysctl -q -p /usr/lib/sysctl.d/99-crio.conf || true
fi
