//! What containers and pods use, to proto.

use crate::container::ContainerStats;
use crate::cri::api;
use crate::cri::convert::status;
use crate::model::stats::Interface;
use crate::model::stats::Pressure;
use crate::model::stats::Stall;
use crate::model::stats::Usage;
use crate::sandbox::PodStats;

/// The interface that CNI gives a pod.
const DEFAULT_INTERFACE: &str = "eth0";
const LOOPBACK: &str = "lo";

/// What a container uses.
#[must_use]
pub fn container_to_proto(from: &ContainerStats) -> api::ContainerStats {
    let (record, usage) = (&from.record, &from.usage);
    let layer = from.layer.as_ref().map(|layer| api::FilesystemUsage {
        timestamp: layer.measured,
        fs_id: Some(api::FilesystemIdentifier {
            mountpoint: layer.mountpoint.to_string_lossy().into_owned(),
        }),
        used_bytes: layer.used.map(|(value, _)| api::UInt64Value { value }),
        inodes_used: layer.used.map(|(_, value)| api::UInt64Value { value }),
    });
    api::ContainerStats {
        attributes: Some(api::ContainerAttributes {
            id: record.id.to_string(),
            metadata: Some(status::container_metadata(record)),
            labels: status::to_map(&record.config.labels),
            annotations: status::to_map(&record.config.annotations),
        }),
        cpu: cpu(usage, from.taken, from.nano_cores),
        memory: memory(usage, from.taken),
        writable_layer: layer,
        swap: usage.swap.map(|swap| api::SwapUsage {
            timestamp: from.taken,
            swap_available_bytes: number(swap.available),
            swap_usage_bytes: number(swap.usage),
        }),
        io: io(usage, from.taken),
    }
}

/// What a pod uses.
#[must_use]
pub fn pod_to_proto(from: &PodStats) -> api::PodSandboxStats {
    let (record, usage) = (&from.record, &from.usage);
    api::PodSandboxStats {
        attributes: Some(api::PodSandboxAttributes {
            id: record.id.to_string(),
            metadata: Some(status::sandbox_metadata(&record.config.metadata)),
            labels: status::to_map(&record.config.labels),
            annotations: status::to_map(&record.config.annotations),
        }),
        linux: Some(api::LinuxPodSandboxStats {
            cpu: cpu(usage, from.taken, from.nano_cores),
            memory: memory(usage, from.taken),
            network: from.interfaces.as_ref().map(|all| network(all, from.taken)),
            process: usage.tasks.map(|tasks| api::ProcessUsage {
                timestamp: from.taken,
                process_count: number(tasks),
            }),
            containers: from.containers.iter().map(|stats| container_to_proto(stats)).collect(),
            io: io(usage, from.taken),
        }),
        windows: None,
    }
}

fn cpu(usage: &Usage, timestamp: i64, nano_cores: Option<u64>) -> Option<api::CpuUsage> {
    Some(api::CpuUsage {
        timestamp,
        usage_core_nano_seconds: number(usage.cpu?),
        usage_nano_cores: nano_cores.and_then(number),
        psi: usage.cpu_pressure.map(psi),
    })
}

fn memory(usage: &Usage, timestamp: i64) -> Option<api::MemoryUsage> {
    let memory = usage.memory?;
    Some(api::MemoryUsage {
        timestamp,
        working_set_bytes: number(memory.working_set),
        available_bytes: number(memory.available()),
        usage_bytes: number(memory.usage),
        rss_bytes: number(memory.rss),
        page_faults: number(memory.faults),
        major_page_faults: number(memory.major_faults),
        psi: usage.memory_pressure.map(psi),
    })
}

fn io(usage: &Usage, timestamp: i64) -> Option<api::IoUsage> {
    Some(api::IoUsage { timestamp, psi: Some(psi(usage.io_pressure?)) })
}

fn psi(from: Pressure) -> api::PsiStats {
    let data = |stall: Stall| api::PsiData {
        total: stall.total,
        avg10: stall.avg10,
        avg60: stall.avg60,
        avg300: stall.avg300,
    };
    api::PsiStats { full: Some(data(from.full)), some: Some(data(from.some)) }
}

/// The default interface is the one that CNI names so, else the first that leads anywhere.
fn network(all: &[Interface], timestamp: i64) -> api::NetworkUsage {
    let named = all.iter().position(|interface| interface.name == DEFAULT_INTERFACE);
    let default = named.or_else(|| all.iter().position(|interface| interface.name != LOOPBACK));
    let others = all.iter().enumerate().filter(|(place, _)| Some(*place) != default);
    api::NetworkUsage {
        timestamp,
        default_interface: default.and_then(|place| all.get(place)).map(interface),
        interfaces: others.map(|(_, other)| interface(other)).collect(),
    }
}

fn interface(from: &Interface) -> api::NetworkInterfaceUsage {
    api::NetworkInterfaceUsage {
        name: from.name.clone(),
        rx_bytes: number(from.received.bytes),
        rx_errors: number(from.received.errors),
        tx_bytes: number(from.sent.bytes),
        tx_errors: number(from.sent.errors),
    }
}

#[allow(clippy::unnecessary_wraps, reason = "proto has every number behind an Option")]
fn number(value: u64) -> Option<api::UInt64Value> {
    Some(api::UInt64Value { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_interface_is_eth0_or_the_first_that_leads_anywhere() {
        for (names, default, others) in [
            (&["lo", "net1", "eth0"][..], Some("eth0"), &["lo", "net1"][..]),
            (&["lo", "net1"], Some("net1"), &["lo"]),
            (&["lo"], None, &["lo"]),
            (&[], None, &[]),
        ] {
            let named = |name: &&str| Interface { name: (*name).to_owned(), ..Default::default() };
            let all: Vec<Interface> = names.iter().map(named).collect();
            let usage = network(&all, 1);
            let found = usage.default_interface.map(|interface| interface.name);
            assert_eq!(found.as_deref(), default, "{names:?}");
            let rest: Vec<_> = usage.interfaces.iter().map(|other| other.name.as_str()).collect();
            assert_eq!(rest, others, "{names:?}");
        }
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let usage = Usage::default();
        assert!(cpu(&usage, 1, None).is_none() && memory(&usage, 1).is_none());
        assert!(io(&usage, 1).is_none());
    }
}
