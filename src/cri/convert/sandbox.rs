//! A sandbox's request from proto.

use crate::cri::api;
use crate::cri::convert::RequestError;
use crate::cri::convert::resources;
use crate::cri::convert::security;
use crate::model::names::SandboxMetadata;
use crate::model::sandbox::DnsConfig;
use crate::model::sandbox::PortMapping;
use crate::model::sandbox::Protocol;
use crate::model::sandbox::SandboxConfig;

/// A checked request for a sandbox.
///
/// # Errors
///
/// [`RequestError`] names the field that is missing or illegal.
pub fn from_proto(
    from: Option<api::PodSandboxConfig>,
    handler: String,
) -> Result<SandboxConfig, RequestError> {
    let from = from.ok_or(RequestError::missing("config"))?;
    let metadata = metadata(from.metadata.as_ref())?;
    if !from.log_directory.is_empty() && !is_clean_absolute(&from.log_directory) {
        return Err(RequestError::illegal("config.log_directory", from.log_directory));
    }
    if from.hostname.len() > 64 || from.hostname.bytes().any(|byte| byte <= b' ' || byte == b'/') {
        return Err(RequestError::illegal("config.hostname", from.hostname));
    }
    let linux = from.linux.unwrap_or_default();
    let mut labels = from.labels.into_iter().collect();
    metadata.label(&mut labels);
    Ok(SandboxConfig {
        metadata,
        hostname: from.hostname,
        log_directory: from.log_directory,
        dns: from.dns_config.map(dns).transpose()?,
        port_mappings: from.port_mappings.iter().map(port_mapping).collect::<Result<_, _>>()?,
        labels,
        annotations: from.annotations.into_iter().collect(),
        cgroup_parent: linux.cgroup_parent,
        sysctls: linux.sysctls.into_iter().collect(),
        overhead: linux.overhead.as_ref().map(resources::from_proto),
        resources: linux.resources.as_ref().map(resources::from_proto),
        security: security::of_sandbox(&linux.security_context.unwrap_or_default())?,
        handler,
    })
}

/// The parts of a sandbox's name.
fn metadata(from: Option<&api::PodSandboxMetadata>) -> Result<SandboxMetadata, RequestError> {
    let from = from.ok_or(RequestError::missing("config.metadata"))?;
    for (field, value) in [
        ("config.metadata.name", &from.name),
        ("config.metadata.namespace", &from.namespace),
        ("config.metadata.uid", &from.uid),
    ] {
        if value.is_empty() {
            return Err(RequestError::missing(field));
        }
        if value.len() > 253 || value.chars().any(|c| c.is_control() || c == '/') {
            return Err(RequestError::illegal(field, value));
        }
    }
    Ok(SandboxMetadata {
        name: from.name.clone(),
        uid: from.uid.clone(),
        namespace: from.namespace.clone(),
        attempt: from.attempt,
    })
}

/// Whether a path is absolute and has no `.`, `..` or control character in it.
pub(super) fn is_clean_absolute(path: &str) -> bool {
    path.starts_with('/')
        && !path.chars().any(char::is_control)
        && path.split('/').all(|part| part != "." && part != "..")
}

/// Lines of resolv.conf: what could end a line early is refused.
fn dns(from: api::DnsConfig) -> Result<DnsConfig, RequestError> {
    for word in from.servers.iter().chain(&from.searches).chain(&from.options) {
        if word.chars().any(|c| c.is_control() || c == ' ') {
            return Err(RequestError::illegal("config.dns_config", word));
        }
    }
    Ok(DnsConfig { servers: from.servers, searches: from.searches, options: from.options })
}

fn port_mapping(from: &api::PortMapping) -> Result<PortMapping, RequestError> {
    let port =
        |field, value: i32| u16::try_from(value).map_err(|_| RequestError::illegal(field, value));
    let protocol = match api::Protocol::try_from(from.protocol) {
        Ok(api::Protocol::Tcp) => Protocol::Tcp,
        Ok(api::Protocol::Udp) => Protocol::Udp,
        Ok(api::Protocol::Sctp) => Protocol::Sctp,
        Err(_) => return Err(RequestError::illegal("port_mappings.protocol", from.protocol)),
    };
    let host_ip = match from.host_ip.as_str() {
        "" => None,
        text => {
            Some(text.parse().map_err(|_| RequestError::illegal("port_mappings.host_ip", text))?)
        }
    };
    Ok(PortMapping {
        protocol,
        container_port: port("port_mappings.container_port", from.container_port)?,
        host_port: port("port_mappings.host_port", from.host_port)?,
        host_ip,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> api::PodSandboxConfig {
        api::PodSandboxConfig {
            metadata: Some(api::PodSandboxMetadata {
                name: "web".to_owned(),
                uid: "u".to_owned(),
                namespace: "shop".to_owned(),
                attempt: 0,
            }),
            ..Default::default()
        }
    }

    fn refused(change: impl FnOnce(&mut api::PodSandboxConfig)) -> &'static str {
        let mut from = request();
        change(&mut from);
        from_proto(Some(from), String::new()).unwrap_err().field
    }

    #[test]
    fn what_would_reach_a_path_or_a_line_is_refused() {
        assert_eq!(refused(|from| from.log_directory = "logs".into()), "config.log_directory");
        assert_eq!(refused(|from| from.log_directory = "/a/../b".into()), "config.log_directory");
        assert_eq!(refused(|from| from.hostname = "a\nb".into()), "config.hostname");
        assert_eq!(refused(|from| from.metadata = None), "config.metadata");
        let dns =
            api::DnsConfig { servers: vec!["1.1.1.1\nsearch x".into()], ..Default::default() };
        assert_eq!(refused(|from| from.dns_config = Some(dns)), "config.dns_config");
        let ports = vec![api::PortMapping { host_port: 70_000, ..Default::default() }];
        assert_eq!(refused(|from| from.port_mappings = ports), "port_mappings.host_port");
    }

    /// Without them two pods could have one name; crictl shows none that lacks one.
    #[test]
    fn a_pod_without_a_part_of_its_name_is_refused() {
        let lacking = |change: fn(&mut api::PodSandboxMetadata)| {
            refused(|from| change(from.metadata.as_mut().unwrap()))
        };
        assert_eq!(lacking(|metadata| metadata.name.clear()), "config.metadata.name");
        assert_eq!(lacking(|metadata| metadata.namespace.clear()), "config.metadata.namespace");
        assert_eq!(lacking(|metadata| metadata.uid.clear()), "config.metadata.uid");
    }

    #[test]
    fn a_plain_request_is_taken() {
        let config = from_proto(Some(request()), "runc".to_owned()).unwrap();
        assert_eq!(config.metadata.full_name(), "k8s_web_shop_u_0");
        assert_eq!(config.labels["io.kubernetes.pod.namespace"], "shop");
        assert_eq!(config.handler, "runc");
    }
}
