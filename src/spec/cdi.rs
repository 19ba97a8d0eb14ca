//! CDI: what a device of a vendor changes in a container (Container Device Interface, 0.3 to 1.0).
//!
//! A specification is a file that an administrator, or a vendor's program that runs as root, puts
//! on the node; a request only names devices in it. It is parsed strictly all the same: a field
//! that is not known would be an edit that is not made, and the container would run without it.
//!
//! Pure: reading files, and looking at devices, is `container`'s. Not here: `intelRdt` and
//! `netDevices`, which are refused as unknown fields.

use oci_spec::runtime::MountBuilder;
use oci_spec::runtime::Spec;
use serde::Deserialize;

use crate::spec::error::SpecError;
use crate::spec::hooks::Program;
use crate::spec::paths;

/// The versions that are understood.
const VERSIONS: [&str; 7] = ["0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0"];

/// One specification file.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CdiSpec {
    /// The version of its format.
    pub cdi_version: String,
    /// `vendor/class`.
    pub kind: String,
    /// Free text; not used.
    #[serde(default)]
    pub annotations: std::collections::BTreeMap<String, String>,
    /// The devices.
    #[serde(default)]
    pub devices: Vec<CdiDevice>,
    /// What any of its devices changes.
    #[serde(default)]
    pub container_edits: Edits,
}

/// A device of a specification.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CdiDevice {
    /// Its name.
    pub name: String,
    /// Free text; not used.
    #[serde(default)]
    pub annotations: std::collections::BTreeMap<String, String>,
    /// What it changes.
    #[serde(default)]
    pub container_edits: Edits,
}

/// Changes of a container.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Edits {
    /// `NAME=value` texts; they override those of image and pod.
    pub env: Vec<String>,
    /// Devices of the node.
    pub device_nodes: Vec<DeviceNode>,
    /// Mounts.
    pub mounts: Vec<CdiMount>,
    /// Programs that the runtime runs.
    pub hooks: Vec<CdiHook>,
    /// More groups of the process.
    #[serde(alias = "additionalGIDs")]
    pub additional_gids: Vec<u32>,
}

/// A device of the node; what is not given is as on the node.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DeviceNode {
    /// Where it shows.
    pub path: String,
    /// Where it is on the node; empty is the same path.
    pub host_path: String,
    /// `b`, `c`, `u` or `p`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Major number.
    pub major: Option<i64>,
    /// Minor number.
    pub minor: Option<i64>,
    /// Permission bits.
    pub file_mode: Option<u32>,
    /// Some of `rwm`; empty is all.
    pub permissions: String,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
}

/// A mount.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CdiMount {
    /// On the node.
    pub host_path: String,
    /// In the container.
    pub container_path: String,
    /// As in fstab.
    pub options: Vec<String>,
    /// The filesystem; empty is what the options say.
    #[serde(rename = "type")]
    pub kind: String,
}

/// A program that the runtime runs.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CdiHook {
    /// When.
    pub hook_name: String,
    /// The program.
    pub path: String,
    /// Its arguments, its name first.
    pub args: Vec<String>,
    /// Its environment.
    pub env: Vec<String>,
    /// Seconds.
    pub timeout: Option<i64>,
}

/// A specification, and how much its directory counts: a later directory counts more.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// Its place in the list of directories.
    pub priority: usize,
    /// What it says.
    pub spec: CdiSpec,
}

/// Reads a specification; YAML is read when `yaml` says so, JSON otherwise.
///
/// # Errors
///
/// What is wrong with it, for an administrator.
pub fn parse(text: &str, yaml: bool) -> Result<CdiSpec, String> {
    let spec: CdiSpec = if yaml {
        serde_saphyr::from_str(text).map_err(|error| error.to_string())?
    } else {
        serde_json::from_str(text).map_err(|error| error.to_string())?
    };
    if !VERSIONS.contains(&spec.cdi_version.as_str()) {
        return Err(format!("cdiVersion {:?} is not known", spec.cdi_version));
    }
    let legal = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.:".contains(&b))
    };
    if !spec.kind.split_once('/').is_some_and(|(vendor, class)| legal(vendor) && legal(class)) {
        return Err(format!("kind {:?} is not vendor/class", spec.kind));
    }
    let mut names = std::collections::BTreeSet::new();
    for device in &spec.devices {
        if !legal(&device.name) || !names.insert(&device.name) {
            return Err(format!("device name {:?} is illegal, or there twice", device.name));
        }
    }
    Ok(spec)
}

/// The device names in the annotations of the device plugins, `cdi.k8s.io/<plugin>`.
#[must_use]
pub fn annotated(annotations: &std::collections::BTreeMap<String, String>) -> Vec<String> {
    let ours = annotations.iter().filter(|(key, _)| key.starts_with("cdi.k8s.io/"));
    ours.flat_map(|(_, names)| names.split(',').map(str::to_owned)).collect()
}

/// The edits of the devices of these names, in their order; those of a specification once.
///
/// # Errors
///
/// [`SpecError::UnknownCdiDevices`] names all that are in no specification, or in two of
/// directories that count the same.
pub fn edits(loaded: &[Loaded], wanted: &[String]) -> Result<Vec<Edits>, SpecError> {
    let (mut edits, mut unknown, mut used, mut seen) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for name in wanted {
        if seen.contains(&name) {
            continue;
        }
        seen.push(name);
        let Some((place, device)) = find(loaded, name) else {
            unknown.push(name.clone());
            continue;
        };
        if !used.contains(&place) {
            used.push(place);
            edits.extend(loaded.get(place).map(|found| found.spec.container_edits.clone()));
        }
        edits.push(device.container_edits.clone());
    }
    if unknown.is_empty() {
        return Ok(edits);
    }
    Err(SpecError::UnknownCdiDevices { names: unknown.join(", ") })
}

fn find<'a>(loaded: &'a [Loaded], name: &str) -> Option<(usize, &'a CdiDevice)> {
    let (kind, device) = name.split_once('=')?;
    let of = |(place, found): (usize, &'a Loaded)| {
        let devices = (found.spec.kind == kind).then_some(&found.spec.devices)?;
        let device = devices.iter().find(|known| known.name == device)?;
        Some((found.priority, place, device))
    };
    let all: Vec<_> = loaded.iter().enumerate().filter_map(of).collect();
    let best = all.iter().map(|(priority, ..)| *priority).max()?;
    let mut chosen = all.into_iter().filter(|(priority, ..)| *priority == best);
    let (_, place, device) = chosen.next()?;
    // Two files that count the same: nobody can say which is meant.
    chosen.next().is_none().then_some((place, device))
}

/// Makes the changes that are not devices.
pub(super) fn apply(spec: &mut Spec, edits: &[Edits]) -> Result<(), SpecError> {
    for edit in edits {
        process(spec, edit)?;
        mounts(spec, edit)?;
        hooks(spec, edit)?;
    }
    Ok(())
}

fn process(spec: &mut Spec, edit: &Edits) -> Result<(), SpecError> {
    let mut process = spec.process().clone().unwrap_or_default();
    let mut env = process.env().clone().unwrap_or_default();
    for text in &edit.env {
        let named = text.split_once('=').filter(|(name, _)| !name.is_empty());
        let (name, _) = named
            .filter(|_| !text.contains('\0'))
            .ok_or_else(|| SpecError::field("CDI env", text, "is not NAME=value"))?;
        env.retain(|known| known.split_once('=').is_none_or(|(known, _)| known != name));
        env.push(text.clone());
    }
    let mut user = process.user().clone();
    let mut groups = user.additional_gids().clone().unwrap_or_default();
    for gid in edit.additional_gids.iter().filter(|gid| **gid != 0) {
        if !groups.contains(gid) {
            groups.push(*gid);
        }
    }
    user.set_additional_gids(Some(groups));
    process.set_env(Some(env)).set_user(user);
    spec.set_process(Some(process));
    Ok(())
}

fn mounts(spec: &mut Spec, edit: &Edits) -> Result<(), SpecError> {
    let mut all = spec.mounts().clone().unwrap_or_default();
    for mount in &edit.mounts {
        let target = paths::clean("CDI mount containerPath", &mount.container_path)?;
        if target == "/" {
            return Err(SpecError::field("CDI mount containerPath", "/", "would hide the image"));
        }
        let mut options = mount.options.clone();
        let bound = options.iter().any(|option| matches!(option.as_str(), "bind" | "rbind"));
        if mount.kind.is_empty() && !bound {
            options.push("rbind".to_owned());
        }
        let made = MountBuilder::default()
            .destination(target.as_str())
            .typ(if mount.kind.is_empty() { "bind" } else { &mount.kind })
            .source(mount.host_path.as_str())
            .options(options)
            .build()
            .map_err(|source| SpecError::Build { part: "a CDI mount", source })?;
        all.retain(|known| known.destination() != made.destination());
        all.push(made);
    }
    spec.set_mounts(Some(all));
    Ok(())
}

fn hooks(spec: &mut Spec, edit: &Edits) -> Result<(), SpecError> {
    for hook in &edit.hooks {
        if !hook.path.starts_with('/') {
            return Err(SpecError::field("CDI hook path", &hook.path, "is no absolute path"));
        }
        let name = serde_json::Value::String(hook.hook_name.clone());
        let stage = serde_json::from_value(name);
        let stage =
            stage.map_err(|_| SpecError::field("CDI hookName", &hook.hook_name, "is no hook"))?;
        let program = Program {
            path: hook.path.clone(),
            args: hook.args.clone(),
            env: hook.env.clone(),
            timeout: hook.timeout,
        };
        crate::spec::hooks::add(spec, stage, &program)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{"cdiVersion":"0.6.0","kind":"vendor.example/gpu","devices":[
        {"name":"0","containerEdits":{"env":["GPU=0"]}}],"containerEdits":{"env":["ALL=1"]}}"#;

    fn loaded(priority: usize, text: &str) -> Loaded {
        Loaded { priority, spec: parse(text, false).unwrap() }
    }

    #[test]
    fn json_and_yaml_say_the_same_and_what_is_unknown_is_refused() {
        let yaml = "cdiVersion: \"0.6.0\"\nkind: vendor.example/gpu\ndevices:\n- name: \"0\"\n  \
                    containerEdits:\n    env:\n    - GPU=0\ncontainerEdits:\n  env: [ALL=1]\n";
        assert_eq!(parse(yaml, true).unwrap(), parse(TEXT, false).unwrap());
        for wrong in [
            TEXT.replace("0.6.0", "9.0.0"),
            TEXT.replace("vendor.example/gpu", "gpu"),
            TEXT.replace("\"env\"", "\"evn\""),
            TEXT.replace("\"name\":\"0\"", "\"name\":\"../x\""),
        ] {
            assert!(parse(&wrong, false).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_later_directory_wins_and_equals_are_a_conflict() {
        let wanted = ["vendor.example/gpu=0".to_owned()];
        let other = TEXT.replace("GPU=0", "GPU=new");
        let found = edits(&[loaded(0, TEXT), loaded(1, &other)], &wanted).unwrap();
        assert_eq!(
            (found[0].env.as_slice(), found[1].env.as_slice()),
            (["ALL=1".to_owned()].as_slice(), ["GPU=new".to_owned()].as_slice(),)
        );
        let conflict = edits(&[loaded(0, TEXT), loaded(0, &other)], &wanted).unwrap_err();
        assert!(conflict.to_string().contains("vendor.example/gpu=0"), "{conflict}");
        let unknown = ["vendor.example/gpu=7".to_owned(), "nonsense".to_owned()];
        let error = edits(&[loaded(0, TEXT)], &unknown).unwrap_err().to_string();
        assert!(error.contains("gpu=7, nonsense"), "{error}");
    }
}
