//! The runtime handlers: what is there without any file, and what each of them comes to.

use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use super::check::at_least;
use super::error::ConfigError;
use super::error::Source;
use super::error::Warning;
use super::layers::Values;
use super::tables::Command;
use super::tables::Handler;
use super::tables::Runtime;
use super::types::Assignment;
use super::types::CgroupManager;
use super::types::RuntimeType;
use super::value::Value;

/// The handlers there are without any file. The second is there when its program is, and is the
/// default where that of the first is not.
const BUILT_IN: [&str; 2] = ["runc", "crun"];
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A handler with nothing left to be looked up in other places of the configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct RuntimeHandler {
    /// The runtime; `None` when no program of the handler's name is in `$PATH`.
    pub path: Option<PathBuf>,
    /// Where the runtime keeps its state.
    pub root: PathBuf,
    /// The monitor.
    pub monitor: Monitor,
    /// How long making a container may take.
    pub create_timeout: Duration,
    /// All that the handler's table says.
    pub table: Handler,
}

/// The monitor of a handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Monitor {
    /// conmon; `None` when it is not in `$PATH`.
    pub path: Option<PathBuf>,
    /// Its cgroup.
    pub cgroup: MonitorCgroup,
    /// Its environment.
    pub environment: Vec<Assignment>,
}

/// The cgroup of a monitor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MonitorCgroup {
    /// A place of the daemon's choice outside the pod.
    Node,
    /// That of its pod.
    Pod,
    /// A slice of systemd.
    Slice(String),
}

/// The layer below all others.
pub(super) fn defaults(search_path: &[PathBuf]) -> Values {
    let mut values = Values::default();
    let [first, second] = BUILT_IN;
    add(&mut values, first, "12MiB");
    if find(second, search_path).is_some() {
        add(&mut values, second, "500KiB");
        if find(first, search_path).is_none() {
            let only = Value::Text(second.to_owned());
            values.put(Runtime::TABLE, "default_runtime", only, Source::Default);
        }
    }
    values
}

fn add(values: &mut Values, name: &str, least_memory: &str) {
    let table = table_of(name);
    values.open(&table);
    let mut put = |key, value| values.put(&table, key, value, Source::Default);
    put("monitor_env", Value::List(vec![PATH.to_owned()]));
    put("container_min_memory", Value::Text(least_memory.to_owned()));
    let annotations = ["io.containers.trace-syscall", "devices.crio.io"];
    put("allowed_annotations", Value::List(annotations.map(str::to_owned).to_vec()));
}

/// The name of a handler's table.
pub(super) fn table_of(name: &str) -> String {
    Handler::TABLE.replace('*', name)
}

/// Makes tables of what the flag `--runtimes` says, which has a notation of its own:
/// `name:path:root[:type[:privileged_without_host_devices[:config_path[:min_memory]]]]`.
///
/// # Errors
///
/// [`ConfigError::Value`] for anything else.
pub(super) fn apply_flag(values: &mut Values) -> Result<(), ConfigError> {
    let Some(Value::List(list)) = values.value(Command::TABLE, "runtimes").cloned() else {
        return Ok(());
    };
    let source = values.source(Command::TABLE, "runtimes");
    let keys = ["runtime_path", "runtime_root", "runtime_type"];
    for text in list {
        let parts: Vec<&str> = text.split(':').collect();
        let [name, rest @ ..] = parts.as_slice() else { continue };
        if name.is_empty() || !(2..=6).contains(&rest.len()) {
            let wanted = "name:path:root[:type[:privileged_without_host_devices[:config_path[:min_memory]]]]";
            return Err(values.fault(Command::TABLE, "runtimes", &Value::Text(text), wanted));
        }
        let table = table_of(name);
        values.open(&table);
        let mut put = |key, value| values.put(&table, key, value, source.clone());
        for (key, part) in keys.iter().zip(rest) {
            put(key, Value::Text((*part).to_owned()));
        }
        put("privileged_without_host_devices", Value::Bool(rest.get(3) == Some(&"true")));
        for (key, at) in [("runtime_config_path", 4), ("container_min_memory", 5)] {
            if let Some(part) = rest.get(at).filter(|part| !part.is_empty()) {
                put(key, Value::Text((*part).to_owned()));
            }
        }
    }
    Ok(())
}

/// Works out the handler `name`.
///
/// # Errors
///
/// [`ConfigError::Value`] for a cgroup that the cgroup manager cannot give a monitor.
pub(super) fn resolve(
    name: &str,
    runtime: &Runtime,
    values: &Values,
    search_path: &[PathBuf],
    warnings: &mut Vec<Warning>,
) -> Result<RuntimeHandler, ConfigError> {
    let at = table_of(name);
    let mut table = Handler::read(values, &at)?;
    let mut program = name;
    if table.inherit_default_runtime {
        let default = Handler::read(values, &table_of(&runtime.default_runtime))?;
        program = &runtime.default_runtime;
        table.runtime_path = default.runtime_path;
        table.runtime_type = default.runtime_type;
        table.runtime_root = default.runtime_root;
        table.runtime_config_path = default.runtime_config_path;
    }
    let path = table.runtime_path.clone().or_else(|| find(program, search_path));
    let named = path.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy());
    let usual_root = Path::new("/run").join(named.as_deref().unwrap_or(program));
    let seconds = &mut table.container_create_timeout;
    at_least(30, seconds, values, &at, "container_create_timeout", warnings);
    Ok(RuntimeHandler {
        path,
        root: table.runtime_root.clone().unwrap_or(usual_root),
        monitor: monitor(&at, &table, runtime, values, search_path)?,
        create_timeout: Duration::from_secs(u64::from(table.container_create_timeout)),
        table,
    })
}

/// The older `conmon*` keys of the runtime table go before those of a handler, as in the reference:
/// minikube writes `conmon_cgroup = "pod"` and means every handler.
fn monitor(
    at: &str,
    table: &Handler,
    runtime: &Runtime,
    values: &Values,
    search_path: &[PathBuf],
) -> Result<Monitor, ConfigError> {
    let set_path = runtime.conmon.clone().or_else(|| table.monitor_path.clone());
    let environment =
        if runtime.conmon_env.is_empty() { &table.monitor_env } else { &runtime.conmon_env };
    let (place, key, text) = if runtime.conmon_cgroup.is_empty() {
        (at, "monitor_cgroup", &table.monitor_cgroup)
    } else {
        (Runtime::TABLE, "conmon_cgroup", &runtime.conmon_cgroup)
    };
    let cgroup = match (runtime.cgroup_manager, text.as_str()) {
        (_, "pod") => MonitorCgroup::Pod,
        // The second is the default of packages' files, written for systemd.
        (CgroupManager::Cgroupfs, "" | "system.slice") => MonitorCgroup::Node,
        (CgroupManager::Systemd, "") => MonitorCgroup::Slice("system.slice".to_owned()),
        (CgroupManager::Systemd, slice) if is_slice(slice) => {
            MonitorCgroup::Slice(slice.to_owned())
        }
        (manager, _) => {
            let wanted = match manager {
                CgroupManager::Systemd => {
                    "\"pod\" or a systemd slice with cgroup_manager \"systemd\""
                }
                CgroupManager::Cgroupfs => "\"pod\" or \"\" with cgroup_manager \"cgroupfs\"",
            };
            return Err(values.fault(place, key, &Value::Text(text.clone()), wanted));
        }
    };
    let path = set_path.or_else(|| find("conmon", search_path));
    Ok(Monitor { path, cgroup, environment: environment.clone() })
}

/// systemd.slice(5): a unit's name, which is no path.
fn is_slice(name: &str) -> bool {
    let clean = |letter: char| letter.is_ascii_alphanumeric() || "-_.:@\\".contains(letter);
    name.strip_suffix(".slice").is_some_and(|stem| !stem.is_empty() && stem.chars().all(clean))
}

/// The first executable file of this name.
fn find(program: &str, search_path: &[PathBuf]) -> Option<PathBuf> {
    if program.is_empty() || program.contains('/') {
        return None;
    }
    search_path.iter().map(|directory| directory.join(program)).find(|path| is_program(path))
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path)
        .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

impl RuntimeHandler {
    /// Why this handler cannot be used on this node, if it cannot.
    #[must_use]
    pub fn unusable(&self) -> Option<String> {
        let program = |path: &Option<PathBuf>, what: &str, key: &str| match path {
            None => Some(format!("there is no {what} in $PATH; install it or set {key}")),
            Some(path) if !is_program(path) => {
                Some(format!("{key} {} is no program", path.display()))
            }
            Some(_) => None,
        };
        if self.table.runtime_type != RuntimeType::Oci {
            return Some("only runtime_type \"oci\" is built".to_owned());
        }
        program(&self.path, "runtime of this name", "runtime_path")
            .or_else(|| program(&self.monitor.path, "conmon", "monitor_path"))
    }
}
