#!/bin/bash
# Fills a registry directory with the images that critest pulls: same names, same users, same
# behaviour as the originals as far as the suite can see, made of Debian packages and a few lines of C.
#
# Needs no network but apt's. What the suite asks of each image is said beside it. The one image
# named by digest cannot be made: its digest is that of bytes we do not have.
#
# Usage: images.sh DIR   (the registry's files are then in DIR/registry; a second run does nothing)
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
dir=${1:?usage: images.sh DIR}
# shellcheck source=tests/setup/oci.sh
. "$here/../setup/oci.sh"

start=$SECONDS
oci_fresh "$dir" "$0"

# accounts DIR: /etc/passwd and /etc/group with the names that the suite asks for
accounts() {
  mkdir -p "$1/etc"
  cat >"$1/etc/passwd" <<-'PASSWD'
	root:x:0:0:root:/root:/bin/sh
	www-data:x:33:33:www-data:/var/www:/bin/false
	nobody:x:65534:65534:nobody:/home:/bin/false
	PASSWD
  cat >"$1/etc/group" <<-'GROUP'
	root:x:0:
	www-data:x:33:
	users:x:100:
	nogroup:x:65534:
	GROUP
}

# The applets are hard links, because a masked /bin/ls must not mask every other applet. The
# dynamic busybox is taken: the static one of Debian runs its own applets without looking at PATH,
# so that nothing could be masked at all.
base_layer() {
  local root=$work/base applet
  oci_deb busybox "$work/deb-busybox"
  mkdir -p "$root"/{bin,dev,etc,home,proc,root,run,sys,usr/bin,var/www}
  mkdir -m 1777 "$root/tmp"
  ln -s ../run "$root/var/run"
  ln -s ../../bin/env "$root/usr/bin/env"
  cp "$work/deb-busybox/bin/busybox" "$root/bin/busybox"
  for applet in $("$root/bin/busybox" --list); do
    [ "$applet" = busybox ] || ln "$root/bin/busybox" "$root/bin/$applet"
  done
  accounts "$root"
  oci_libs "$root" "$root/bin/busybox"
  oci_layer "$root"
}

# Debian's busybox has no pgrep (a spec looks for a killed exec with it) and no ipcs (host IPC).
tools_layer() {
  local root=$work/tools tool
  mkdir -p "$root/bin"
  for tool in pgrep ipcs; do
    cp "$(command -v $tool)" "$root/bin/$tool"
    oci_libs "$root" "$root/bin/$tool"
  done
  oci_layer "$root"
}

# nginx_layer PORT: the suite looks for "master process" in its title and for /var/run/nginx.pid
nginx_layer() {
  local root=$work/nginx-$1
  mkdir -p "$root"/{etc/nginx,usr/sbin,usr/share/nginx/html}
  cp "$work/deb-nginx/usr/sbin/nginx" "$root/usr/sbin/nginx"
  oci_libs "$root" "$root/usr/sbin/nginx"
  echo '<h1>Welcome to nginx!</h1>' >"$root/usr/share/nginx/html/index.html"
  cat >"$root/etc/nginx/nginx.conf" <<-CONF
	user nobody nogroup;
	worker_processes 1;
	pid /var/run/nginx.pid;
	error_log /dev/stderr notice;
	events { worker_connections 64; }
	http {
	  access_log /dev/stdout;
	  client_body_temp_path /tmp/body; proxy_temp_path /tmp/proxy; fastcgi_temp_path /tmp/fastcgi;
	  uwsgi_temp_path /tmp/uwsgi; scgi_temp_path /tmp/scgi;
	  server { listen $1; root /usr/share/nginx/html; }
	}
	CONF
  oci_layer "$root"
}

# httpd answers on port 80 and says its name in its log at the start
httpd_layer() {
  local root=$work/httpd
  mkdir -p "$root/srv"
  echo '<html><body><h1>It works!</h1></body></html>' >"$root/srv/index.html"
  oci_layer "$root"
}

# nonewprivs_layer: a set-uid program that says as whom it runs
nonewprivs_layer() {
  local root=$work/nonewprivs
  mkdir -p "$root"
  printf '%s\n' '#include <stdio.h>' '#include <unistd.h>' \
    'int main(void) { printf("Effective uid: %d\n", (int)geteuid()); return 0; }' >"$work/nnp.c"
  cc -Os -static -s -Wl,--build-id=none -o "$root/nnp" "$work/nnp.c"
  chmod 4755 "$root/nnp"
  oci_layer "$root"
}

# pause_layer: sleeps until it is told to stop, takes in orphans
pause_layer() {
  local root=$work/pause
  mkdir -p "$root"
  cat >"$work/pause.c" <<-'C'
	#include <signal.h>
	#include <sys/wait.h>
	#include <unistd.h>
	static void stop(int signal) { (void)signal; _exit(0); }
	static void reap(int signal) { (void)signal; while (waitpid(-1, 0, WNOHANG) > 0) {} }
	int main(void) {
	  signal(SIGINT, stop);
	  signal(SIGTERM, stop);
	  signal(SIGCHLD, reap);
	  for (;;) pause();
	}
	C
  cc -Os -static -s -Wl,--build-id=none -o "$root/pause" "$work/pause.c"
  oci_layer "$root"
}

# marked BASE NAME: an image that differs from the others by one file, as the originals do
marked() {
  mkdir -p "$work/marks/$2"
  echo "$2" >"$work/marks/$2/test-image"
  oci_image '{"Cmd":["sh"]}' "$1" "$(oci_layer "$work/marks/$2")"
}

oci_registry "$dir"
base=$(base_layer)
tools=$(tools_layer)
oci_deb nginx "$work/deb-nginx"

e2e=e2e-test-images
oci_push "$(oci_index "$(oci_image '{"Cmd":["sh"]}' "$base" "$tools")")" $e2e/busybox 1.29-2
nginx='{"Cmd":["nginx","-g","daemon off;"],"ExposedPorts":{"80/tcp":{}},"StopSignal":"SIGQUIT"}'
oci_push "$(OCI_FORMAT=docker oci_image "$nginx" "$base" "$(nginx_layer 80)")" $e2e/nginx 1.14-2
oci_push "$(oci_image '{"Cmd":["sh","-c","echo httpd: serving /srv on port 80; exec httpd -f -v -p 80 -h /srv"]}' \
  "$base" "$(httpd_layer)")" $e2e/httpd 2.4.39-4
oci_push "$(OCI_FORMAT=docker oci_image '{"Entrypoint":["/nnp"]}' "$(nonewprivs_layer)")" $e2e/nonewprivs 1.3

# A spec pulls and removes 3.9, so it must not be the image that a daemon keeps for its pods.
pause=$(pause_layer)
oci_push "$(oci_index "$(oci_image '{"Entrypoint":["/pause"],"Labels":{"version":"3.9"}}' "$pause")")" pause 3.9
oci_push "$(oci_index "$(oci_image '{"Entrypoint":["/pause"]}' "$pause")")" pause 3.10 3.10.1 3.10.2 latest

staging=k8s-staging-cri-tools
oci_push "$(oci_image "$nginx" "$base" "$(nginx_layer 12003)")" \
  $staging/hostnet-nginx-"$(dpkg --print-architecture)" latest
user() { oci_push "$(oci_image "{\"Cmd\":[\"sh\"],\"User\":\"$2\"}" "$base")" "$staging/$1" latest; }
user test-image-user-uid 1002
user test-image-user-username www-data
user test-image-user-uid-group 1003:users
user test-image-user-username-group www-data:www-data

# uid 1000 is by /etc/group in a group of its own and in 50000: what Merge and Strict differ by
accounts "$work/predefined"
echo 'default-user:x:1000:1000::/home/default-user:/bin/sh' >>"$work/predefined/etc/passwd"
printf '%s\n' 'default-user:x:1000:' 'group-defined-in-image:x:50000:default-user' >>"$work/predefined/etc/group"
oci_push "$(oci_image '{"Cmd":["sh"],"User":"1000"}' "$base" "$(oci_layer "$work/predefined")")" \
  $staging/test-image-predefined-group latest

for name in test-image-latest test-image-1 test-image-2 test-image-3; do
  oci_push "$(marked "$base" $name)" $staging/$name latest
done
oci_push "$(marked "$base" test-image-tag)" $staging/test-image-tag test
oci_push "$(marked "$base" test-image-all)" $staging/test-image-tag all
oci_push "$(marked "$base" test-image-tags)" $staging/test-image-tags 1 2 3

oci_done
echo "conformance: images made in $((SECONDS - start)) s, $(du -sh "$dir/registry" | cut -f1)"
