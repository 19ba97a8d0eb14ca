//! Text → checked types: the configuration of the daemon.
//!
//! `tables` holds every key once: name, type, default, documentation, flag, environment variable,
//! and whether it has an effect. Everything else here works from those rows. A configuration is
//! made of layers (`layers`): defaults, storage.conf, the configuration file, the drop-in files,
//! environment and flags.
//!
//! Reading a configuration has no side effect: files are read, nothing is made, and nobody is
//! asked. [`Loaded`] is whole and checked, or there is an error that names file, line, key and what
//! is wanted.
//!
//! Not here: what a setting does. Each subsystem takes its own small settings type, and `daemon`
//! fills it from [`Config`]; nothing else uses this module.

mod check;
mod error;
mod file;
mod handlers;
mod inspect;
pub mod key;
mod layers;
mod load;
mod nearest;
mod reload;
mod setting;
mod show;
mod storage_conf;
mod tables;
mod types;
mod value;

pub use check::Config;
pub use error::ConfigError;
pub use error::Source;
pub use error::Warning;
pub use handlers::Monitor;
pub use handlers::MonitorCgroup;
pub use handlers::RuntimeHandler;
pub use inspect::inspect;
pub use layers::Values;
pub use load::Given;
pub use load::Inputs;
pub use load::Loaded;
pub use load::load;
pub use reload::Change;
pub use reload::Reloaded;
pub use reload::reload;
pub use setting::go_duration as duration;
pub use show::Shown;
pub use show::show;
pub use tables::Api;
pub use tables::Audit;
pub use tables::Checkpoint;
pub use tables::Command;
pub use tables::Handler;
pub use tables::Image;
pub use tables::Metrics;
pub use tables::Network;
pub use tables::Nri;
pub use tables::NriValidator;
pub use tables::Root;
pub use tables::Runtime;
pub use tables::Stats;
pub use tables::Tracing;
pub use tables::Workload;
pub use tables::WorkloadResources;
pub use tables::keys;
pub use types::Assignment;
pub use types::ByteSize;
pub use types::Capability;
pub use types::CgroupManager;
pub use types::CheckpointLevel;
pub use types::Device;
pub use types::ExecAffinity;
pub use types::ExecCgroup;
pub use types::ImageVolumes;
pub use types::LogFormat;
pub use types::LogLevel;
pub use types::LogSize;
pub use types::MessageSize;
pub use types::MissingEvidence;
pub use types::Pattern;
pub use types::PodMetrics;
pub use types::Port;
pub use types::RuntimeType;
pub use types::ShortNameMode;
pub use types::TlsVersion;
pub use types::Ulimit;
pub use value::Shape;

#[cfg(test)]
mod tests;
