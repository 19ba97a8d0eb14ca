//! crioxide: a Kubernetes container runtime daemon that runs nothing its policy did not allow.
//!
//! `ARCHITECTURE.md` is the map. The modules, from the top: the command line and the daemon build
//! everything; the front door translates the CRI; use cases decide; subsystems act; pure rooms
//! compute; `sys` touches the kernel.

pub mod artifacts;
pub mod audit;
pub mod catalog;
pub mod cli;
pub mod config;
pub mod container;
pub mod cri;
pub mod daemon;
pub mod failure;
pub mod image;
pub mod judge;
pub mod metrics;
pub mod model;
pub mod network;
pub mod oci;
pub mod policy;
pub mod registry;
pub mod runtime;
pub mod sandbox;
pub mod signature;
pub mod spec;
pub mod state;
pub mod storage;
pub mod streaming;
pub mod sys;
pub mod telemetry;
