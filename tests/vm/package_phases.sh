# shellcheck shell=bash
# What package.sh plays in its machine, phase after phase. To be sourced there.

protection() {
  if [ -d /sys/kernel/security/apparmor ]; then
    echo AppArmor
  elif [ -e /sys/fs/selinux/enforce ]; then
    echo "SELinux, enforcing $(cat /sys/fs/selinux/enforce)"
  else
    echo "neither AppArmor nor SELinux"
  fi
}

# listing: all that a package can leave on a machine
listing() {
  local place places=(-false)
  # What the machine does by itself, the image store and network that are shared with podman, the kubelet's logs.
  for place in /in /out /proc /sys /var/cache /var/tmp /var/log/{journal,apt,dpkg.log,pods,alternatives.log} /var/lib/{dpkg,apt,systemd,containers,cni,selinux} \
    /etc/selinux /root /usr/lib/{modules,x86_64-linux-gnu,python3} /usr/share/{zoneinfo,perl,perl5}; do
    places+=(-o -path $place)
  done
  find / -xdev \( "${places[@]}" \) -prune -o -print
  find /run -maxdepth 1 -regex '.*\(crio\|ns\|\.lock\)' ! -name netns
  # Names alone: an enabled unit is a link that was found above, and a getty's state changes with a reboot.
  systemctl list-unit-files --no-legend | awk '{print "unit", $1}'
  sed 's/^/account /' /etc/passwd /etc/group
  [ ! -e /sys/fs/selinux/enforce ] || semodule -l | sed 's/^/module /'
  [ "$(protection)" != AppArmor ] || sed 's/^/profile /' /sys/kernel/security/apparmor/profiles
}

# main_pid: the daemon's process
main_pid() { systemctl show -P MainPID crio.service; }
daemon_serves() { systemctl is-active -q crio.service && cri version; }
network_ready() { cri info | jq -e '.status.conditions[] | select(.type == "NetworkReady").status'; }
another_daemon() { daemon_serves && [ "$(main_pid)" != "$1" ]; }
version_there() { dpkg-query -W -f '${Version}' crioxide; }
version_of() { dpkg-deb -f "$1" Version; }

# serving_pod NAME [PORT]: a pod whose container answers by HTTP; NAME and its ids are kept for later
serving_pod() {
  local pod id
  pod_config "$1" kubepods-besteffort-podvm.slice
  [ -z "${2:-}" ] || { jq ". + {port_mappings: [{container_port: 8080, host_port: $2}]}" "$WORK/$1.json" >"$WORK/p.json" && mv "$WORK/p.json" "$WORK/$1.json"; }
  pod=$(cri runp "$WORK/$1.json")
  id=$(run web "$1" "$pod" '{}' sh -c 'mkdir /web && echo alive >/web/index.html && exec httpd -f -p 8080 -h /web')
  soon answers "$pod" || true
  echo "$pod $id $(pid_of "$id") $(cri inspectp "$pod" | jq -r .status.network.ip)" >"$WORK/$1.kept"
}

# answers POD; of NAME: what was kept of a pod
answers() { [ "$(curl -s --max-time 5 "http://$(cri inspectp "$1" | jq -r .status.network.ip):8080/")" = alive ]; }
kept() { read -r POD ID PID IP <"$WORK/$1.kept"; }

# lives WHAT NAME: the pod is as it was
lives() {
  kept "$2"
  is "$1: its process is the same" "$PID CONTAINER_RUNNING" "$(pid_of "$ID") $(cri inspect "$ID" | jq -r .status.state)"
  if answers "$POD"; then is "$1: it answers" y y; else is "$1: it answers" yes no; fi
  is "$1: commands run in it" hello "$(cri exec --sync "$ID" echo hello)"
}

denials() { dmesg | grep 'avc: *denied' | grep crio_t | sed 's/.*avc:/avc:/' | sort -u | head -30 || true; }
# SELinux says what the daemon lacks, even if it lived without.
nothing_denied() { [ ! -e /sys/fs/selinux/enforce ] || is "SELinux denied the daemon nothing" "" "$(denials)"; }

# network: the example is taken up, and a registry is there
network() {
  cp /etc/cni/net.d/10-crio-bridge.conflist{.disabled,}
  soon network_ready || true
  is "the example network is taken up" true "$(network_ready)"
  service_registry "$here"
  systemctl restart crio.service
  cri pull $IMAGE >/dev/null
}

# upgraded: from the older package, below a living pod and a conffile that somebody changed
upgraded() {
  local before conf=/etc/crio/crio.conf.d/10-crio.conf
  lives "a pod of the older package" first
  echo '# mine' >>$conf
  before=$(main_pid)
  service_install "$here/crioxide.deb"
  is "upgraded" "$(version_of "$here/crioxide.deb") active" "$(version_there) $(systemctl is-active crio.service)"
  is "the daemon is the new one" "another /usr/bin/crio" \
    "$([ "$(main_pid)" = "$before" ] && echo same || echo another) $(readlink "/proc/$(main_pid)/exe")"
  is "a changed conffile is kept" "# mine" "$(tail -1 $conf)"
  is "another one is the new one" "" "$(grep 'older text' /etc/default/crio || true)"
  lives "after the upgrade" first
}

phase_install() {
  listing | sort >$WORK/before
  service_install "$here/older.deb"
  is "it is installed" "$(version_of "$here/older.deb")" "$(version_there)"
  is "the service runs" active "$(systemctl is-active crio.service)"
  is "and will at the next boot" enabled "$(systemctl is-enabled crio.service)"
  like "its status" '*active (running)*' "$(systemctl status --no-pager crio.service)"
  is "by its other name" active "$(systemctl is-active cri-o.service)"
  is "the socket is there" socket "$(stat -c %F /var/run/crio/crio.sock)"
  like "the journal has its start" '*serving*' "$(journalctl -u crio.service -o cat --no-pager)"
  like "the kubelet is told that there is no network yet" false "$(cri info | jq -r '.status.conditions[] | select(.type == "NetworkReady").status')"
  is "settings of the kernel" "1 1" "$(cat /proc/sys/net/ipv4/ip_forward) $(cat /proc/sys/net/bridge/bridge-nf-call-iptables)"
  network
  serving_pod first
  upgraded
  like "it says what it is" "*systemd*" "$(crio status info)"
  like "it says how it is configured" "*signature_policy*" "$(crio status config)"
  like "crictl needs to be told nothing" '*cri-o*' "$(crictl version)"
  like "the kubelet is told of systemd" '*SYSTEMD*' "$(cri runtime-config)"
  kept first
  like "the pod's cgroup" "*/kubepods-besteffort-podvm.slice/crio-$ID.scope*" "$(cat "/proc/$PID/cgroup")"
  if [ -e /sys/fs/selinux/enforce ]; then
    like "the daemon's domain" '*:crio_t:*' "$(tr -d '\0' <"/proc/$(main_pid)/attr/current")"
  elif [ "$(protection)" = AppArmor ]; then
    is "the default profile is loaded" 1 "$(grep -c '^crio-default (enforce)' /sys/kernel/security/apparmor/profiles || true)"
  fi
  systemd-analyze security --no-pager crio.service crio-wipe.service | grep -a Overall || true
  nothing_denied
}

# wiped: after what a reboot takes is gone, all pods go by the unit that is for it, confined as it is
wiped() {
  local conf=/etc/crio/crio.conf.d/30-wipe.conf
  printf '[crio]\ninternal_wipe = false\n' >$conf
  systemctl stop crio.service
  rm -f /run/crio/version
  systemctl start crio-wipe.service || true
  is "crio-wipe ended well" success "$(systemctl show -P Result crio-wipe.service)"
  like "and says what it did" '*wiped*pods=1*failures=0*' "$(journalctl -u crio-wipe.service -o cat --no-pager | tail -5)"
  rm $conf
  systemctl start crio.service
  is "no pod is left" "" "$(cri pods -q)"
  is "nor a process, a mount, a namespace of one" "" \
    "$(pgrep -xl 'conmon|runc|httpd' || true)$(grep -E 'crioxide/sandboxes|overlay/[0-9a-f]*/merged|/run/(net|uts|ipc|user)ns/' /proc/self/mounts || true)"
}

# said PID: what a daemon has said in its life
said() { journalctl -o cat --no-pager "_PID=$1"; }
heard() { said "$1" | grep -q "$2"; }
# recovery: what the daemon says of the end of the one before
recovery() { if heard "$(main_pid)" 'last shutdown was not clean'; then echo unclean; else echo clean; fi; }

# reloaded: a setting changes below the daemon, and a fault changes nothing
reloaded() {
  local pid conf=/etc/crio/crio.conf.d/30-reload.conf
  pid=$(main_pid)
  printf '[crio.runtime]\npids_limit = 77\n' >$conf
  systemctl reload crio.service
  soon heard "$pid" 'configuration reloaded' || true
  is "a reload keeps the process" "active $pid" "$(systemctl is-active crio.service) $(main_pid)"
  like "and takes a changed setting" '*pids_limit = 77*' "$(crio status config)"
  printf '[crio.runtime]\npids_limit = "many"\n' >$conf
  systemctl reload crio.service
  soon heard "$pid" 'was not reloaded' || true
  like "a fault is told" '*pids_limit*was not reloaded*' "$(said "$pid" | grep -B3 'was not reloaded' | tr '\n' ' ')"
  like "and changes nothing" '*pids_limit = 77*' "$(crio status config)"
  rm $conf
  systemctl reload crio.service
}

phase_life() {
  local before
  lives "a pod" first
  systemctl restart crio.service
  lives "after a restart" first
  is "the shutdown was a clean one" clean "$(recovery)"
  before=$(main_pid)
  systemctl kill -s KILL crio.service
  soon another_daemon "$before" || true
  is "killed, it comes back" y "$(another_daemon "$before" >/dev/null && echo y)"
  is "and knows that it did not end well" unclean "$(recovery)"
  lives "after it was killed" first
  reloaded
  lives "after a reload" first
  nothing_denied
}

phase_boot() {
  soon daemon_serves || true
  is "the service runs after a reboot" active "$(systemctl is-active crio.service)"
  kept first
  is "no pod of the last boot is left" "" "$(cri pods -q)"
  is "nor a container" "" "$(cri ps -a -q)"
  like "the daemon says why" '*the node was rebooted*' "$(said "$(main_pid)")"
  serving_pod second
  lives "a new pod" second
  systemctl start crio-wipe.service || true
  is "crio-wipe lets it be" success "$(systemctl show -P Result crio-wipe.service)"
  lives "after it" second
  wiped
  nothing_denied
}

# away: all pods and images, and what the tests themselves have put down
away() {
  cri rmp -f -a >/dev/null
  cri rmi -a >/dev/null
  rm -rf /etc/cni/net.d/10-crio-bridge.conflist /var/log/pods
  grep -qx /etc/containers/registries.conf $WORK/before || rm -f /etc/containers/registries.conf
  ip link delete cni0 || true
}

# purged: everything is as it was before the installation; the image store is shared with podman and stays
purged() {
  apt-get purge -qqy crioxide >/tmp/apt.log 2>&1 || cat /tmp/apt.log
  listing | sort >$WORK/after
  is "purged, nothing is left" "" "$(diff $WORK/before $WORK/after | grep '^[<>]' | head -c 2000 || true)"
  is "nor a process of it" "" "$(pgrep -xl 'crio|conmon|runc' || true)"
}

# goes_on WHAT NAME: a pod does without the daemon
goes_on() {
  kept "$2"
  is "$1" "$PID alive" "$([ ! -d "/proc/$PID" ] || echo "$PID") $(curl -s --max-time 5 "http://$IP:8080/")"
}

phase_away() {
  local conf=/etc/crio/crio.conf.d/10-crio.conf
  network
  serving_pod third
  apt-get remove -qqy crioxide >/tmp/apt.log 2>&1 || cat /tmp/apt.log
  is "removed, the daemon is gone" "" "$(pgrep -x crio || true)"
  is "the changed conffile stays" "# mine" "$(tail -1 $conf)"
  is "so do the others" "there" "$([ -e /etc/crio/policy.json ] && [ -e /etc/default/crio ] && [ -e /etc/crictl.yaml ] && echo there)"
  goes_on "the pod goes on without it" third
  [ ! -e /sys/fs/selinux/enforce ] || is "the SELinux module stays under it" crioxide "$(semodule -l | grep -x crioxide)"
  service_install "$here/crioxide.deb"
  is "installed again" active "$(systemctl is-active crio.service)"
  lives "installed again" third
  nothing_denied
  away
  purged
}
