//! crioxide
