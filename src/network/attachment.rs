//! One pod on one network: everything that its plugins are told, at the `ADD` and at the `DEL`.
//!
//! The texts come from a request; they are checked here, before one of them can pose as another
//! argument (`;` and `=` separate arguments in `CNI_ARGS`).

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::model::ids::SandboxId;
use crate::model::quantity;

use super::PodNetwork;
use super::conf::NetworkConf;
use super::error::NetworkError;
use super::error::quoted;

/// The name of the pod's interface: the first network's, and we have one.
pub(super) const INTERFACE: &str = "eth0";

/// The burst that the reference allows: 4 GB, in bits.
const BURST: u64 = u32::MAX as u64 * 8 - 1;

const INGRESS: &str = "kubernetes.io/ingress-bandwidth";
const EGRESS: &str = "kubernetes.io/egress-bandwidth";

/// One pod on one network.
#[derive(Debug, Clone)]
pub(super) struct Attachment {
    /// The sandbox.
    pub id: SandboxId,
    /// The interface's name in the sandbox.
    pub interface: String,
    /// The network namespace, unless it is gone.
    pub netns: Option<PathBuf>,
    /// The keys and values of `CNI_ARGS`.
    pub args: Vec<(String, String)>,
    /// What the pod wants of plugins that declare the capability.
    pub capabilities: Map<String, Value>,
    /// The network.
    pub conf: NetworkConf,
    /// What the last plugin of the `ADD` answered.
    pub result: Option<Value>,
}

impl Attachment {
    /// What attaching this pod to this network takes.
    pub(super) fn plan(pod: &PodNetwork, conf: NetworkConf) -> Result<Self, NetworkError> {
        let capabilities = capabilities(pod)?;
        Ok(Self {
            id: pod.id.clone(),
            interface: INTERFACE.to_owned(),
            netns: Some(pod.netns.clone()),
            args: args(pod)?,
            capabilities,
            conf,
            result: None,
        })
    }

    /// The value of `CNI_ARGS`.
    pub(super) fn args_text(&self) -> String {
        let pairs: Vec<_> = self.args.iter().map(|(key, value)| format!("{key}={value}")).collect();
        pairs.join(";")
    }
}

fn args(pod: &PodNetwork) -> Result<Vec<(String, String)>, NetworkError> {
    let mut args = vec![("IgnoreUnknown".to_owned(), "1".to_owned())];
    for (key, value) in [
        ("K8S_POD_NAMESPACE", pod.namespace.as_str()),
        ("K8S_POD_NAME", pod.name.as_str()),
        ("K8S_POD_INFRA_CONTAINER_ID", pod.id.as_str()),
        ("K8S_POD_UID", pod.uid.as_str()),
    ] {
        if value.len() > 1024 || value.chars().any(|c| c == ';' || c == '=' || c.is_control()) {
            return Err(NetworkError::Argument { field: key, value: quoted(value) });
        }
        args.push((key.to_owned(), value.to_owned()));
    }
    Ok(args)
}

/// The capability arguments, in the words of the CNI conventions.
///
/// `portMappings` is not among them, as with the reference: host ports are made here, and a plugin
/// that made them too would make them twice.
fn capabilities(pod: &PodNetwork) -> Result<Map<String, Value>, NetworkError> {
    let mut all = Map::new();
    let ingress = bandwidth(&pod.annotations, INGRESS)?;
    let egress = bandwidth(&pod.annotations, EGRESS)?;
    if ingress.is_some() || egress.is_some() {
        let burst = |rate: Option<u64>| if rate.is_some() { BURST } else { 0 };
        let limits = json!({
            "ingressRate": ingress.unwrap_or(0),
            "ingressBurst": burst(ingress),
            "egressRate": egress.unwrap_or(0),
            "egressBurst": burst(egress),
        });
        all.insert("bandwidth".to_owned(), limits);
    }
    if !pod.cgroup_path.is_empty() {
        all.insert("cgroupPath".to_owned(), Value::from(pod.cgroup_path.as_str()));
    }
    all.insert("io.kubernetes.cri.pod-annotations".to_owned(), json!(pod.annotations));
    Ok(all)
}

fn bandwidth(
    annotations: &BTreeMap<String, String>,
    annotation: &'static str,
) -> Result<Option<u64>, NetworkError> {
    let Some(text) = annotations.get(annotation) else { return Ok(None) };
    quantity::whole(text).map_err(|_| NetworkError::Bandwidth { annotation, value: quoted(text) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::sandbox::PortMapping;
    use crate::model::sandbox::Protocol;
    use crate::network::conf::parse_cached;

    fn pod() -> PodNetwork {
        PodNetwork {
            id: SandboxId::fresh().unwrap(),
            name: "shop".to_owned(),
            namespace: "default".to_owned(),
            uid: "1-2-3".to_owned(),
            netns: PathBuf::from("/run/netns/x"),
            port_mappings: vec![],
            annotations: BTreeMap::new(),
            cgroup_path: String::new(),
        }
    }

    fn conf(capabilities: &str) -> NetworkConf {
        let text = format!(
            r#"{{"cniVersion":"1.0.0","name":"n","plugins":[{{"type":"a","capabilities":{capabilities}}}]}}"#
        );
        parse_cached(text.into_bytes()).unwrap()
    }

    #[test]
    fn the_arguments_are_those_of_the_reference() {
        let pod = pod();
        let text = Attachment::plan(&pod, conf("{}")).unwrap().args_text();
        let id = &pod.id;
        assert_eq!(
            text,
            format!(
                "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=shop;\
                 K8S_POD_INFRA_CONTAINER_ID={id};K8S_POD_UID=1-2-3"
            )
        );
    }

    #[test]
    fn no_text_can_pose_as_another_argument() {
        for name in ["a;IP=10.0.0.1", "a=b", "a\nb", "a\0b", &"x".repeat(2000)] {
            let pod = PodNetwork { name: name.to_owned(), ..pod() };
            let error = Attachment::plan(&pod, conf("{}")).unwrap_err();
            assert!(
                matches!(error, NetworkError::Argument { field: "K8S_POD_NAME", .. }),
                "{name}"
            );
        }
    }

    #[test]
    fn capabilities_have_the_shape_of_the_conventions() {
        let pod = PodNetwork {
            port_mappings: vec![PortMapping {
                protocol: Protocol::Udp,
                container_port: 53,
                host_port: 5353,
                host_ip: None,
            }],
            annotations: BTreeMap::from([(INGRESS.to_owned(), "10M".to_owned())]),
            cgroup_path: "/kubepods/pod1".to_owned(),
            ..pod()
        };
        let plan = Attachment::plan(&pod, conf(r#"{"portMappings":true}"#)).unwrap();
        assert_eq!(
            Value::from(plan.capabilities),
            json!({
                "bandwidth": {
                    "ingressRate": 10_000_000, "ingressBurst": 34_359_738_359_u64,
                    "egressRate": 0, "egressBurst": 0,
                },
                "cgroupPath": "/kubepods/pod1",
                "io.kubernetes.cri.pod-annotations": {INGRESS: "10M"},
            })
        );
        let pod = PodNetwork {
            annotations: BTreeMap::from([(EGRESS.to_owned(), "fast".to_owned())]),
            ..self::pod()
        };
        let error = Attachment::plan(&pod, conf("{}")).unwrap_err();
        assert!(matches!(error, NetworkError::Bandwidth { annotation: EGRESS, .. }));
    }
}
