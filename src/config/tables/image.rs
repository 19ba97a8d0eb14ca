//! The `[crio.image]` table: images, and who may vouch for them.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::key::LATER;
use crate::config::key::LIVE;
use crate::config::key::NOW;
use crate::config::key::never;
use crate::config::key::table;
use crate::config::types::ImageVolumes;
use crate::config::types::MissingEvidence;
use crate::config::types::ShortNameMode;
use crate::config::value::Fallback::Bool;
use crate::config::value::Fallback::List;
use crate::config::value::Fallback::Text;

table! {
    /// Images, and who may vouch for them.
    Image = "crio.image" {
        /// The transport of images that name none. Only docker:// is supported.
        default_transport: String = Text("docker://"), NOW;
        /// A file with credentials for registries, like that of podman login.
        global_auth_file: Option<PathBuf> = Text(""), NOW;
        /// The directory of credentials for the pods of one namespace.
        namespaced_auth_dir: PathBuf = Text("/etc/crio/auth"), LATER.hidden();
        /// The image that a pod's own process is run from, where a pod has one. It is pulled if it is
        /// not here; unless it is the default, which nobody set: then a built-in program serves.
        pause_image: String = Text("registry.k8s.io/pause:3.10.1"), LIVE;
        /// A file with credentials for the pause image.
        pause_image_auth_file: Option<PathBuf> = Text(""), LIVE;
        /// The program in the pause image; empty takes what the image says.
        pause_command: String = Text("/pause"), LIVE;
        /// Images that the kubelet must not remove: whole names, or with * at the end or at both
        /// ends.
        pinned_images: Vec<String> = List(&[]), LIVE;
        /// The policy that says which images may be used; empty is /etc/containers/policy.json.
        signature_policy: Option<PathBuf> = Text(""), LIVE;
        /// What becomes of a container whose image came to this node without the signatures that the
        /// policy wants, as by podman load: refuse, or fetch, which looks them up in the image's
        /// registry and keeps them. CRI-O does not have this key.
        on_missing_evidence: MissingEvidence = Text("refuse"), LIVE.no_variable();
        /// The directory of policies for one namespace each, as NAMESPACE.json.
        signature_policy_dir: PathBuf = Text("/etc/crio/policies"), LIVE;
        /// A policy that is to come: what it would refuse is recorded, and runs if signature_policy
        /// allows it. CRI-O has no such key.
        signature_policy_dry_run: Option<PathBuf> = Text(""), LIVE;
        /// The directory of policies to come for one namespace each, as NAMESPACE.json. CRI-O has no
        /// such key.
        signature_policy_dry_run_dir: Option<PathBuf> = Text(""), LIVE;
        /// Registries to be spoken to without TLS.
        insecure_registries: Vec<String> = List(&[]),
            never("set insecure in registries.conf").flag("insecure-registry");
        /// What becomes of the volumes an image declares: mkdir, bind or ignore.
        image_volumes: ImageVolumes = Text("mkdir"), LIVE;
        /// The directory for large temporary files.
        big_files_temporary_dir: Option<PathBuf> = Text(""),
            never("a pull writes no temporary file outside the store");
        /// Reads registries.conf.d again when it changes.
        auto_reload_registries: bool = Bool(false),
            never("registries.conf and its drop-ins are read again whenever they change")
                .variable("AUTO_RELOAD_REGISTRIES");
        /// How long a layer may stand still before its pull fails; 0s is two minutes. Less than 1
        /// KiB a second is standing still.
        pull_progress_timeout: Duration = Text("0s"), NOW;
        /// Mounts OCI artifacts into containers.
        oci_artifact_mount_support: bool = Bool(true),
            LIVE.variable("CONTAINER_OCI_ARTIFACT_SUPPORT");
        /// What becomes of a short name with several candidates: enforcing or disabled.
        short_name_mode: ShortNameMode = Text("enforcing"), NOW;
    }
}
