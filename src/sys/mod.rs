//! The one door to the kernel: files, mounts, namespaces, cgroups, processes.
//!
//! Only here is `unsafe` allowed and only here are processes started. Nothing here knows what a
//! pod or an image is.

pub mod apparmor;
pub mod beneath;
pub mod cgroup;
pub mod defunct;
pub mod files;
pub mod held;
pub mod idmap;
pub mod kernel_log;
pub mod lock;
pub mod memory;
pub mod mount;
pub mod namespace;
pub mod netlink;
pub mod pause;
pub mod process;
pub mod pty;
pub mod selinux;
pub mod seqpacket;
pub mod socket;
pub mod sysctl;
pub mod systemd;
pub mod user_ns;
pub mod xattr;
