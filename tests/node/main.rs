//! Stories on the real parts: runc, conmon, CNI plugins, overlayfs. They need root.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a story that cannot go on has failed"
)]
#[path = "../support/mod.rs"]
mod support;

mod daemon;
mod network;
mod support;
//! The stories of this program on a real node: root, real runc, conmon, podman, overlayfs.
#[path = "../support/images.rs"]
mod images;
mod layers;
mod storage;

mod pause;
mod spec;
