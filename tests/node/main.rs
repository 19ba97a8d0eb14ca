//! The stories of this program on a real node: root, real runc, conmon, podman, overlayfs.

#[path = "../support/images.rs"]
mod images;
mod layers;
mod storage;
