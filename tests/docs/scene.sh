# shellcheck shell=bash
# Where the documents are played: a node on which the package is installed, with a registry that has the images they
# name. To be sourced. The first two functions are for inside tests/setup/apart.sh; in a virtual machine the package
# itself is installed.

# scene_apart: what is written to the places of a node goes to $NODE, and /run is empty
scene_apart() {
  local name dir
  for name in etc usr opt var/log var/lib; do
    dir=$NODE/${name/\//-}
    mkdir -p "$dir" "$dir.work"
    mount -t overlay -o "lowerdir=/$name,upperdir=$dir,workdir=$dir.work" none "/$name"
  done
  # The store's own overlays cannot lie on one.
  mkdir -p "$NODE/containers" /var/lib/containers
  mount --bind "$NODE/containers" /var/lib/containers
  mount -t tmpfs -o mode=755 none /run
  rm -rf /etc/crio /etc/cni/net.d /etc/containers/policy.json /etc/containers/registries.conf.d /var/lib/crio /var/log/crio
}

# scene_install TOP CRIO: the files of the package, where it has them
scene_install() {
  local top=$1
  install -m 755 "$2" /usr/bin/crio
  cp -r "$top/packaging/root/." /
  install -D -m 644 "$top/policy/default.json" /etc/crio/policy.json
  mkdir -p /usr/share/crioxide
  cp -r "$top/policy" "$top/kubeadm" /usr/share/crioxide/
  mkdir -p /opt/cni
  [ -e /opt/cni/bin ] || ln -s /usr/lib/cni /opt/cni/bin
}

# scene_registry DIR IMAGES: serves the images as registry.example, and trusts the key
scene_registry() {
  cp -r "$2/registry" "$1/registry"
  oci_registry "$1" 5000
  mkdir -p /etc/containers/registries.conf.d /etc/crio/keys
  printf '[[registry]]\nprefix = "registry.example"\nlocation = "%s"\ninsecure = true\n' "$OCI_REGISTRY" \
    >/etc/containers/registries.conf.d/90-example.conf
  cp "$2/shop.pub" /etc/crio/keys/shop.pub
}
