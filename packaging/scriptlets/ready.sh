# What a node needs beside the files; all of it may be missing, and then nothing is to be done.
selinux_store() {
  command -v semodule >/dev/null 2>&1 && [ -e /etc/selinux/config ] || return 1
  [ -d "/var/lib/selinux/$(sed -n 's/^SELINUXTYPE=//p' /etc/selinux/config)/active" ]
}
if selinux_store; then
  semodule -X 200 -i /usr/share/selinux/packages/crioxide.cil ||
    echo "crioxide: its SELinux module is not loaded; load it with: semodule -X 200 -i /usr/share/selinux/packages/crioxide.cil" >&2
  for path in /usr/bin/crio /usr/lib/cni /etc/crio /etc/containers /etc/cni /var/lib/crio /var/log/crio; do
    [ ! -e "$path" ] || restorecon -R "$path" || true
  done
fi
if [ -d /run/systemd/system ]; then
  /usr/lib/systemd/systemd-modules-load crio.conf || true
  sysctl -q -p /usr/lib/sysctl.d/99-crio.conf || true
fi
