//! A verb for every plugin of a network, in the order the specification wants.
//!
//! An `ADD` goes forward, hands each plugin the answer of the one before, and stops at the first
//! failure. A `DEL` goes backward, hands all of them the last answer, and stops at nothing: what
//! one plugin cannot undo is no reason to leave what another can.

use std::time::Duration;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use serde_json::value::RawValue;
use serde_json::value::to_raw_value;
use tokio::time::Instant;

use super::attachment::Attachment;
use super::conf::NetworkConf;
use super::conf::PluginConf;
use super::conf::Version;
use super::error::PluginError;
use super::error::PluginFailure;
use super::error::ResultError;
use super::plugin::Plugins;
use super::plugin::Verb;
use super::result;
use super::result::Answer;

/// Attaches: gives the last plugin's answer.
pub(super) async fn add(
    plugins: &Plugins,
    attachment: &Attachment,
    time: Duration,
) -> Result<Answer, PluginFailure> {
    let deadline = Instant::now() + time;
    let conf = &attachment.conf;
    let mut last = Answer { value: Value::Null, ips: Vec::new() };
    for (index, plugin) in conf.plugins.iter().enumerate() {
        let previous = (index > 0).then_some(&last.value);
        last = add_one(plugins, attachment, plugin, previous, left(deadline))
            .await
            .map_err(|source| failure(plugin, source))?;
    }
    Ok(last)
}

async fn add_one(
    plugins: &Plugins,
    attachment: &Attachment,
    plugin: &PluginConf,
    previous: Option<&Value>,
    time: Duration,
) -> Result<Answer, PluginError> {
    let conf = &attachment.conf;
    let request = attachment_request(attachment, plugin, previous)?;
    let bytes = plugins.ask(Verb::Add, &plugin.name, &request, Some(attachment), time).await?;
    result::parse(&bytes, conf.version)
        .map_err(|source| PluginError::Answer { path: plugin.name.clone().into(), source })
}

/// Detaches: gives what failed.
///
/// Each plugin gets an equal share of the time that is left, so that one that hangs cannot take
/// the others' time.
pub(super) async fn delete(
    plugins: &Plugins,
    attachment: &Attachment,
    time: Duration,
) -> Vec<PluginFailure> {
    let deadline = Instant::now() + time;
    let conf = &attachment.conf;
    // Since 0.4.0 the result of the ADD is handed to a DEL.
    let previous = attachment.result.as_ref().filter(|_| conf.version >= Version::V0_4_0);
    let mut failures = Vec::new();
    for (index, plugin) in conf.plugins.iter().enumerate().rev() {
        let share = left(deadline) / u32::try_from(index + 1).unwrap_or(u32::MAX);
        let outcome = match attachment_request(attachment, plugin, previous) {
            Ok(request) => {
                plugins.ask(Verb::Delete, &plugin.name, &request, Some(attachment), share).await
            }
            Err(error) => Err(error),
        };
        if let Err(source) = outcome {
            failures.push(failure(plugin, source));
        }
    }
    failures
}

/// Asks whether an `ADD` could be served; versions before 1.1.0 have no such question.
pub(super) async fn status(
    plugins: &Plugins,
    conf: &NetworkConf,
    time: Duration,
) -> Result<(), PluginFailure> {
    let deadline = Instant::now() + time;
    if conf.version < Version::V1_1_0 {
        return Ok(());
    }
    for plugin in &conf.plugins {
        let outcome = match request(conf, plugin, Map::new()) {
            Ok(request) => {
                plugins.ask(Verb::Status, &plugin.name, &request, None, left(deadline)).await
            }
            Err(error) => Err(error),
        };
        outcome.map_err(|source| failure(plugin, source))?;
    }
    Ok(())
}

/// Tells the plugins which attachments live, as container id and interface; gives what failed.
pub(super) async fn collect(
    plugins: &Plugins,
    conf: &NetworkConf,
    living: &[(String, String)],
    time: Duration,
) -> Vec<PluginFailure> {
    let deadline = Instant::now() + time;
    if conf.version < Version::V1_1_0 || conf.disable_gc {
        return Vec::new();
    }
    let living: Vec<Value> =
        living.iter().map(|(id, name)| json!({"containerID": id, "ifname": name})).collect();
    let mut failures = Vec::new();
    for plugin in &conf.plugins {
        // The second name is what libcni said before it followed the specification, and says still.
        let more = Map::from_iter([
            ("cni.dev/valid-attachments".to_owned(), Value::from(living.clone())),
            ("cni.dev/attachments".to_owned(), Value::from(living.clone())),
        ]);
        let outcome = match request(conf, plugin, more) {
            Ok(request) => {
                plugins.ask(Verb::Collect, &plugin.name, &request, None, left(deadline)).await
            }
            Err(error) => Err(error),
        };
        if let Err(source) = outcome {
            failures.push(failure(plugin, source));
        }
    }
    failures
}

/// What a plugin reads when it is asked about an attachment.
fn attachment_request(
    attachment: &Attachment,
    plugin: &PluginConf,
    previous: Option<&Value>,
) -> Result<Vec<u8>, PluginError> {
    let mut more = Map::new();
    let asked: Map<String, Value> = attachment
        .capabilities
        .iter()
        .filter(|(key, _)| plugin.capabilities.contains(key))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    if !asked.is_empty() {
        more.insert("runtimeConfig".to_owned(), Value::from(asked));
    }
    if let Some(previous) = previous {
        more.insert("prevResult".to_owned(), previous.clone());
    }
    request(&attachment.conf, plugin, more)
}

/// A plugin's own configuration with what the runtime adds to it.
///
/// `capabilities` stays in it, against the specification's letter: libcni leaves it there, so
/// plugins that read it have come to rely on that.
fn request(
    conf: &NetworkConf,
    plugin: &PluginConf,
    more: Map<String, Value>,
) -> Result<Vec<u8>, PluginError> {
    let cannot = |source| PluginError::Answer {
        path: plugin.name.clone().into(),
        source: ResultError::Shape(source),
    };
    let raw = |value: &Value| -> Result<Box<RawValue>, PluginError> {
        to_raw_value(value).map_err(cannot)
    };
    let mut fields = plugin.fields.clone();
    // These are ours to say, or not to say.
    fields.retain(|key, _| key != "runtimeConfig" && key != "prevResult");
    fields.insert("name".to_owned(), raw(&Value::from(conf.name.as_str()))?);
    fields.insert("cniVersion".to_owned(), raw(&Value::from(conf.version.as_str()))?);
    for (key, value) in &more {
        fields.insert(key.clone(), raw(value)?);
    }
    serde_json::to_vec(&fields).map_err(cannot)
}

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

fn failure(plugin: &PluginConf, source: PluginError) -> PluginFailure {
    PluginFailure { plugin: plugin.name.clone(), source }
}
