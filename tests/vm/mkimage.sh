#!/bin/bash
# Makes of $VMDIR/tree what vm.sh boots: $VMDIR/img/{disk.img,vmlinux,initrd}. The disk is an ext4 with SELinux
# labels, the kernel is unpacked, the initrd is busybox with a few modules. Snapshots of an older disk go.
#
# Usage: mkimage.sh
# Environment: VMDIR (default /var/tmp/test-vm), SIZE of the disk (default 4G).
set -euo pipefail

vmdir=${VMDIR:-/var/tmp/test-vm}
tree=$vmdir/tree
img=$vmdir/img
version=$(cat "$img/kver")
modules=$tree/usr/lib/modules/$version

step() { echo "[$(date +%T)] $*"; }

# Signatures of modules go: to check one takes half a second in emulation, and nobody demands them here.
modules() {
  find "$modules" -name '*.ko.xz' -print0 | xargs -0 -r -P2 -n64 xz -d -f
  find "$modules" -name '*.ko' -print0 | xargs -0 -r -P2 -n200 python3 -c '
import sys
for name in sys.argv[1:]:
    data = open(name, "rb").read()
    mark = b"~Module signature appended~\n"
    if data.endswith(mark):
        size = int.from_bytes(data[-len(mark) - 4:-len(mark)], "big")
        open(name, "wb").write(data[:-len(mark) - 12 - size])'
  depmod -b "$tree" "$version"
  mkdir -p "$tree/etc/modprobe.d"
  printf 'blacklist %s\n' ata_piix ata_generic libata scsi_mod button evdev serio_raw efi_pstore qemu_fw_cfg i2c_piix4 pcspkr psmouse \
    floppy crc32_pclmul crc32c_intel crct10dif_pclmul ghash_clmulni_intel aesni_intel sha1_ssse3 sha256_ssse3 sha512_ssse3 \
    vmw_vsock_vmci_transport vmw_vmci intel_rapl_msr rapl joydev cfg80211 >"$tree/etc/modprobe.d/vm.conf"
}

access() {
  [ -f "$img/id" ] || ssh-keygen -q -t ed25519 -N '' -f "$img/id" -C vmtest
  mkdir -p "$tree/root/.ssh" "$tree/etc/ssh/sshd_config.d"
  cp "$img/id.pub" "$tree/root/.ssh/authorized_keys"
  chmod 700 "$tree/root/.ssh"
  chmod 600 "$tree/root/.ssh/authorized_keys"
  rm -f "$tree"/etc/ssh/ssh_host_*
  ssh-keygen -q -t ed25519 -N '' -f "$tree/etc/ssh/ssh_host_ed25519_key" -C vm
  printf '%s\n' 'PermitRootLogin prohibit-password' 'UseDNS no' 'UsePAM yes' 'GSSAPIAuthentication no' 'PrintMotd no' \
    'PrintLastLog no' 'MaxSessions 100' 'MaxStartups 100' 'HostKey /etc/ssh/ssh_host_ed25519_key' >"$tree/etc/ssh/sshd_config.d/10-vm.conf"
  passwd -R "$tree" -d root >/dev/null 2>&1 || chroot "$tree" passwd -d root >/dev/null
}

names() {
  mkdir -p "$tree/etc/systemd/network" "$tree/in" "$tree/out"
  echo node >"$tree/etc/hostname"
  printf '127.0.0.1 localhost node\n::1 localhost\n' >"$tree/etc/hosts"
  : >"$tree/etc/resolv.conf"
  echo 0123456789abcdef0123456789abcdef >"$tree/etc/machine-id"
  printf '/dev/root / ext4 defaults,noatime 0 0\n' >"$tree/etc/fstab"
  printf '[Match]\nName=en* eth*\n[Network]\nAddress=10.0.2.15/24\nGateway=10.0.2.2\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n' \
    >"$tree/etc/systemd/network/10-vm.network"
}

# Only what a test needs is started, and nothing waits for what is not there.
services() {
  local etc=$tree/etc/systemd systemctl=(systemctl "--root=$tree" --quiet)
  command -v systemctl >/dev/null || systemctl=(chroot "$tree" systemctl --quiet)
  mkdir -p "$etc/system.conf.d" "$etc/system-generators" "$etc/system/serial-getty@ttyS0.service.d" "$etc/system/ssh.service.d"
  printf '[Manager]\nDefaultTimeoutStartSec=300s\nDefaultTimeoutStopSec=120s\nDefaultDeviceTimeoutSec=300s\n' >"$etc/system.conf.d/vm.conf"
  ln -sf /dev/null "$etc/system-generators/systemd-ssh-generator"
  "${systemctl[@]}" enable systemd-networkd ssh.service >/dev/null 2>&1 || true
  "${systemctl[@]}" disable systemd-networkd-wait-online.service auditd.service >/dev/null 2>&1 || true
  "${systemctl[@]}" mask systemd-networkd-wait-online.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer \
    e2scrub_all.timer e2scrub_reap.service fstrim.timer systemd-firstboot.service systemd-hwdb-update.service ldconfig.service \
    systemd-journal-catalog-update.service systemd-update-done.service systemd-pcrphase.service systemd-pcrphase-sysinit.service \
    getty@tty1.service systemd-udev-settle.service ssh.socket sshd-keygen.service systemd-machine-id-commit.service \
    systemd-growfs-root.service systemd-binfmt.service >/dev/null 2>&1 || true
  printf '[Service]\nExecStart=\nExecStart=-/sbin/agetty -a root --keep-baud 115200 %%I vt220\n' \
    >"$etc/system/serial-getty@ttyS0.service.d/a.conf"
  printf '[Unit]\nAfter=\nAfter=systemd-networkd.service\n' >"$etc/system/ssh.service.d/a.conf"
  touch "$tree/etc/.updated" "$tree/var/.updated"
}

selinux() {
  local contexts=/etc/selinux/default/contexts/files/file_contexts
  [ -f "$tree$contexts" ] || return 0
  sed -i 's/^SELINUX=.*/SELINUX=permissive/; s/^SELINUXTYPE=.*/SELINUXTYPE=default/' "$tree/etc/selinux/config"
  chroot "$tree" /usr/sbin/setfiles -F -q $contexts / >"$img/setfiles.log" 2>&1 || { tail -5 "$img/setfiles.log" >&2; return 1; }
}

disk() {
  rm -rf "$vmdir/snap" "$img/disk.img"
  truncate -s "${SIZE:-4G}" "$img/disk.img"
  mke2fs -q -F -t ext4 -L root -m 0 -O ^metadata_csum,^has_journal -E lazy_itable_init=0,nodiscard -d "$tree" "$img/disk.img"
}

# The kernel's own unpacker takes seconds in emulation.
kernel() {
  python3 - "$img/vmlinuz" "$img/vmlinux" <<-'PYTHON'
	import subprocess, sys
	data, at = open(sys.argv[1], "rb").read(), 0
	while (at := data.find(b"\x28\xb5\x2f\xfd", at)) >= 0:
	    unpacked = subprocess.run(["zstd", "-dcq"], input=data[at:], capture_output=True).stdout
	    if unpacked[:4] == b"\x7fELF":
	        open(sys.argv[2], "wb").write(unpacked)
	        sys.exit()
	    at += 1
	sys.exit("mkimage: no kernel packed with zstd in " + sys.argv[1])
	PYTHON
}

initrd() {
  local root name
  root=$(mktemp -d)
  mkdir -p "$root"/{bin,dev,proc,sys,new,m}
  cp "$tree/bin/busybox" "$root/bin/"
  for name in sh mount insmod switch_root mknod sleep cat; do
    ln -s busybox "$root/bin/$name"
  done
  for name in drivers/block/virtio_blk net/core/failover drivers/net/net_failover drivers/net/virtio_net; do
    cp "$modules/kernel/$name.ko" "$root/m/"
  done
  cat >"$root/init" <<-'INIT'
	#!/bin/sh
	mount -t devtmpfs d /dev
	mount -t proc p /proc
	insmod /m/virtio_blk.ko
	n=0
	while [ ! -b /dev/vda ] && [ $n -lt 200 ]; do sleep 0.05; n=$((n+1)); done
	mount -t ext4 -o noatime /dev/vda /new || exec sh </dev/console >/dev/console 2>&1
	insmod /m/failover.ko
	insmod /m/net_failover.ko
	insmod /m/virtio_net.ko
	mount --move /dev /new/dev
	mount --move /proc /new/proc
	exec switch_root /new /sbin/init
	INIT
  chmod +x "$root/init"
  (cd "$root" && find . | cpio -o -H newc -R 0:0 --quiet) >"$img/initrd"
  rm -rf "$root"
}

step "modules"
modules
step "configuration"
access
names
services
step "SELinux labels"
selinux
step "disk"
disk
step "kernel and initrd"
kernel
initrd
step "done: $(du -sh "$img" | cut -f1)"
