//! Stories on the real parts: runc, conmon, CNI plugins, overlayfs, podman. They need root.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a story that cannot go on has failed"
)]

#[path = "../support/images.rs"]
mod images;
#[path = "../support/mod.rs"]
mod support;

mod containers;
mod daemon;
mod layers;
mod network;
mod pause;
mod pods;
mod restart;
mod runtime;
mod scene;
mod spec;
mod storage;
