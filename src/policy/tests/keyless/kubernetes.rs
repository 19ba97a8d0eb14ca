//! `policy/kubernetes-signed.json` as it is shipped, with the trusted root as it is shipped, asked
//! about a signature that the Kubernetes project made.

use std::path::Path;
use std::path::PathBuf;
use std::time::SystemTime;

use crate::oci::digest::Digest;
use crate::oci::reference::Reference;
use crate::policy::Evidence;
use crate::policy::Policy;
use crate::policy::Subject;
use crate::policy::evaluate;
use crate::policy::tests::OTHER;
use crate::policy::tests::found;

const IMAGE: &str = "registry.k8s.io/cluster-api/cluster-api-controller:v1.5.0";
const SIGNED: &str = "sha256:f34016d3a494f9544a16137c9bba49d8756c574a0a1baf96257903409ef82f77";

fn read(name: &str) -> Vec<u8> {
    std::fs::read(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// What the project put beside the image.
fn evidence() -> Evidence {
    let annotations = read("tests/data/signature/kubernetes/annotations.json");
    let annotations = serde_json::from_slice(&annotations).unwrap();
    found(read("tests/data/signature/kubernetes/payload.json"), annotations)
}

fn judge(image: &str, digest: &str, evidence: &Evidence) -> Result<Vec<String>, String> {
    let text = read("policy/kubernetes-signed.json");
    let policy = Policy::parse(Path::new("/p"), &text, &|path| {
        assert_eq!(path, Path::new("/etc/crio/keys/sigstore-public-good.json"));
        Ok(read("policy/trust/sigstore-public-good.json"))
    });
    let policy = policy.unwrap();
    assert_eq!(policy.faults(), [""; 0]);
    let reference = Reference::parse_normalized(image).unwrap();
    let digest: Digest = digest.parse().unwrap();
    let subject = Subject { reference: &reference, manifest_digest: &digest };
    let verdict = evaluate(&policy, &subject, evidence, SystemTime::now());
    let verdict = verdict.allowed().map_err(|refusal| refusal.to_string())?;
    Ok(verdict.requirements.iter().map(ToString::to_string).collect())
}

#[test]
fn an_image_that_the_kubernetes_project_signed_is_allowed() {
    let by = "sigstoreSigned: signature by \"krel-trust@k8s-releng-prod.iam.gserviceaccount.com\" \
              of \"https://accounts.google.com\", in the log at index 28719030";
    assert_eq!(judge(IMAGE, SIGNED, &evidence()).unwrap(), [by]);
    // By digest, and by another tag of the same bytes.
    for image in [format!("{}@{SIGNED}", &IMAGE[..IMAGE.len() - 7]), IMAGE.replace("v1.5.0", "x")] {
        judge(&image, SIGNED, &evidence()).unwrap();
    }
}

#[test]
fn a_signature_of_another_image_of_the_project_is_not_accepted() {
    let refused = |image: &str, digest: &str, words: &str| {
        let reason = judge(image, digest, &evidence()).unwrap_err();
        assert!(reason.contains(words), "{reason}");
    };
    refused("registry.k8s.io/kube-apiserver:v1.36.0", SIGNED, "which is for another repository");
    refused("registry.k8s.io/cluster-api/x:v1.5.0", SIGNED, "which is for another repository");
    refused(IMAGE, OTHER, "which is for another digest");
    let nothing = judge(IMAGE, SIGNED, &Evidence::default()).unwrap_err();
    assert!(nothing.contains("no signature exists"), "{nothing}");
}

#[test]
fn a_kubernetes_signature_that_was_changed_is_not_accepted() {
    let payload = |change: fn(&mut Vec<u8>)| {
        let mut evidence = evidence();
        change(&mut evidence.signatures[0].payload);
        evidence
    };
    judge(IMAGE, SIGNED, &payload(|bytes| bytes.push(b'\n'))).unwrap_err();
    for name in ["certificate", "bundle"] {
        let mut evidence = evidence();
        evidence.signatures[0].annotations.remove(&format!("dev.sigstore.cosign/{name}"));
        judge(IMAGE, SIGNED, &evidence).unwrap_err();
    }
    // A minute after the certificate's end, had the log said so.
    let mut late = evidence();
    let set = late.signatures[0].annotations.get_mut("dev.sigstore.cosign/bundle").unwrap();
    *set = set.replace("1690304684", "1690305340");
    judge(IMAGE, SIGNED, &late).unwrap_err();
}

#[test]
fn what_is_not_of_the_project_is_as_the_first_line_says() {
    let by = judge("docker.io/library/busybox:1", OTHER, &Evidence::default()).unwrap();
    assert_eq!(by, ["insecureAcceptAnything: nothing was checked"]);
}
