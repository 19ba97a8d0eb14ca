//! The stories of this program on a real node: root, real runc, conmon, podman, overlayfs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that meets what it did not expect fails"
)]

#[path = "../support/images.rs"]
mod images;
mod layers;
mod storage;
