//! What of the configuration can change while the daemon runs: worked out at the start, and again at
//! each reload. Whatever can fail of it fails here, before anything is changed.

use std::collections::BTreeMap;

use crate::audit::Audit;
use crate::catalog::Pinned;
use crate::config::CgroupManager;
use crate::config::Config;
use crate::config::Values;
use crate::container;
use crate::cri::node::Node;
use crate::daemon::error::DaemonError;
use crate::daemon::host;
use crate::daemon::protections;
use crate::daemon::settings;
use crate::failure::chain;
use crate::judge;
use crate::judge::Judge;
use crate::metrics::Metrics;
use crate::runtime::Runtime;
use crate::spec::facts::HandlerFacts;
use crate::spec::selinux::Contexts;
use crate::spec::wishes;
use crate::storage::Store;

/// What can change while the daemon runs.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) runtime: Runtime,
    pub(super) container: container::Settings,
    pub(super) policies: judge::Settings,
    pub(super) pinned: Pinned,
    pub(super) node: Node,
    /// What SELinux calls containers. Only a start looks at it.
    pub(super) contexts: Option<Contexts>,
}

/// Works it out. `runtime` is that of this configuration already, and `warnings` are what reading the
/// configuration found.
///
/// # Errors
///
/// [`DaemonError`] of what cannot be used.
pub(super) async fn look(
    (config, values): (&Config, &Values),
    runtime: Runtime,
    store: &Store,
    audit: &Audit,
    mut warnings: Vec<String>,
) -> Result<Live, DaemonError> {
    let (mut host, mut found) = host::look();
    let apparmor = protections::apparmor(config, &host).await?;
    let (contexts, warning) = protections::selinux(config, &mut host);
    found.extend(apparmor.warning.iter().cloned().chain(warning));
    warnings.extend(found.into_iter().inspect(|warning| tracing::warn!("{warning}")));
    warnings.extend(look_at_audit(audit)?);
    let policies = settings::policies(config);
    warnings.extend(look_at_policy(&policies));
    let mut handlers = settings::handlers(config)?;
    let user_namespaces = look_at_handlers(&mut handlers, &runtime, store).await?;
    let recursive_read_only = with_recursive_read_only(&handlers);
    warnings.extend(look_at_hooks(config, &handlers)?);
    let tried = [&policies.dry_run, &policies.dry_run_namespaces];
    let node = Node {
        systemd_cgroups: config.runtime.cgroup_manager == CgroupManager::Systemd,
        handlers: runtime.handlers(),
        recursive_read_only,
        user_namespaces,
        default_handler: config.runtime.default_runtime.clone(),
        pause_image: config.image.pause_image.clone(),
        configuration: crate::config::inspect(config, values),
        policy: policies.global.clone(),
        dry_run: tried.into_iter().flatten().cloned().collect(),
        warnings,
        reload: None,
    };
    Ok(Live {
        runtime,
        container: settings::container(config, handlers, host, apparmor, contexts.as_ref())?,
        policies,
        pinned: settings::pinned(config),
        node,
        contexts,
    })
}

/// Asks the runtimes what they can do; gives the handlers that can give a pod users of its own.
async fn look_at_handlers(
    handlers: &mut BTreeMap<String, HandlerFacts>,
    runtime: &Runtime,
    store: &Store,
) -> Result<Vec<String>, DaemonError> {
    let mut user_namespaces = Vec::new();
    for (name, facts) in handlers {
        let features = runtime.features(name).await?;
        facts.recursive_read_only = features.recursive_read_only_mounts;
        facts.id_mapped_mounts = features.user_namespaces;
        if features.user_namespaces {
            user_namespaces.push(name.clone());
        }
    }
    if !user_namespaces.is_empty()
        && let Err(error) = store.can_map_owners()
    {
        tracing::info!(error = chain(&error), "pods cannot have user namespaces of their own");
        user_namespaces.clear();
    }
    Ok(user_namespaces)
}

/// The handlers whose mounts can be read-only recursively.
fn with_recursive_read_only(handlers: &BTreeMap<String, HandlerFacts>) -> Vec<String> {
    let able = handlers.iter().filter(|(_, facts)| facts.recursive_read_only);
    able.map(|(name, _)| name.clone()).collect()
}

/// Reads the hooks, for a fault is better known now than at the first container; gives the
/// annotations that handlers allow and that mean nothing here.
fn look_at_hooks(
    config: &Config,
    handlers: &BTreeMap<String, HandlerFacts>,
) -> Result<Vec<String>, DaemonError> {
    container::hooks(&config.runtime.hooks_dir).map_err(DaemonError::Hook)?;
    let of = |(name, facts): (&String, &HandlerFacts)| {
        let keys: Vec<&str> = facts
            .allowed_annotations
            .iter()
            .map(String::as_str)
            .filter(|key| wishes::NOT_BUILT.contains(key))
            .collect();
        let keys = (!keys.is_empty()).then(|| keys.join(", "))?;
        Some(format!("runtime handler {name} allows annotations that are not built: {keys}"))
    };
    let warnings: Vec<String> = handlers.iter().filter_map(of).collect();
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    Ok(warnings)
}

/// Says aloud what the policy means for this node, at a time when somebody looks.
fn look_at_policy(policies: &judge::Settings) -> Vec<String> {
    // Nobody is judged: there is nothing to put on record or to count.
    let judge = Judge::new(policies.clone(), Audit::none(), Metrics::default());
    let path = policies.global.display();
    let mut warnings = match judge.policy(None) {
        Err(error) => vec![chain(&error)],
        Ok(policy) => {
            let mut found: Vec<String> =
                policy.faults().iter().map(|fault| format!("the policy {path}: {fault}")).collect();
            if policy.accepts_anything_by_default() {
                found.push(format!(
                    "the policy {path} accepts any image by default; stricter ones are in \
                     /usr/share/crioxide/policy"
                ));
            }
            found
        }
    };
    for directory in policies.namespaces.iter().chain(&policies.dry_run_namespaces) {
        warnings.extend(judge::look_at_namespaces(directory));
    }
    for place in policies.dry_run.iter().chain(&policies.dry_run_namespaces) {
        warnings.push(format!(
            "the policy {} is tried in a dry run: what it would refuse is recorded, and runs",
            place.display()
        ));
    }
    match judge.dry_run(None) {
        Some(Err(error)) => warnings.push(chain(&error)),
        Some(Ok(tried)) => {
            let path = tried.path().display();
            warnings
                .extend(tried.faults().iter().map(|fault| format!("the policy {path}: {fault}")));
        }
        None => {}
    }
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    warnings
}

/// Looks whether the account can be kept; where it must be, there is no daemon without.
fn look_at_audit(audit: &Audit) -> Result<Option<String>, DaemonError> {
    let Err(error) = audit.look() else { return Ok(None) };
    if audit.is_required() {
        return Err(error.into());
    }
    let warning = chain(&error);
    tracing::error!("{warning}");
    Ok(Some(warning))
}
