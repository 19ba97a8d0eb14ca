//! The process: what is run, where, with which environment and limits; and processes added later.

use oci_spec::runtime::PosixRlimit;
use oci_spec::runtime::PosixRlimitBuilder;
use oci_spec::runtime::PosixRlimitType;
use oci_spec::runtime::Process;
use oci_spec::runtime::Spec;
use oci_spec::runtime::User;

use crate::model::container::ContainerConfig;
use crate::oci::image_config::RunConfig;
use crate::spec::apparmor;
use crate::spec::capabilities;
use crate::spec::error::SpecError;
use crate::spec::facts::ContainerFacts;
use crate::spec::facts::HostFacts;
use crate::spec::paths;
use crate::spec::user::ResolvedUser;
use crate::spec::wishes;

/// The search path where nobody says another.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The names of limits, as `ulimit` and the runtime spell them.
const LIMITS: [(&str, PosixRlimitType); 16] = [
    ("as", PosixRlimitType::RlimitAs),
    ("core", PosixRlimitType::RlimitCore),
    ("cpu", PosixRlimitType::RlimitCpu),
    ("data", PosixRlimitType::RlimitData),
    ("fsize", PosixRlimitType::RlimitFsize),
    ("locks", PosixRlimitType::RlimitLocks),
    ("memlock", PosixRlimitType::RlimitMemlock),
    ("msgqueue", PosixRlimitType::RlimitMsgqueue),
    ("nice", PosixRlimitType::RlimitNice),
    ("nofile", PosixRlimitType::RlimitNofile),
    ("nproc", PosixRlimitType::RlimitNproc),
    ("rss", PosixRlimitType::RlimitRss),
    ("rtprio", PosixRlimitType::RlimitRtprio),
    ("rttime", PosixRlimitType::RlimitRttime),
    ("sigpending", PosixRlimitType::RlimitSigpending),
    ("stack", PosixRlimitType::RlimitStack),
];

/// One limit of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ulimit {
    /// Which.
    pub kind: PosixRlimitType,
    /// What holds.
    pub soft: u64,
    /// How far the process may raise it.
    pub hard: u64,
}

/// Reads `nofile=1024:2048` (soft, then hard), or `nofile=1024` for both; −1 is no limit.
///
/// # Errors
///
/// [`SpecError::Field`] for an unknown name, no number, or a soft limit above the hard one.
pub fn parse_ulimit(text: &str) -> Result<Ulimit, SpecError> {
    let fault = |fault| SpecError::field("default_ulimits", text, fault);
    let (name, values) =
        text.split_once('=').ok_or_else(|| fault("is not of the form name=soft:hard"))?;
    let name = name.trim().to_ascii_lowercase();
    let kind = LIMITS.iter().find(|(known, _)| *known == name);
    let (_, kind) = kind.ok_or_else(|| fault("names no limit"))?;
    let value = |text: &str| match text.trim() {
        "-1" | "unlimited" => Ok(u64::MAX),
        number => number.parse().map_err(|_| fault("has a limit that is no number")),
    };
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let limit = Ulimit { kind: *kind, soft: value(soft)?, hard: value(hard)? };
    if limit.soft > limit.hard {
        return Err(fault("has a soft limit above the hard one"));
    }
    Ok(limit)
}

/// Gives what is run.
///
/// A command of the request takes the place of the image's entrypoint and of its cmd; arguments
/// alone take the place of the cmd.
///
/// # Errors
///
/// [`SpecError::NoCommand`] when nothing is left, [`SpecError::Field`] for a NUL in an argument.
pub fn arguments(config: &ContainerConfig, image: &RunConfig) -> Result<Vec<String>, SpecError> {
    let of_image = |part: &Option<Vec<String>>| part.clone().unwrap_or_default();
    let mut words = config.command.clone();
    if config.command.is_empty() {
        words = of_image(&image.entrypoint);
        if config.args.is_empty() {
            words.extend(of_image(&image.cmd));
        }
    }
    words.extend(config.args.iter().cloned());
    if let Some(word) = words.iter().find(|word| word.contains('\0')) {
        return Err(SpecError::field("command", word, "has a NUL character"));
    }
    match words.first() {
        Some(program) if !program.is_empty() => Ok(words),
        _ => Err(SpecError::NoCommand),
    }
}

/// Whether the container runs systemd, which needs mounts of its own.
#[must_use]
pub fn runs_systemd(arguments: &[String]) -> bool {
    arguments.first().is_some_and(|program| {
        program.contains("/sbin/init") || program.rsplit('/').next() == Some("systemd")
    })
}

/// Gives the environment, in order, each name once.
///
/// Later ones win: our own, the configuration's, the image's, the request's.
///
/// # Errors
///
/// [`SpecError::Field`] for a name or value that no environment can hold.
pub fn environment(facts: &ContainerFacts<'_>) -> Result<Vec<(String, String)>, SpecError> {
    let config = facts.config;
    let mut env = Vec::new();
    let arguments = arguments(config, facts.image.run)?;
    set(&mut env, "PATH", PATH)?;
    // Without a terminal of its own too: a shell that is run in it with one takes this over.
    set(&mut env, "TERM", "xterm")?;
    if !facts.sandbox.hostname.is_empty() {
        set(&mut env, "HOSTNAME", facts.sandbox.hostname)?;
    }
    if runs_systemd(&arguments) {
        set(&mut env, "container", "crio")?;
    }
    for (name, value) in &facts.defaults.env {
        set(&mut env, name, value)?;
    }
    for (name, value) in image_environment(facts.image.run) {
        set(&mut env, name, value)?;
    }
    for (name, value) in &config.env {
        set(&mut env, name, value)?;
    }
    Ok(env)
}

fn image_environment(image: &RunConfig) -> impl Iterator<Item = (&str, &str)> {
    image.env.iter().flatten().filter_map(|entry| entry.split_once('='))
}

fn set(env: &mut Vec<(String, String)>, name: &str, value: &str) -> Result<(), SpecError> {
    if name.is_empty() {
        return Ok(());
    }
    if name.contains(['=', '\0']) {
        return Err(SpecError::field("env", name, "is no name of a variable"));
    }
    if value.contains('\0') {
        return Err(SpecError::field("env", name, "has a NUL character in its value"));
    }
    match env.iter_mut().find(|(known, _)| known == name) {
        Some((_, old)) => value.clone_into(old),
        None => env.push((name.to_owned(), value.to_owned())),
    }
    Ok(())
}

/// Gives the home directory that the environment sets, if it does: a line in `/etc/passwd` needs it.
///
/// # Errors
///
/// [`SpecError::Field`] for a control character. A newline would add a line, and so a user, to
/// the file (CVE-2022-4318, CVE-2026-15809).
pub fn home(
    config: &ContainerConfig,
    image: &RunConfig,
    defaults: &[(String, String)],
) -> Result<Option<String>, SpecError> {
    let pairs = |(name, value): &'_ (String, String)| (name == "HOME").then(|| value.clone());
    let mut home = defaults.iter().filter_map(pairs).next_back();
    if let Some((_, value)) = image_environment(image).filter(|(name, _)| *name == "HOME").last() {
        home = Some(value.to_owned());
    }
    home = config.env.iter().filter_map(pairs).next_back().or(home);
    match home {
        Some(text) if text.chars().any(char::is_control) => {
            Err(SpecError::field("HOME", &text, "has a control character"))
        }
        home => Ok(home.filter(|text| !text.is_empty())),
    }
}

/// Gives the directory to start in: the request's, the image's, or the root.
///
/// # Errors
///
/// [`SpecError::Field`] for a control character, and for a path through what some process has
/// open, which may lead out of the container (CVE-2024-21626).
pub fn directory(config: &ContainerConfig, image: &RunConfig) -> Result<String, SpecError> {
    let asked =
        if config.working_dir.is_empty() { &image.working_dir } else { &config.working_dir };
    let directory = paths::clean("working_dir", &format!("/{asked}"))?;
    let of_process = directory.strip_prefix("/proc/").is_some_and(|rest| {
        rest.starts_with(|first: char| first.is_ascii_digit())
            || paths::covers("self", rest)
            || paths::covers("thread-self", rest)
    });
    if of_process || paths::covers("/dev/fd", &directory) {
        return Err(SpecError::field("working_dir", &directory, "leads into a process"));
    }
    Ok(directory)
}

/// Gives the limits of a process, none above what this daemon may set.
#[must_use]
fn limits(wanted: &[Ulimit], host: &HostFacts) -> Vec<Ulimit> {
    let clamp = |limit: &Ulimit| {
        let most = host.hard_limits.iter().find(|most| most.kind == limit.kind);
        let most = most.map_or(u64::MAX, |most| most.hard);
        Ulimit { kind: limit.kind, soft: limit.soft.min(most), hard: limit.hard.min(most) }
    };
    wanted.iter().map(clamp).collect()
}

fn write_limit(limit: &Ulimit) -> Result<PosixRlimit, SpecError> {
    PosixRlimitBuilder::default()
        .typ(limit.kind)
        .soft(limit.soft)
        .hard(limit.hard)
        .build()
        .map_err(|source| SpecError::Build { part: "a process limit", source })
}

/// Gives the score that the kernel's memory killer sees, raised to what this daemon may set.
#[must_use]
fn oom_score(wanted: i64, host: &HostFacts) -> i32 {
    let wanted = i32::try_from(wanted.clamp(-1000, 1000)).unwrap_or_default();
    host.oom_score_floor.map_or(wanted, |floor| wanted.max(floor))
}

fn user(who: &ResolvedUser, umask: Option<u32>) -> User {
    let mut user = User::default();
    user.set_uid(who.uid).set_gid(who.gid);
    user.set_additional_gids(Some(who.additional_gids.clone())).set_umask(umask);
    user
}

/// Makes the process of a container.
pub(super) fn container(facts: &ContainerFacts<'_>) -> Result<Process, SpecError> {
    let (config, host) = (facts.config, facts.host);
    let bounding = if config.security.privileged {
        capabilities::privileged(host)
    } else {
        capabilities::set(&facts.defaults.capabilities, &config.security.capabilities, host)?
    };
    let ambient = capabilities::ambient(&bounding, &config.security.capabilities, host)?;
    let sets = capabilities::write(&bounding, ambient, facts.defaults.inheritable)?;
    home(config, facts.image.run, &facts.defaults.env)?;
    let pod = &facts.sandbox.config.annotations;
    let umask = wishes::UMASK.of(pod, &facts.handler.allowed_annotations);
    let umask = umask.map(wishes::umask).transpose()?;
    let env = environment(facts)?.into_iter().map(|(name, value)| format!("{name}={value}"));
    let limits = limits(&facts.defaults.ulimits, host);
    let limits = limits.iter().map(write_limit).collect::<Result<Vec<_>, _>>()?;
    // The library's default process has capabilities, limits and a shell of its own: every field
    // that it fills is set here.
    let mut process = Process::default();
    process
        .set_terminal(Some(config.tty))
        .set_user(user(facts.user, umask))
        .set_args(Some(arguments(config, facts.image.run)?))
        .set_env(Some(env.collect()))
        .set_cwd(directory(config, facts.image.run)?.into())
        .set_capabilities(Some(sets))
        .set_rlimits((!limits.is_empty()).then_some(limits))
        .set_no_new_privileges(Some(config.security.no_new_privs))
        .set_oom_score_adj(Some(oom_score(config.resources.oom_score_adj, host)))
        .set_apparmor_profile(apparmor::wanted(
            &facts.config.security,
            &facts.defaults.apparmor,
            facts.host.apparmor,
        )?);
    Ok(process)
}

/// Makes a further process in a container: same user, environment and rights, another command.
///
/// # Errors
///
/// [`SpecError::NoCommand`] without a command; [`SpecError::Field`] for a NUL in it.
pub fn exec(base: &Spec, command: Vec<String>, tty: bool) -> Result<Process, SpecError> {
    if command.first().is_none_or(String::is_empty) {
        return Err(SpecError::NoCommand);
    }
    if let Some(word) = command.iter().find(|word| word.contains('\0')) {
        return Err(SpecError::field("command", word, "has a NUL character"));
    }
    // Without a process in the spec nothing says which rights to give, and the library's default
    // has some: a container of ours always has one.
    let mut process = base.process().clone().ok_or(SpecError::NoCommand)?;
    process.set_args(Some(command)).set_terminal(Some(tty));
    Ok(process)
}

#[cfg(test)]
mod tests;
