//! What the stories are told with: a daemon in a directory of its own, a client, networks of their
//! own, and questions about the host.
//!
//! Nothing here touches what belongs to the host: files are in a temporary directory, interfaces
//! and firewall rules in a network namespace that ends with the story, cgroups below one with the
//! story's own name.

#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a story that cannot go on has failed"
)]

pub(crate) mod client;
pub(crate) mod daemon;
pub(crate) mod distribution;
pub(crate) mod host;
pub(crate) mod leftovers;
pub(crate) mod net;
pub(crate) mod typed;
