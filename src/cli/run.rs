//! `crio`: starts the daemon.

use tracing::info;
use tracing::level_filters::LevelFilter;
use tracing::warn;

use super::CliError;
use super::version::VERSION;
use crate::config::Config;
use crate::config::Inputs;
use crate::config::Loaded;
use crate::config::LogFormat;
use crate::config::LogLevel;
use crate::config::load;
use crate::daemon::Relog;
use crate::daemon::Start;
use crate::telemetry;
use crate::telemetry::Format;
use crate::telemetry::Settings;

/// Reads the configuration, opens the log and hands over.
pub(super) fn run(inputs: Inputs) -> Result<(), CliError> {
    let mut loaded = load(&inputs)?;
    let control = telemetry::init(&log(&loaded.config))?;
    info!(version = VERSION, "starting crio");
    loaded.warnings.extend(loaded.config.leave_out_unusable()?);
    let warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    for warning in &warnings {
        warn!("{warning}");
    }
    let relog = move |config: &Config| {
        let Settings { level, filter, .. } = log(config);
        // The configuration takes no filter that is none.
        if let Err(error) = control.set(level, filter.as_deref()) {
            tracing::error!(%error, "the log stays as it is");
        }
    };
    let Loaded { config, values, .. } = loaded;
    let relog: Relog = Box::new(relog);
    Ok(crate::daemon::run(Start { config, values, warnings, inputs, relog })?)
}

/// What the configuration says about the log.
pub(super) fn log(config: &Config) -> Settings {
    Settings {
        level: match config.runtime.log_level {
            LogLevel::Trace => LevelFilter::TRACE,
            LogLevel::Debug => LevelFilter::DEBUG,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Warn => LevelFilter::WARN,
            LogLevel::Error => LevelFilter::ERROR,
        },
        format: match config.command.log_format {
            LogFormat::Text => Format::Text,
            LogFormat::Json => Format::Json,
        },
        filter: Some(config.runtime.log_filter.0.clone()),
        file: config.command.log.clone(),
    }
}
