//! Which system calls a container may make.
//!
//! A profile is a file in the form that podman and docker use: rules that hold or do not, by the
//! container's capabilities and the machine. Here it becomes the flat list of the runtime. The
//! built-in one is a table (`seccomp_default.json`): that of containers/common, with the calls that
//! make namespaces kept for `CAP_SYS_ADMIN`, as CRI-O has it.
//!
//! A profile that is not fully understood is refused: a rule that is skipped may be the one that
//! was to protect.

use oci_spec::runtime::Arch;
use oci_spec::runtime::Capabilities;
use oci_spec::runtime::LinuxSeccomp;
use oci_spec::runtime::LinuxSeccompAction;
use oci_spec::runtime::LinuxSeccompArg;
use oci_spec::runtime::LinuxSeccompFilterFlag;
use oci_spec::runtime::LinuxSyscall;
use serde::Deserialize;

use crate::model::security::SecurityProfile;
use crate::oci::strict_json;
use crate::spec::capabilities;
use crate::spec::error::SpecError;
use crate::spec::facts::ContainerFacts;

/// The most bytes of a profile that are read.
pub const LARGEST_PROFILE: usize = 1 << 20;

const BUILTIN: &[u8] = include_bytes!("seccomp_default.json");

/// A profile that was read and understood.
#[derive(Debug, Clone)]
pub struct Profile {
    name: String,
    document: Document,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Document {
    default_action: Option<LinuxSeccompAction>,
    default_errno_ret: Option<u32>,
    default_errno: String,
    architectures: Vec<Arch>,
    arch_map: Vec<Machine>,
    syscalls: Vec<Rule>,
    flags: Vec<LinuxSeccompFilterFlag>,
    listener_path: String,
    listener_metadata: String,
    #[serde(rename = "comment")]
    _comment: serde::de::IgnoredAny,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Machine {
    architecture: Arch,
    #[serde(default)]
    sub_architectures: Option<Vec<Arch>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    #[serde(default)]
    name: String,
    #[serde(default)]
    names: Vec<String>,
    action: LinuxSeccompAction,
    #[serde(default)]
    args: Option<Vec<LinuxSeccompArg>>,
    #[serde(default)]
    includes: Condition,
    #[serde(default)]
    excludes: Condition,
    #[serde(default)]
    errno_ret: Option<u32>,
    #[serde(default)]
    errno: String,
    #[serde(default, rename = "comment")]
    _comment: serde::de::IgnoredAny,
    #[serde(default, rename = "priority")]
    _priority: serde::de::IgnoredAny,
}

/// When a rule holds. Docker's `minKernel` names kernels long gone and is passed over.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Condition {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    #[serde(rename = "minKernel")]
    _min_kernel: serde::de::IgnoredAny,
}

impl Profile {
    /// Reads a profile; `name` is its path, for messages.
    ///
    /// # Errors
    ///
    /// [`SpecError::TooLarge`], [`SpecError::SeccompJson`] for what is no profile, has an unknown
    /// field or one twice, and [`SpecError::Seccomp`] for one that contradicts itself.
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Self, SpecError> {
        if bytes.len() > LARGEST_PROFILE {
            let (size, most) = (bytes.len(), LARGEST_PROFILE);
            return Err(SpecError::TooLarge { what: "the seccomp profile", size, most });
        }
        let document: Document = strict_json::parse(bytes)
            .map_err(|source| SpecError::SeccompJson { name: name.to_owned(), source })?;
        let profile = Self { name: name.to_owned(), document };
        profile.check()?;
        Ok(profile)
    }

    /// Reads a profile that nobody on this node wrote. It may say which calls there are, and
    /// not whom on this node the runtime is to talk to about them.
    ///
    /// # Errors
    ///
    /// As [`Profile::parse`].
    pub fn parse_foreign(name: &str, bytes: &[u8]) -> Result<Self, SpecError> {
        let profile = Self::parse(name, bytes)?;
        let Document { listener_path, listener_metadata, .. } = &profile.document;
        for value in [listener_path, listener_metadata] {
            if !value.is_empty() {
                return Err(profile.fault("it may not name a listener", value));
            }
        }
        Ok(profile)
    }

    /// The profile that this program carries.
    #[must_use]
    pub fn builtin() -> Self {
        // It is part of the program and a test reads it; were it broken, nothing would be allowed.
        Self::parse("builtin", BUILTIN).unwrap_or_else(|_| Self {
            name: "builtin".to_owned(),
            document: Document {
                default_action: Some(LinuxSeccompAction::ScmpActErrno),
                ..Document::default()
            },
        })
    }

    fn fault(&self, fault: &'static str, value: &str) -> SpecError {
        let value = value.chars().take(128).collect();
        SpecError::Seccomp { name: self.name.clone(), fault, value }
    }

    fn check(&self) -> Result<(), SpecError> {
        let document = &self.document;
        if document.default_action.is_none() {
            return Err(self.fault("there is no default action", ""));
        }
        if !document.architectures.is_empty() && !document.arch_map.is_empty() {
            return Err(self.fault("use either", "architectures, archMap"));
        }
        errno(&document.default_errno).map_err(|value| self.fault("unknown errno", &value))?;
        for rule in &document.syscalls {
            errno(&rule.errno).map_err(|value| self.fault("unknown errno", &value))?;
            if rule.name.is_empty() == rule.names.is_empty() {
                return Err(self.fault("use either name or names", &rule.name));
            }
            let caps = [&rule.includes.caps, &rule.excludes.caps];
            let unknown =
                caps.into_iter().flatten().flatten().find(|c| capabilities::parse(c).is_none());
            if let Some(unknown) = unknown {
                return Err(self.fault("unknown capability", unknown));
            }
        }
        Ok(())
    }

    /// Gives the list for a container with these capabilities on this machine.
    ///
    /// # Errors
    ///
    /// [`SpecError::Seccomp`] for an unknown name of an error number.
    pub fn flatten(
        &self,
        capabilities: &Capabilities,
        machine: Architecture,
    ) -> Result<LinuxSeccomp, SpecError> {
        let document = &self.document;
        let number = |name: &str, number| match errno(name) {
            Ok(found) => Ok(found.or(number)),
            Err(value) => Err(self.fault("unknown errno", &value)),
        };
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let mut seccomp = LinuxSeccomp::default();
        seccomp
            .set_default_action(document.default_action.unwrap_or(LinuxSeccompAction::ScmpActErrno))
            .set_default_errno_ret(number(&document.default_errno, document.default_errno_ret)?)
            .set_flags((!document.flags.is_empty()).then(|| document.flags.clone()))
            .set_listener_path(some(&document.listener_path).map(Into::into))
            .set_listener_metadata(some(&document.listener_metadata))
            .set_architectures(Some(self.architectures(machine)).filter(|list| !list.is_empty()));
        let mut calls = Vec::new();
        for rule in document.syscalls.iter().filter(|rule| rule.holds(capabilities, machine)) {
            let mut call = LinuxSyscall::default();
            call.set_names(rule.all_names())
                .set_action(rule.action)
                .set_errno_ret(number(&rule.errno, rule.errno_ret)?)
                .set_args(rule.args.clone().filter(|args| !args.is_empty()));
            calls.push(call);
        }
        seccomp.set_syscalls(Some(calls));
        Ok(seccomp)
    }

    fn architectures(&self, machine: Architecture) -> Vec<Arch> {
        let document = &self.document;
        let own = document.arch_map.iter().find(|own| Some(own.architecture) == machine.seccomp);
        let mapped = own.into_iter().flat_map(|own| {
            let subordinate = own.sub_architectures.iter().flatten().copied();
            std::iter::once(own.architecture).chain(subordinate)
        });
        document.architectures.iter().copied().chain(mapped).collect()
    }
}

impl Rule {
    fn holds(&self, capabilities: &Capabilities, machine: Architecture) -> bool {
        let has = |name: &String| {
            capabilities::parse(name).is_some_and(|capability| capabilities.contains(&capability))
        };
        let here = |arches: &Vec<String>| arches.iter().any(|arch| arch == machine.name);
        let included = self.includes.caps.iter().flatten().all(has)
            && self.includes.arches.as_ref().is_none_or(|list| list.is_empty() || here(list));
        let excluded = self.excludes.caps.iter().flatten().any(has)
            || self.excludes.arches.as_ref().is_some_and(here);
        included && !excluded
    }

    fn all_names(&self) -> Vec<String> {
        if self.name.is_empty() { self.names.clone() } else { vec![self.name.clone()] }
    }
}

/// A machine, by the name in profiles and by the filter's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Architecture {
    name: &'static str,
    seccomp: Option<Arch>,
}

impl Architecture {
    /// The machine this program was built for.
    #[must_use]
    pub fn own() -> Self {
        Self::named(std::env::consts::ARCH)
    }

    /// The machine with the compiler's name `name`.
    #[must_use]
    pub fn named(name: &str) -> Self {
        let (name, seccomp) = match name {
            "x86_64" => ("amd64", Some(Arch::ScmpArchX86_64)),
            "x86" => ("x86", Some(Arch::ScmpArchX86)),
            "aarch64" => ("arm64", Some(Arch::ScmpArchAarch64)),
            "arm" => ("arm", Some(Arch::ScmpArchArm)),
            "powerpc64" => ("ppc64le", Some(Arch::ScmpArchPpc64le)),
            "s390x" => ("s390x", Some(Arch::ScmpArchS390x)),
            "riscv64" => ("riscv64", Some(Arch::ScmpArchRiscv64)),
            "loongarch64" => ("loong64", Some(Arch::ScmpArchLoongarch64)),
            _ => ("", None),
        };
        Self { name, seccomp }
    }
}

/// Reads an error number or the name of one; empty is none.
fn errno(name: &str) -> Result<Option<u32>, String> {
    // The names are those that profiles in the field use; numbers are the kernel's own and the
    // same on every machine for these.
    let known = [
        ("EPERM", 1),
        ("ENOENT", 2),
        ("ESRCH", 3),
        ("EINTR", 4),
        ("EIO", 5),
        ("EBADF", 9),
        ("EAGAIN", 11),
        ("ENOMEM", 12),
        ("EACCES", 13),
        ("EBUSY", 16),
        ("EEXIST", 17),
        ("ENODEV", 19),
        ("EINVAL", 22),
        ("ENOTTY", 25),
        ("ENOSYS", 38),
        ("EAFNOSUPPORT", 97),
        ("EOPNOTSUPP", 95),
        ("ENOTSUP", 95),
    ];
    if name.is_empty() {
        return Ok(None);
    }
    let found = known.iter().find(|(text, _)| *text == name).map(|(_, number)| *number);
    found.or_else(|| name.parse().ok().filter(|n| *n < 4096)).map(Some).ok_or(name.to_owned())
}

/// What a container gets, and the words for it in the annotations.
pub(super) struct Choice {
    pub(super) filter: Option<LinuxSeccomp>,
    pub(super) reference: String,
}

/// Chooses: privileged and unset are unconfined; the handler's profile stands for the node's.
pub(super) fn container(
    facts: &ContainerFacts<'_>,
    bounding: &Capabilities,
) -> Result<Choice, SpecError> {
    let host = facts.host.seccomp;
    let unconfined = |reference: &str| Choice { filter: None, reference: reference.to_owned() };
    let filtered = |profile: &Profile, reference: &str| {
        let filter = profile.flatten(bounding, Architecture::own())?;
        Ok(Choice { filter: Some(filter), reference: reference.to_owned() })
    };
    if facts.config.security.privileged {
        return match &facts.defaults.privileged_seccomp {
            Some(profile) if host => filtered(profile, &profile.name),
            _ => Ok(unconfined("Unconfined")),
        };
    }
    if let Some((reference, bytes)) = facts.seccomp_artifact
        && facts.config.security.seccomp.leaves_it_open()
    {
        let profile = Profile::parse_foreign(reference, bytes)?;
        // As with CRI-O, the path of a profile is empty for one that is no file.
        return if host {
            filtered(&profile, "")
        } else {
            Err(SpecError::HostLacks { what: "seccomp" })
        };
    }
    match &facts.config.security.seccomp {
        SecurityProfile::Unset => Ok(unconfined("")),
        SecurityProfile::Unconfined => Ok(unconfined("Unconfined")),
        // Kubernetes asks for the default everywhere; a kernel without filters runs it all the same.
        SecurityProfile::RuntimeDefault if !host => Ok(unconfined("Unconfined")),
        SecurityProfile::RuntimeDefault => {
            let profile = facts.handler.seccomp.as_ref().unwrap_or(&facts.defaults.seccomp);
            filtered(profile, "RuntimeDefault")
        }
        SecurityProfile::Localhost(_) if !host => Err(SpecError::HostLacks { what: "seccomp" }),
        SecurityProfile::Localhost(path) => {
            let bytes = facts
                .seccomp_profile
                .ok_or_else(|| SpecError::field("seccomp localhost_ref", path, "was not read"))?;
            filtered(&Profile::parse(path, bytes)?, path)
        }
    }
}

#[cfg(test)]
mod tests;
