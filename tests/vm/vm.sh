#!/bin/bash
# Machines of Debian in QEMU's software emulation, from what build.sh made; restored from a snapshot within seconds.
#
#   vm.sh snap PROFILE             boots once and keeps the booted state under $VMDIR/snap/PROFILE
#   vm.sh up NAME [PROFILE]        starts a machine, from the snapshot if there is one, and waits until it takes commands
#   vm.sh exec NAME COMMAND        runs a command as root: its output and its code
#   vm.sh put NAME DIR [TO]        copies a directory in (default to /in, which is emptied first)
#   vm.sh get NAME DIR [FROM]      copies a directory out (default /out)
#   vm.sh down NAME | reboot NAME | list
#
# PROFILE: apparmor | selinux (permissive) | enforcing (SELinux) | plain
# Environment: VMDIR (default /var/tmp/test-vm); MEM, SMP: the same at snap and at up; COLD=1 or APPEND='kernel
# arguments' boots anew; QEMU, QIMG: other programs than those of getqemu.sh.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
vmdir=${VMDIR:-/var/tmp/test-vm}
img=$vmdir/img
own=$vmdir/q10/usr
firmware=()
if [ -z "${QEMU:-}" ] && [ -x "$own/bin/qemu-system-x86_64" ]; then
  QEMU=$own/bin/qemu-system-x86_64
  QIMG=$own/bin/qemu-img
  firmware=(-L "$own/share/qemu" -L "$own/share/seabios")
fi
QEMU=${QEMU:-qemu-system-x86_64}
QIMG=${QIMG:-qemu-img}
# How much a directory that is copied in or out may have.
TRANSFER=4G

die() {
  echo "vm.sh: $*" >&2
  exit 125
}

# security PROFILE: what the kernel is told
security() {
  case $1 in
    apparmor) echo "selinux=0" ;;
    selinux) echo "security=selinux selinux=1 enforcing=0" ;;
    enforcing) echo "security=selinux selinux=1 enforcing=1" ;;
    plain) echo "selinux=0 apparmor=0" ;;
    *) die "no profile named $1" ;;
  esac
}

name() {
  NAME=$1
  RUN=$vmdir/run/$1
}

alive() { [ -f "$RUN/pid" ] && [ -d "/proc/$(cat "$RUN/pid")" ]; }
need() { alive || die "no machine $NAME is up"; }

guest() {
  ssh -i "$img/id" -p "$(cat "$RUN/port")" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR \
    -o ConnectTimeout=60 -o ServerAliveInterval=20 -o ServerAliveCountMax=6 \
    -o ControlMaster=auto -o ControlPath="$RUN/ssh" -o ControlPersist=600 root@127.0.0.1 "$@"
}

hang_up() { [ ! -S "$RUN/ssh" ] || ssh -o ControlPath="$RUN/ssh" -O exit x 2>/dev/null || true; }

# launch DISK PROFILE [ARG...]: starts QEMU; two raw disks carry directories in and out
launch() {
  local disk=$1 profile=$2 name
  shift 2
  [ -f "$RUN/port" ] ||
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])' >"$RUN/port"
  for name in in out; do
    [ -f "$RUN/$name.blk" ] || truncate -s $TRANSFER "$RUN/$name.blk"
  done
  local kernel="root=/dev/vda rw console=ttyS0 quiet mitigations=off nokaslr tsc=reliable panic=-1 random.trust_cpu=on"
  kernel="$kernel cryptomgr.notests rcupdate.rcu_expedited=1 nowatchdog psi=1 $(security "$profile") ${APPEND:-}"
  setsid "$QEMU" "${firmware[@]}" -name "$NAME" -machine pc,i8042=off -accel tcg,thread=multi,tb-size=1024 -cpu Nehalem-v1 \
    -smp "${SMP:-2}" -m "${MEM:-2048}" -display none -nodefaults -no-user-config \
    -kernel "$img/vmlinux" -initrd "$img/initrd" -append "$kernel" \
    -drive "file=$disk,format=qcow2,if=none,id=d0,cache=unsafe,discard=unmap" -device virtio-blk-pci,drive=d0 \
    -drive "file=$RUN/in.blk,format=raw,if=none,id=d1,cache=unsafe" -device virtio-blk-pci,drive=d1,serial=in \
    -drive "file=$RUN/out.blk,format=raw,if=none,id=d2,cache=unsafe" -device virtio-blk-pci,drive=d2,serial=out \
    -netdev "user,id=n0,restrict=on,hostfwd=tcp:127.0.0.1:$(cat "$RUN/port")-:22" -device virtio-net-pci,netdev=n0,romfile= \
    -device virtio-rng-pci -serial "file:$RUN/serial.log" -qmp "unix:$RUN/qmp,server=on,wait=off" "$@" \
    >"$RUN/qemu.log" 2>&1 </dev/null &
  echo $! >"$RUN/pid"
}

# answers: waits until the machine takes commands
answers() {
  local end=$((SECONDS + 900))
  until guest true 2>/dev/null; do
    if ! alive; then
      cat "$RUN/qemu.log" >&2
      tail -5 "$RUN/serial.log" >&2
      die "QEMU ended"
    fi
    [ $SECONDS -lt $end ] || die "$NAME does not answer"
    sleep 0.2
  done
}

down() {
  hang_up
  if alive; then
    kill "$(cat "$RUN/pid")" 2>/dev/null || true
    for _ in $(seq 50); do
      alive || break
      sleep 0.1
    done
  fi
  rm -rf "$RUN"
}

snap() {
  local profile=$1 snap=$vmdir/snap/$1
  security "$profile" >/dev/null
  name "snap-$profile"
  down
  rm -rf "$snap"
  mkdir -p "$RUN" "$snap"
  "$QIMG" create -q -f qcow2 -b "$img/disk.img" -F raw "$snap/disk.qcow2"
  launch "$snap/disk.qcow2" "$profile"
  answers
  guest 'systemctl is-system-running --wait; systemd-analyze | head -1; sync; echo 3 >/proc/sys/vm/drop_caches; fstrim / 2>/dev/null; true'
  hang_up
  python3 "$here/hmp.py" "$RUN/qmp" stop "migrate_set_capability mapped-ram on" "migrate file:$snap/ram" migrate-wait
  down
  chmod a-w "$snap"/*
}

up() {
  local profile=$1 snap=$vmdir/snap/$1
  if alive; then return; fi
  down
  mkdir -p "$RUN"
  if [ -f "$snap/ram" ] && [ -z "${APPEND:-}${COLD:-}" ]; then
    "$QIMG" create -q -f qcow2 -b "$snap/disk.qcow2" -F qcow2 "$RUN/disk.qcow2"
    launch "$RUN/disk.qcow2" "$profile" -incoming defer
    for _ in $(seq 100); do
      [ ! -S "$RUN/qmp" ] || break
      sleep 0.05
    done
    python3 "$here/hmp.py" "$RUN/qmp" "migrate_set_capability mapped-ram on" "migrate_incoming file:$snap/ram" wait-running ||
      { cat "$RUN/qemu.log" >&2; die "the snapshot cannot be restored"; }
  else
    "$QIMG" create -q -f qcow2 -b "$img/disk.img" -F raw "$RUN/disk.qcow2"
    launch "$RUN/disk.qcow2" "$profile"
  fi
  answers
  guest "date -u -s @$(date +%s) >/dev/null"
}

boot_id() { guest cat /proc/sys/kernel/random/boot_id 2>/dev/null || true; }

# reboot: waits until the machine that answers is another one
reboot() {
  local before now
  before=$(boot_id)
  guest 'systemctl reboot' 2>/dev/null || true
  hang_up
  while now=$(boot_id); [ -z "$now" ] || [ "$now" = "$before" ]; do
    answers
    hang_up
    sleep 1
  done
}

put() {
  tar -C "$1" -cf - . | dd of="$RUN/in.blk" bs=1M conv=notrunc iflag=fullblock status=none
  guest "blockdev --flushbufs /dev/vdb; rm -rf $2; mkdir -p $2; tar -C $2 -xf /dev/vdb"
}

get() {
  mkdir -p "$1"
  guest "mkdir -p $2; tar -C $2 -cf - . | dd of=/dev/vdc bs=1M iflag=fullblock status=none; blockdev --flushbufs /dev/vdc"
  tar -C "$1" -xf "$RUN/out.blk"
}

list() {
  local dir
  for dir in "$vmdir"/run/*/; do
    [ -d "$dir" ] || continue
    name "$(basename "$dir")"
    echo "$NAME pid=$(cat "$RUN/pid" 2>/dev/null) port=$(cat "$RUN/port" 2>/dev/null) $(alive && echo up || echo dead)"
  done
}

case "${1:-} $#" in
  'snap 2') snap "$2" ;;
  'up 2' | 'up 3') name "$2"; up "${3:-apparmor}" ;;
  'exec 3') name "$2"; need; guest "bash -c $(printf %q "$3")" ;;
  'put 3' | 'put 4') name "$2"; need; put "$3" "${4:-/in}" ;;
  'get 3' | 'get 4') name "$2"; need; get "$3" "${4:-/out}" ;;
  'down 2') name "$2"; down ;;
  'reboot 2') name "$2"; need; reboot ;;
  'list 1') list ;;
  *) sed -n '2,/^set/{/^set/d; s/^# \{0,1\}//p}' "$0" >&2; exit 2 ;;
esac
