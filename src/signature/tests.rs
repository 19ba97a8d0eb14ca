//! Signatures as cosign made them, and what is left of them when they are touched.

use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Stdio;

use crate::oci::digest::Digest;
use crate::signature::SignatureError;
use crate::signature::bundle::Bundle;
use crate::signature::error::LogFault;
use crate::signature::key::KeyError;
use crate::signature::key::PublicKey;
use crate::signature::keyless;
use crate::signature::keys;
use crate::signature::keys::Key;
use crate::signature::keys::Log;
use crate::signature::sigstore::SimpleSigning;
use crate::signature::simple_signing::Kind;
use crate::signature::simple_signing::Payload;
use crate::signature::trust::Trust;

const DIGEST: &str = "sha256:f392832aa7c4a2d7e0dee4f738b371a7bc69d02600393b250e1732778b5bf858";
const OTHER: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

/// What was signed with each kind of key.
const KINDS: [&str; 5] =
    ["cosign-p256", "cosign-p384", "cosign-p521", "cosign-rsa", "cosign-ed25519"];

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/signature").join(name)
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

fn key(of: &str) -> PublicKey {
    PublicKey::from_pem(&read(&golden(of).join("key.pub"))).unwrap()
}

fn cosign_2(of: &str, prefix: &str) -> SimpleSigning {
    SimpleSigning {
        payload: read(&golden(of).join(format!("{prefix}payload.json"))),
        annotations: serde_json::from_slice(&read(
            &golden(of).join(format!("{prefix}annotations.json")),
        ))
        .unwrap(),
    }
}

fn public(key: &Key) -> PublicKey {
    PublicKey::from_pem(key.public_pem().as_bytes()).unwrap()
}

fn logs(log: &Log) -> Trust {
    Trust::of_logs(&[(&public(&log.key), "the log")]).unwrap()
}

#[test]
fn what_cosign_2_signs_is_true() {
    for of in KINDS {
        let proven =
            cosign_2(of, "").verify(&[key(of)], None).unwrap_or_else(|e| panic!("{of} {e}"));
        assert_eq!(proven.payload.digest.to_string(), DIGEST);
    }
    let annotated = cosign_2("cosign-p256", "annotated-");
    let proven = annotated.verify(&[key("cosign-rsa"), key("cosign-p256")], None).unwrap();
    assert_eq!(proven.key, 1);
    assert_eq!(proven.payload.docker_reference, "127.0.0.1:5717/shop/api");
}

#[test]
fn what_cosign_3_signs_is_true() {
    let digest: Digest = DIGEST.parse().unwrap();
    for of in KINDS {
        let bundle = Bundle::parse(&read(&golden(of).join("bundle.json"))).unwrap();
        whole(&bundle, &[key(of)], None, &digest).unwrap_or_else(|e| panic!("{of} {e}"));
        let error = whole(&bundle, &[key(of)], None, &OTHER.parse().unwrap()).unwrap_err();
        assert!(matches!(error, SignatureError::Subject { .. }), "{of}: {error}");
    }
}

#[test]
fn ed25519_verifies_the_plain_form_beside_the_prehashed_one_of_cosign() {
    let pair = aws_lc_rs::signature::Ed25519KeyPair::generate().unwrap();
    let public = aws_lc_rs::signature::KeyPair::public_key(&pair).as_ref().to_vec();
    // The SubjectPublicKeyInfo of RFC 8410 is a fixed head and the 32 bytes of the key.
    let head = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    let spki = sigstore_verify::types::DerPublicKey::new([head.as_slice(), &public].concat());
    let key = PublicKey::from_pem(spki.to_pem().as_bytes()).unwrap();
    assert!(key.verifies(b"message", pair.sign(b"message").as_ref()));
    assert!(!key.verifies(b"massage", pair.sign(b"message").as_ref()));
    // What is signed plainly is the hash of the message, and not the message.
    let hashed = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA512, b"message");
    assert!(!key.verifies(b"message", pair.sign(hashed.as_ref()).as_ref()));
    for bytes in [&[][..], &[0; 63], &[0; 64], &[0xff; 64], &[0; 65]] {
        assert!(!key.verifies(b"message", bytes));
    }
}

#[test]
fn a_point_of_small_order_is_no_ed25519_key() {
    // Under the neutral point, with R the same and S zero, the equation holds for any message.
    let mut neutral = [0; 32];
    neutral[0] = 1;
    let head = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    for point in [neutral, [0; 32]] {
        let key = PublicKey::from_der([head.as_slice(), &point].concat());
        assert!(matches!(key, Err(KeyError::Weak | KeyError::Key(_))), "{key:?}");
    }
}

#[test]
fn an_attestation_of_cosign_3_is_no_signature() {
    let bundle = read(&golden("cosign-p256/attestation-bundle.json"));
    let bundle = Bundle::parse(&bundle).unwrap();
    assert_eq!(bundle.claimed_predicate().as_deref(), Some(keys::SPDX));
    let error = whole(&bundle, &[key("cosign-p256")], None, &DIGEST.parse().unwrap()).unwrap_err();
    assert!(matches!(error, SignatureError::Attestation(kind) if kind == keys::SPDX));
}

/// Runs openssl in a directory, with this to read.
#[allow(clippy::disallowed_methods, reason = "tests run the real program")]
fn openssl(directory: &Path, arguments: &str, input: &[u8]) {
    let mut command = std::process::Command::new("openssl");
    command.current_dir(directory).args(arguments.split(' '));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let ran = child.wait_with_output().unwrap();
    assert!(ran.status.success(), "{arguments}: {}", String::from_utf8_lossy(&ran.stderr));
}

#[test]
fn what_openssl_signs_on_p521_is_true_with_the_hashes_that_cosign_and_containers_image_take() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    openssl(directory.path(), "ecparam -name secp521r1 -genkey -noout -out key.pem", b"");
    openssl(directory.path(), "ec -in key.pem -pubout -out key.pub", b"");
    let key = PublicKey::from_pem(&read(&path("key.pub"))).unwrap();
    for (hash, holds) in [("sha256", true), ("sha512", true), ("sha384", false), ("sha1", false)] {
        let sign = format!("dgst -{hash} -sign key.pem -out {hash}");
        openssl(directory.path(), &sign, b"message");
        let signature = read(&path(hash));
        assert_eq!(key.verifies(b"message", &signature), holds, "{hash}");
        assert!(!key.verifies(b"massage", &signature), "{hash}");
        let short = signature.split_last().unwrap().1;
        assert!(!key.verifies(b"message", short), "{hash}");
    }
    assert!(!super::tests::key("cosign-p521").verifies(b"message", &read(&path("sha512"))));
}

#[test]
fn what_is_no_point_of_p521_is_no_key() {
    let whole = key("cosign-p521").spki().as_bytes().to_vec();
    PublicKey::from_der(whole.clone()).unwrap();
    let mut beside = whole.clone();
    *beside.last_mut().unwrap() ^= 1;
    let error = PublicKey::from_der(beside).unwrap_err();
    assert!(matches!(error, KeyError::Point), "{error}");
    // Compressed, as Go does not read it.
    let (kind, x) = (&whole[3..21], &whole[26..92]);
    let compressed = [&[0x30, 88][..], kind, &[3, 68, 0, 2], x].concat();
    let error = PublicKey::from_der(compressed).unwrap_err();
    assert!(matches!(error, KeyError::Point), "{error}");
    for text in [[&whole[..], &[0]].concat(), whole[..whole.len() - 1].to_vec()] {
        assert!(PublicKey::from_der(text).is_err());
    }
}

#[test]
fn a_p521_key_is_refused_by_name_where_a_log_must_have_seen_a_bundle() {
    let bundle = Bundle::parse(&read(&golden("cosign-p521/bundle.json"))).unwrap();
    let error = key("cosign-p521").known().unwrap_err();
    assert!(matches!(error, KeyError::P521) && error.to_string().contains("P-521"), "{error}");
    assert!(!key("cosign-p521").is_ecdsa() && key("cosign-p384").known().is_ok());
    let fault = bundle.verify(&[key("cosign-p521")], Some(&logs(&Log::default()))).unwrap_err();
    assert!(matches!(fault, SignatureError::Log(LogFault::Key(_))), "{fault}");
}

#[test]
fn what_is_no_key_is_refused() {
    let short_rsa = "-----BEGIN PUBLIC KEY-----\n\
        MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDZVpmSly32kGq39YqJ6GIhRnyk\n\
        73ag1PbDrEpdFa0IRWhLUFlouZjlIcgbd0rRagiTebfHVUgbYXDFNUjLnWeeIqxN\n\
        yfQydrvveDLlp6vNPt0HQf9+VnEcth3FcNXKyYKAsCDUDj8iVTCgmODzwssuQLbj\n\
        K1wyae1gUpl40uUBrQIDAQAB\n\
        -----END PUBLIC KEY-----\n";
    for text in
        ["", "key", "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n", short_rsa]
    {
        assert!(PublicKey::from_pem(text.as_bytes()).is_err(), "{text}");
    }
    assert!(PublicKey::from_pem(&[0xff, 0xfe]).is_err());
}

#[test]
fn a_touched_signature_is_not_true() {
    for of in KINDS {
        let keys = [key(of)];
        for position in [0, 60, 150] {
            let mut touched = cosign_2(of, "");
            touched.payload[position] ^= 1;
            assert!(
                matches!(touched.verify(&keys, None), Err(SignatureError::NotByAnyKey)),
                "{of}"
            );
        }
        let text = String::from_utf8(read(&golden(of).join("bundle.json"))).unwrap();
        // The first letters of the base64 of the statement: `{"_type"` becomes `{"_typd"`.
        let touched = text.replacen("eyJfdHlwZSI6", "eyJfdHlwZCI6", 1);
        assert_ne!(touched, text);
        let bundle = Bundle::parse(touched.as_bytes()).unwrap();
        let error = whole(&bundle, &keys, None, &DIGEST.parse().unwrap()).unwrap_err();
        assert!(matches!(error, SignatureError::NotByAnyKey), "{of}: {error}");
    }
}

#[test]
fn payloads_are_strict() {
    let good = String::from_utf8(keys::payload("q.io/a", DIGEST)).unwrap();
    Payload::parse(good.as_bytes(), Kind::Cosign).unwrap();
    let told = good.replace("null", r#"{"timestamp":1458239713,"x":[]}"#);
    Payload::parse(told.as_bytes(), Kind::Cosign).unwrap();
    for bad in [
        String::new(),
        "null".to_owned(),
        good.replace(r#","optional":null"#, ""),
        good.replace("null", "1"),
        good.replace("null", r#"{"timestamp":1.5}"#),
        good.replace("null", r#"{"creator":1}"#),
        good.replace("null", r#"{"a":1,"a":1}"#),
        good.replace(r#""optional""#, r#""more":1,"optional""#),
        good.replace(r#""type""#, r#""more":1,"type""#),
        good.replace(r#""docker-reference""#, r#""docker-reference":"q.io/b","docker-reference""#),
        good.replace("cosign container", "atomic container"),
        good.replace("sha256:", "sha256:../"),
        good.replace(r#"{"docker-reference":"q.io/a"}"#, "{}"),
        format!("{good}{good}"),
    ] {
        assert!(Payload::parse(bad.as_bytes(), Kind::Cosign).is_err(), "{bad}");
    }
}

#[test]
fn bundles_are_strict() {
    let key = Key::generate();
    let good = String::from_utf8(keys::bundle(&key, &keys::statement(keys::SIGN, DIGEST))).unwrap();
    Bundle::parse(good.as_bytes()).unwrap();
    for bad in [
        good.replace("bundle.v0.3", "bundle.v0.9"),
        good.replace("dsseEnvelope", "envelope"),
        good.replace(r#""payloadType""#, r#""payloadType":"x","payloadType""#),
        good.replace(r#""signatures":["#, r#""signatures":[{"sig":"AA=="},"#),
        good.replace(r#""publicKey""#, r#""nothing""#),
    ] {
        assert!(Bundle::parse(bad.as_bytes()).is_err(), "{bad}");
    }
}

#[test]
fn a_bundle_with_a_certificate_is_not_by_a_key() {
    let key = Key::generate();
    let bundle = String::from_utf8(keys::bundle(&key, &keys::statement(keys::SIGN, DIGEST)));
    let mut bundle: serde_json::Value = serde_json::from_str(&bundle.unwrap()).unwrap();
    bundle["verificationMaterial"] = serde_json::json!({ "certificate": { "rawBytes": "AAAA" } });
    let bundle = Bundle::parse(bundle.to_string().as_bytes()).unwrap();
    let error = whole(&bundle, &[public(&key)], None, &DIGEST.parse().unwrap()).unwrap_err();
    assert!(matches!(error, SignatureError::Certificate), "{error}");
}

/// Touches the log's proof of a signature by annotation, and returns what is found.
fn with_set(touch: impl Fn(&Key, &Log, &mut SimpleSigning)) -> Result<(), String> {
    let (key, log) = (Key::generate(), Log::default());
    let payload = keys::payload("q.io/a", DIGEST);
    let annotations = keys::logged_annotations(&key, &log, &payload);
    let mut found = SimpleSigning { payload, annotations };
    touch(&key, &log, &mut found);
    let proven = found.verify(&[public(&key)], Some(&logs(&log)));
    proven.map_err(|error| error.to_string()).map(|proven| {
        assert_eq!(proven.logged.times, [Log::TIME]);
    })
}

const SET: &str = "dev.sigstore.cosign/bundle";

fn set_of(log: &Log, body: &serde_json::Value, found: &mut SimpleSigning) {
    found.annotations.insert(SET.to_owned(), log.set(body));
}

#[test]
fn a_logged_signature_is_true() {
    with_set(|_, _, _| {}).unwrap();
}

#[test]
fn a_signature_without_its_log_entry_is_not_accepted() {
    let error = with_set(|_, _, found| drop(found.annotations.remove(SET))).unwrap_err();
    assert!(error.contains("missing dev.sigstore.cosign/bundle annotation"), "{error}");
}

#[test]
fn an_entry_of_another_log_is_not_accepted() {
    let error = with_set(|key, _, found| {
        let signature = found.annotations["dev.cosignproject.cosign/signature"].clone();
        set_of(&Log::default(), &keys::hashedrekord(key, &signature, &found.payload), found);
    });
    let error = error.unwrap_err();
    assert!(error.contains("signature verification of Rekor SET failed"), "{error}");
}

#[test]
fn an_entry_for_another_key_signature_or_payload_is_not_accepted() {
    type Borrow = fn(&Key, &SimpleSigning) -> serde_json::Value;
    let cases: [(&str, Borrow); 4] = [
        ("publicKey in Rekor SET", |_, found| {
            let signature = &found.annotations["dev.cosignproject.cosign/signature"];
            keys::hashedrekord(&Key::generate(), signature, &found.payload)
        }),
        ("signature in Rekor SET", |key, found| keys::hashedrekord(key, "AAAA", &found.payload)),
        ("payload in Rekor SET", |key, found| {
            let signature = &found.annotations["dev.cosignproject.cosign/signature"];
            keys::hashedrekord(key, signature, b"something else")
        }),
        ("not a hashedrekord 0.0.1", |key, found| {
            let signature = &found.annotations["dev.cosignproject.cosign/signature"];
            let mut entry = keys::hashedrekord(key, signature, &found.payload);
            entry["kind"] = "rekord".into();
            entry
        }),
    ];
    for (expected, body) in cases {
        let error = with_set(|key, log, found| set_of(log, &body(key, found), found)).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_touched_log_time_is_not_accepted() {
    let error = with_set(|_, _, found| {
        let set = found.annotations[SET].replace("1700000000", "1700000001");
        found.annotations.insert(SET.to_owned(), set);
    });
    assert!(error.unwrap_err().contains("Rekor SET failed"));
}

/// Touches a bundle with a log entry, and returns what is found.
fn with_log(touch: impl Fn(&mut serde_json::Value)) -> Result<(), SignatureError> {
    let (key, log) = (Key::generate(), Log::default());
    let bytes = keys::logged_bundle(&key, &log, &keys::statement(keys::SIGN, DIGEST));
    let mut bundle: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    touch(&mut bundle["verificationMaterial"]["tlogEntries"]);
    let bundle = Bundle::parse(bundle.to_string().as_bytes()).unwrap();
    let digest = DIGEST.parse().unwrap();
    whole(&bundle, &[public(&key)], None, &digest).unwrap();
    let proven = whole(&bundle, &[public(&key)], Some(&logs(&log)), &digest)?;
    assert_eq!(proven.logged.entries.len(), 1);
    assert_eq!(proven.logged.entries[0].1, 0);
    Ok(())
}

#[test]
fn a_logged_bundle_is_true() {
    with_log(|_| {}).unwrap();
    with_log(|entries| drop(entries[0].as_object_mut().unwrap().remove("inclusionPromise")))
        .unwrap();
}

#[test]
fn a_bundle_whose_log_proof_was_touched_is_not_accepted() {
    let zeros = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let cases: [&dyn Fn(&mut serde_json::Value); 6] = [
        &|entries| *entries = serde_json::json!([]),
        &|entries| entries[0]["inclusionProof"]["hashes"][0] = zeros.into(),
        &|entries| entries[0]["inclusionProof"]["logIndex"] = "1".into(),
        &|entries| entries[0]["integratedTime"] = "1700000001".into(),
        &|entries| {
            let foreign = Log::default();
            let text = entries[0]["canonicalizedBody"].as_str().unwrap().to_owned();
            let body = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, text).unwrap();
            entries[0] = foreign.entry(&serde_json::from_slice(&body).unwrap());
        },
        &|entries| drop(entries[0].as_object_mut().unwrap().remove("inclusionProof")),
    ];
    for (number, case) in cases.iter().enumerate() {
        let error = with_log(case).unwrap_err();
        assert!(matches!(error, SignatureError::Log(_)), "{number}: {error}");
    }
}

#[test]
fn a_log_entry_for_another_bundle_is_not_accepted() {
    let (key, log, digest) = (Key::generate(), Log::default(), DIGEST.parse().unwrap());
    let mine = keys::bundle(&key, &keys::statement(keys::SIGN, DIGEST));
    let other = keys::logged_bundle(&key, &log, &keys::statement(keys::SIGN, OTHER));
    let mut bundle: serde_json::Value = serde_json::from_slice(&mine).unwrap();
    let other: serde_json::Value = serde_json::from_slice(&other).unwrap();
    bundle["verificationMaterial"] = other["verificationMaterial"].clone();
    let bundle = Bundle::parse(bundle.to_string().as_bytes()).unwrap();
    let error = whole(&bundle, &[public(&key)], Some(&logs(&log)), &digest).unwrap_err();
    assert!(matches!(error, SignatureError::Log(LogFault::Bundle(_))), "{error}");
}

/// What a policy asks of a bundle by a key.
fn whole(
    bundle: &Bundle,
    keys: &[PublicKey],
    logs: Option<&Trust>,
    digest: &Digest,
) -> Result<crate::signature::bundle::Proven, SignatureError> {
    let proven = bundle.verify(keys, logs)?;
    bundle.says(crate::signature::statement::SIGN, |found| (found == digest).then_some(()))?;
    Ok(proven)
}

#[test]
fn what_github_attests_without_a_log_is_proven_by_its_time_stamp() {
    let trust = Trust::from_json(&read(&golden("github/trusted_root.json"))).unwrap();
    let bundle = Bundle::parse(&read(&golden("github/bundle.json"))).unwrap();
    let proven = keyless::verify_bundle(&bundle, &trust, &|_| Ok(())).unwrap();
    assert!(proven.logged.entries.is_empty());
    assert!(proven.logged.times.is_empty());
    assert_eq!(proven.logged.stamps, [1_772_445_135]);
    assert_eq!(proven.certificate.uris, ["https://dotcom.releases.github.com"]);
    // The public services do not vouch for it.
    let public = include_bytes!("../../policy/trust/sigstore-public-good.json");
    let trust = Trust::from_json(public).unwrap();
    let error = keyless::verify_bundle(&bundle, &trust, &|_| Ok(())).unwrap_err();
    assert!(matches!(error, SignatureError::Chain(_)), "{error}");
}
