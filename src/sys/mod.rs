//! The one door to the kernel: files, mounts, namespaces, cgroups, processes.
//!
//! Only here is `unsafe` allowed and only here are processes started. Nothing here knows what a
//! pod or an image is.

pub mod files;
pub mod netns;
pub mod process;
