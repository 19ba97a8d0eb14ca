//! Our own nouns: ids, names, states, and what a pod and a container are asked to be.
//!
//! No I/O. Records keep these types as JSON, so a field that is added here has a default.

pub mod change;
pub mod container;
pub mod current;
pub mod ids;
pub mod in_flight;
pub mod names;
pub mod quantity;
pub mod resources;
pub mod sandbox;
pub mod security;
pub mod signal;
pub mod stats;
pub mod streams;
pub mod undo;
