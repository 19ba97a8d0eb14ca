//! The `[crio.runtime.runtimes.NAME]` and `[crio.runtime.workloads.NAME]` tables.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::config::key::INNER;
use crate::config::key::INNER_LATER;
use crate::config::key::table;
use crate::config::types::Assignment;
use crate::config::types::ByteSize;
use crate::config::types::ExecAffinity;
use crate::config::types::ExecCgroup;
use crate::config::types::RuntimeType;
use crate::config::value::Fallback::Bool;
use crate::config::value::Fallback::Integer;
use crate::config::value::Fallback::List;
use crate::config::value::Fallback::NoMap;
use crate::config::value::Fallback::Text;

table! {
    /// A runtime handler: a named way to run.
    Handler = "crio.runtime.runtimes.*" {
        /// The runtime; empty looks for a program of the handler's name in $PATH.
        runtime_path: Option<PathBuf> = Text(""), INNER;
        /// Which protocol the runtime speaks: oci, vm or pod. Only oci is built.
        runtime_type: RuntimeType = Text("oci"), INNER;
        /// Where the runtime keeps its state; empty is /run/ and the name of the runtime's program.
        runtime_root: Option<PathBuf> = Text(""), INNER;
        /// A configuration file for the runtime, with the type vm.
        runtime_config_path: Option<PathBuf> = Text(""), INNER_LATER;
        /// Takes path, type, root and configuration of the default runtime.
        inherit_default_runtime: bool = Bool(false), INNER;
        /// The monitor; empty looks for conmon in $PATH.
        monitor_path: Option<PathBuf> = Text(""), INNER;
        /// The cgroup of the monitors: pod or a systemd slice; with cgroupfs, pod or empty. Empty is
        /// system.slice with systemd.
        monitor_cgroup: String = Text(""), INNER;
        /// Which cgroup the processes of an exec belong to: container, or empty for the monitor's.
        monitor_exec_cgroup: ExecCgroup = Text(""), INNER_LATER;
        /// The environment of the monitors.
        monitor_env: Vec<Assignment> = List(&[]), INNER;
        /// Keeps the node's devices from privileged containers.
        privileged_without_host_devices: bool = Bool(false), INNER;
        /// The annotations of pods that have an effect.
        allowed_annotations: Vec<String> = List(&[]), INNER;
        /// Another runtime_path for some platforms, as linux/amd64.
        platform_runtime_paths: BTreeMap<String, String> = NoMap, INNER_LATER;
        /// The least memory limit a container may have.
        container_min_memory: ByteSize = Text("12MiB"), INNER;
        /// Leaves a container's log to the kernel to write out.
        no_sync_log: bool = Bool(false), INNER;
        /// Annotations for pods that do not have them.
        default_annotations: BTreeMap<String, String> = NoMap, INNER_LATER;
        /// Lets the monitor serve streams, with the type pod.
        stream_websockets: bool = Bool(false), INNER_LATER;
        /// Which processor an exec begins on: first, or empty for the runtime's choice.
        exec_cpu_affinity: ExecAffinity = Text(""), INNER_LATER;
        /// A file with the default seccomp profile; empty takes that of the runtime table.
        seccomp_profile: Option<PathBuf> = Text(""), INNER;
        /// The seconds that making a container may take. 30 is the least.
        container_create_timeout: u32 = Integer(240), INNER;
        /// Lets the runtime pull the image.
        runtime_pull_image: bool = Bool(false), INNER_LATER;
    }
}

table! {
    /// A workload: settings that an annotation of a pod switches on.
    Workload = "crio.runtime.workloads.*" {
        /// The annotation that switches it on.
        activation_annotation: String = Text(""), INNER_LATER;
        /// The prefix of annotations that set a resource.
        annotation_prefix: String = Text(""), INNER_LATER;
        /// The annotations of pods that have an effect.
        allowed_annotations: Vec<String> = List(&[]), INNER_LATER;
    }
}

table! {
    /// What a workload gets when its pod does not say.
    WorkloadResources = "crio.runtime.workloads.*.resources" {
        /// Weight against others.
        cpushares: i64 = Integer(0), INNER_LATER;
        /// Processor time in each period, in microseconds.
        cpuquota: i64 = Integer(0), INNER_LATER;
        /// The period, in microseconds.
        cpuperiod: i64 = Integer(0), INNER_LATER;
        /// Processors, as 0-3.
        cpuset: String = Text(""), INNER_LATER;
        /// Processor time in thousandths of a processor.
        cpulimit: i64 = Integer(0), INNER_LATER;
    }
}
