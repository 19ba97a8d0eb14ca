//! Stories on the real parts: runc, conmon, CNI plugins, overlayfs. They need root.

#[path = "../support/mod.rs"]
mod support;

mod network;
