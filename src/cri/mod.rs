//! The front door: the CRI gRPC service. No decision is taken here.
//!
//! A request is checked and turned into our own types (`convert`), a use case is called, and its
//! answer is turned back. Proto types and tonic stay in this room; everything behind it speaks
//! `model`.

#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::too_many_lines,
    clippy::excessive_nesting,
    clippy::allow_attributes_without_reason,
    reason = "generated from api.proto"
)]
pub mod api {
    //! The CRI v1 messages, server traits and clients, as generated from `proto/runtime/v1`.
    tonic::include_proto!("runtime.v1");
}
mod containers;
pub mod convert;
mod counted;
mod error;
mod events;
mod filters;
mod image_service;
mod lists;
mod metrics;
pub mod node;
mod observe;
mod patience;
mod pods;
mod runtime_service;
mod stats;
pub mod status;
mod streaming;

pub use counted::counted;
pub use image_service::ImageDoor;
pub use runtime_service::RuntimeDoor;
