//! Stories on the real parts: runc, conmon, CNI plugins, overlayfs, podman. They need root.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a story that cannot go on has failed"
)]

#[path = "../support/gpg.rs"]
mod gpg;
#[path = "../support/images.rs"]
mod images;
#[path = "../support/keyless.rs"]
mod keyless;
#[path = "../support/keys.rs"]
mod keys;
#[path = "../support/publish.rs"]
mod publish;
#[path = "../support/mod.rs"]
mod support;
#[path = "../support/registry.rs"]
mod test_registry;

mod annotations;
mod artifacts;
mod attestations;
mod check;
mod containers;
mod cosign;
mod daemon;
mod devices;
mod events;
mod exec;
mod explain;
mod hooks;
mod host_ports;
mod hostile;
mod image_volumes;
mod index;
mod index_signers;
mod inspect;
mod kubeadm;
mod layers;
mod limits;
mod missing_evidence;
mod mounts;
mod network;
mod openpgp;
mod pause;
mod pause_image;
mod picture;
mod pods;
mod policy;
mod port_forward;
mod pull;
mod races;
mod recover;
mod reload;
mod restart;
mod runtime;
mod scene;
mod seccomp_artifacts;
mod security;
mod shared_store;
mod spec;
mod stats;
mod storage;
mod streaming;
mod streaming_tls;
mod streams;
mod userns;
