//! Signatures as GnuPG makes them, and what is left of them when they are touched.

use std::time::Duration;

use pgp::composed::Deserializable;
use pgp::composed::SignedSecretKey;
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::KeyFlags;
use pgp::packet::PacketTrait;
use pgp::packet::PublicSubkey;
use pgp::packet::SignatureConfig;
use pgp::packet::Subpacket;
use pgp::packet::SubpacketData;
use pgp::types::Password;
use pgp::types::Tag;
use pgp::types::Timestamp;

use super::*;
use crate::signature::gpg;
use crate::signature::gpg::Gpg;

const DIGEST: &str = "sha256:f392832aa7c4a2d7e0dee4f738b371a7bc69d02600393b250e1732778b5bf858";
const NAME: &str = "q.io/a:1";
/// A day in 2020, for keys and signatures that are old.
const THEN: [&str; 2] = ["--faked-system-time", "20200101T000000!"];
const DAY_AFTER: [&str; 2] = ["--faked-system-time", "20200102T000000!"];

fn payload() -> Vec<u8> {
    gpg::payload(NAME, DIGEST)
}

fn keyring(files: &[&[u8]]) -> Keyring {
    let mut keyring = Keyring::default();
    for file in files {
        keyring.add(file).unwrap();
    }
    keyring
}

/// A key, a message by it, and the key as a file.
fn signed(gpg: &Gpg, algorithm: &str) -> (Vec<u8>, Vec<u8>) {
    let key = gpg.key("signer", algorithm);
    (gpg.sign(&key, &payload()), gpg.export(&key))
}

#[track_caller]
fn holds(message: &[u8], files: &[&[u8]], signer: &str) {
    let proven = verify(message, &keyring(files), SystemTime::now()).unwrap();
    assert_eq!(proven.payload.docker_reference, NAME);
    assert_eq!(proven.payload.digest.to_string(), DIGEST);
    assert_eq!(proven.fingerprint, signer);
}

#[track_caller]
fn refused(message: &[u8], files: &[&[u8]], words: &str) {
    match verify(message, &keyring(files), SystemTime::now()) {
        Ok(proven) => panic!("holds, but {words:?} was expected: {proven:?}"),
        Err(error) => {
            let error = crate::failure::chain(&error);
            assert!(error.contains(words), "{words:?} is not in: {error}");
        }
    }
}

/// A packet in the new form.
fn packet(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[0xc0 | tag, 0xff], &length[..], body].concat()
}

/// The packets of a message, each in the new form.
fn packets_of(message: &[u8]) -> Vec<Vec<u8>> {
    let split = packets::split(message, 100).unwrap();
    split.iter().map(|found| packet(u8::from(found.tag()), &found.body)).collect()
}

/// An uncompressed message, as its three packets.
fn plain(gpg: &Gpg, key: &str) -> [Vec<u8>; 3] {
    let message = gpg.sign_with(key, &payload(), &["--compress-algo", "none"]);
    packets_of(&message).try_into().unwrap()
}

#[test]
fn signatures_by_keys_of_all_kinds_hold() {
    let gpg = Gpg::new();
    for algorithm in ["rsa2048", "ed25519", "nistp256", "nistp384"] {
        let key = gpg.key(algorithm, algorithm);
        for compression in ["none", "zip", "zlib"] {
            let options = ["--compress-algo", compression, "--digest-algo", "SHA512"];
            let message = gpg.sign_with(&key, &payload(), &options);
            holds(&message, &[&gpg.export(&key)], &key);
        }
        holds(&gpg.sign(&key, &payload()), &[&gpg.export_armored(&key)], &key);
    }
}

#[test]
fn a_key_is_found_among_many_in_files_of_any_form() {
    let gpg = Gpg::new();
    let [one, two, three] = ["one", "two", "three"].map(|user| gpg.key(user, "ed25519"));
    let both = [gpg.export(&one), gpg.export(&two)].concat();
    let text = [gpg.export_armored(&three), gpg.export_armored(&two)].concat();
    for key in [&one, &two, &three] {
        holds(&gpg.sign(key, &payload()), &[&both, &text], key);
    }
    assert_eq!(keyring(&[&both, &text]).fingerprints(), [&*one, &two, &three]);
}

#[test]
fn a_subkey_signs_for_its_primary_key() {
    let gpg = Gpg::new();
    let key = gpg.key_with("owner", "ed25519", "cert", "never", &[]);
    for algorithm in ["ed25519", "rsa2048"] {
        let subkey = gpg.subkey(&key, algorithm, "sign", "never");
        holds(&gpg.sign(&subkey, &payload()), &[&gpg.export(&key)], &key);
    }
}

#[test]
fn the_newest_word_on_a_keys_time_counts() {
    let gpg = Gpg::new();
    let key = gpg.key_with("old", "ed25519", "sign", "1y", &THEN);
    let message = gpg.sign_with(&key, &payload(), &DAY_AFTER);
    let before = gpg.export(&key);
    refused(&message, &[&before], "has expired at 2020-12-31T00:00:00Z");
    gpg.run(&["--quick-set-expire", &key, "1y"], b"");
    holds(&message, &[&gpg.export(&key)], &key);
    // Both copies together say the same.
    holds(&message, &[&gpg.export(&key), &before], &key);
}

#[test]
fn an_expired_key_or_subkey_vouches_for_nothing() {
    let gpg = Gpg::new();
    let key = gpg.key_with("owner", "ed25519", "cert", "never", &THEN);
    gpg.run(&[&THEN[..], &["--quick-add-key", &key, "ed25519", "sign", "1y"]].concat(), b"");
    let subkey = gpg.fingerprints(&key).pop().unwrap();
    let message = gpg.sign_with(&subkey, &payload(), &DAY_AFTER);
    refused(&message, &[&gpg.export(&key)], "has expired at 2020-12-31T00:00:00Z");
}

#[test]
fn a_subkey_of_an_expired_key_vouches_for_nothing() {
    let gpg = Gpg::new();
    let key = gpg.key_with("owner", "ed25519", "cert", "1y", &THEN);
    gpg.run(&[&THEN[..], &["--quick-add-key", &key, "ed25519", "sign", "never"]].concat(), b"");
    let subkey = gpg.fingerprints(&key).pop().unwrap();
    let message = gpg.sign_with(&subkey, &payload(), &DAY_AFTER);
    refused(&message, &[&gpg.export(&key)], "has expired");
}

#[test]
fn a_key_from_the_future_vouches_for_nothing() {
    let gpg = Gpg::new();
    let far = ["--faked-system-time", "20900101T000000!"];
    let key = gpg.key_with("future", "ed25519", "sign", "never", &far);
    let message = gpg.sign_with(&key, &payload(), &far);
    refused(&message, &[&gpg.export(&key)], "is not valid before 2090-01-01T00:00:00Z");
}

#[test]
fn an_expired_signature_proves_nothing() {
    let gpg = Gpg::new();
    let key = gpg.key_with("old", "ed25519", "sign", "never", &THEN);
    let brief = [&DAY_AFTER[..], &["--default-sig-expire", "1d"]].concat();
    let message = gpg.sign_with(&key, &payload(), &brief);
    let file = gpg.export(&key);
    refused(&message, &[&file], "Signature expired on 2020-01-03T00:00:00Z");
    let in_time = UNIX_EPOCH + Duration::from_secs(1_577_923_200 + 60);
    verify(&message, &keyring(&[&file]), in_time).unwrap();
}

#[test]
fn a_revoked_key_vouches_for_nothing_wherever_its_revocation_stands() {
    let gpg = Gpg::new();
    let key = gpg.key("signer", "ed25519");
    let message = gpg.sign(&key, &payload());
    let (binary, text) = (gpg.export(&key), gpg.export_armored(&key));
    let revocation = gpg.revocation(&key);
    holds(&message, &[&binary], &key);
    gpg.run(&["--import"], &revocation);
    let merged = gpg.export(&key);
    refused(&message, &[&merged], "is revoked");
    refused(&message, &[&[text, revocation.clone()].concat()], "is revoked");
    // In a file of its own, behind the key.
    refused(&message, &[&binary, &revocation], "is revoked");
    // In one of two copies.
    for files in [[&*merged, &binary], [&*binary, &merged]] {
        refused(&message, &files, "is revoked");
        refused(&message, &[&files.concat()], "is revoked");
    }
}

#[test]
fn a_revoked_subkey_vouches_for_nothing() {
    let gpg = Gpg::new();
    let key = gpg.key_with("owner", "ed25519", "cert", "never", &[]);
    let subkey = gpg.subkey(&key, "ed25519", "sign", "never");
    let message = gpg.sign(&subkey, &payload());
    let before = gpg.export(&key);
    holds(&message, &[&before], &key);
    let answers = b"key 1\nrevkey\ny\n0\n\ny\nsave\n";
    gpg.run(&["--command-fd", "0", "--edit-key", &key], answers);
    refused(&message, &[&gpg.export(&key)], "is revoked");
    refused(&message, &[&gpg.export(&key), &before], "is revoked");
    gpg.run(&["--import"], &gpg.revocation(&key));
    refused(&message, &[&gpg.export(&key)], &format!("is a subkey of {key}, which is revoked"));
}

#[test]
fn a_signature_with_a_broken_hash_proves_nothing() {
    let gpg = Gpg::new();
    let key = gpg.key("signer", "rsa2048");
    let file = gpg.export(&key);
    for (hash, shown) in [("SHA1", "SHA1"), ("MD5", "MD5"), ("RIPEMD160", "RIPEMD160")] {
        let options = ["--digest-algo", hash, "--allow-weak-digest-algos"];
        let message = gpg.sign_with(&key, &payload(), &options);
        refused(&message, &[&file], &format!("is made with {shown}, which is not accepted"));
    }
}

#[test]
fn a_key_whose_own_word_has_a_broken_hash_vouches_for_nothing() {
    let gpg = Gpg::new();
    let key = gpg.key_with("old", "rsa2048", "sign", "never", &["--cert-digest-algo", "SHA1"]);
    let message = gpg.sign(&key, &payload());
    refused(
        &message,
        &[&gpg.export(&key)],
        "no self-signature that is fit: the newest is made with SHA1",
    );
}

#[test]
fn weak_and_unknown_mathematics_prove_nothing() {
    let gpg = Gpg::new();
    for (algorithm, words) in [("rsa1024", "1024 bits"), ("dsa2048", "DSA")] {
        let key = gpg.key(algorithm, algorithm);
        let message = gpg.sign_with(&key, &payload(), &["--digest-algo", "SHA256"]);
        refused(&message, &[&gpg.export(&key)], words);
    }
}

#[test]
fn a_critical_notation_that_nobody_understands_is_not_passed_over() {
    let gpg = Gpg::new();
    let key = gpg.key("signer", "ed25519");
    let noted = |mark: &str| {
        let notation = format!("{mark}only-for@q.example=tests");
        gpg.sign_with(&key, &payload(), &["--set-notation", &notation])
    };
    refused(&noted("!"), &[&gpg.export(&key)], "notation \"only-for@q.example\"");
    holds(&noted(""), &[&gpg.export(&key)], &key);
}

#[test]
fn a_signature_by_another_key_is_by_none_of_ours() {
    let gpg = Gpg::new();
    let [ours, other] = ["ours", "other"].map(|user| gpg.key(user, "ed25519"));
    let message = gpg.sign(&other, &payload());
    refused(&message, &[&gpg.export(&ours)], &format!("by the OpenPGP key {other}"));
    refused(&message, &[], "none of the policy's");
}

#[test]
fn a_text_that_was_changed_is_not_what_was_signed() {
    let gpg = Gpg::new();
    let key = gpg.key("signer", "ed25519");
    let [head, literal, signature] = plain(&gpg, &key);
    let text = String::from_utf8_lossy(&literal).into_owned();
    let at = text.find("q.io").unwrap();
    let mut changed = literal.clone();
    // The text of the packet is behind bytes that are no UTF-8, so the place is searched anew.
    let place = changed.windows(4).position(|window| window == b"q.io").unwrap();
    assert!(at >= place);
    changed[place] = b'r';
    refused(
        &[head.clone(), changed, signature.clone()].concat(),
        &[&gpg.export(&key)],
        "does not hold",
    );
    holds(&[head, literal, signature].concat(), &[&gpg.export(&key)], &key);
}

#[test]
fn only_one_text_with_one_signature_is_a_signed_message() {
    let gpg = Gpg::new();
    let key = gpg.key("signer", "ed25519");
    let second = gpg.key("second", "ed25519");
    let file = [gpg.export(&key), gpg.export(&second)].concat();
    let [head, literal, signature] = plain(&gpg, &key);
    let other = packet(11, &[b"b\0\0\0\0\0", &gpg::payload("q.io/evil:1", DIGEST)[..]].concat());
    let message = [&*head, &literal, &signature].concat();
    holds(&message, &[&file], &key);
    holds(&[&*signature, &literal].concat(), &[&file], &key);
    let two = ["--local-user", &second];
    for (message, words) in [
        ([&*head, &literal, &other, &signature].concat(), "not one text"),
        ([&*head, &other, &literal, &signature].concat(), "not one text"),
        ([&*other, &head, &literal, &signature].concat(), "not one text"),
        ([&*message, &other].concat(), "not one text"),
        ([&*message, &signature].concat(), "not one text"),
        ([&*message, b"{}"].concat(), "no OpenPGP packet"),
        ([&*message, &[0xcb]].concat(), "no OpenPGP packet"),
        ([&*head, &signature].concat(), "is a detached signature"),
        (signature.clone(), "is a detached signature"),
        (gpg.run(&["--local-user", &key, "--detach-sign"], &payload()), "is a detached signature"),
        (literal.clone(), "is not signed"),
        (gpg.run(&["--compress-algo", "zip", "--store"], &payload()), "is not signed"),
        ([&*literal, &signature].concat(), "not one text"),
        (packet(18, b"\x01secret"), "is encrypted"),
        (gpg.sign_with(&key, &payload(), &two), "not one text"),
        (gpg.sign_with(&key, &payload(), &["--textmode"]), "not one of a binary document"),
        (gpg.sign_with(&key, &payload(), &["--armor"]), "ASCII"),
        (gpg.run(&["--local-user", &key, "--clear-sign"], &payload()), "ASCII"),
        (Vec::new(), "ASCII"),
    ] {
        refused(&message, &[&file], words);
    }
    let mut head_of_another = head;
    let hash = head_of_another.len() - 11;
    head_of_another[hash] ^= 2;
    refused(&[head_of_another, literal, signature].concat(), &[&file], "one-pass");
}

#[test]
fn compressed_data_is_bounded_and_whole() {
    let gpg = Gpg::new();
    let key = gpg.key("signer", "ed25519");
    let file = gpg.export(&key);
    let message = plain(&gpg, &key).concat();
    // Deflate with one block that is stored as it is.
    let pack = |bytes: &[u8]| {
        let length = u16::try_from(bytes.len()).unwrap();
        [&[1, 1][..], &length.to_le_bytes(), &(!length).to_le_bytes(), bytes].concat()
    };
    holds(&packet(8, &pack(&message)), &[&file], &key);
    let bomb = gpg.run(&["--compress-algo", "zip", "--store"], &vec![0; 16 * 1024 * 1024]);
    assert!(bomb.len() < 32 * 1024, "{}", bomb.len());
    refused(&bomb, &[&file], "more than 1048576 bytes when decompressed");
    let nested = packet(8, &pack(&packet(8, &pack(&message))));
    refused(&nested, &[&file], "compressed more than once");
    let hidden = [&pack(&message)[..], b"behind"].concat();
    refused(&packet(8, &hidden), &[&file], "compressed data cannot be read");
    refused(&packet(8, &[3, 1, 2]), &[&file], "compressed data cannot be read");
    let beside = [packet(8, &pack(&message)), message].concat();
    refused(&beside, &[&file], "not one text");
    let bzip2 = gpg.sign_with(&key, &payload(), &["--compress-algo", "bzip2"]);
    refused(&bzip2, &[&file], "compressed data cannot be read");
}

/// What a subkey's owner, or a thief of it, writes to bind it: `flags`, and no word by the subkey.
fn bound(secret: &[u8], subkey: &PublicSubkey, flags: KeyFlags) -> Vec<u8> {
    let owner = SignedSecretKey::from_bytes(secret).unwrap();
    let owner_key = owner.primary_key;
    let public = owner_key.public_key();
    let mut config = SignatureConfig::v4(
        SignatureType::SubkeyBinding,
        public.algorithm(),
        HashAlgorithm::Sha256,
    );
    let now = Timestamp::now();
    config.hashed_subpackets = [
        SubpacketData::SignatureCreationTime(now),
        SubpacketData::IssuerFingerprint(public.fingerprint()),
        SubpacketData::KeyFlags(flags),
    ]
    .map(|data| Subpacket::regular(data).unwrap())
    .to_vec();
    let binding =
        config.sign_subkey_binding(&owner_key, public, &Password::empty(), subkey).unwrap();
    let mut bytes = Vec::new();
    subkey.to_writer_with_header(&mut bytes).unwrap();
    binding.to_writer_with_header(&mut bytes).unwrap();
    bytes
}

fn subkey_of(certificate: &[u8]) -> PublicSubkey {
    let split = packets::split(certificate, 100).unwrap();
    let found = split.iter().find(|found| found.tag() == Tag::PublicSubkey).unwrap();
    PublicSubkey::try_from_reader(found.header, &*found.body).unwrap()
}

#[test]
fn a_subkey_that_another_key_claims_without_its_word_vouches_for_nothing() {
    let gpg = Gpg::new();
    let victim = gpg.key_with("victim", "ed25519", "cert", "never", &[]);
    let subkey = gpg.subkey(&victim, "ed25519", "sign", "never");
    let message = gpg.sign(&subkey, &payload());
    let thief = gpg.key_with("thief", "ed25519", "cert", "never", &[]);
    let secret = gpg.run(&["--export-secret-keys", &thief], b"");
    let mut flags = KeyFlags::default();
    flags.set_sign(true);
    let stolen = bound(&secret, &subkey_of(&gpg.export(&victim)), flags);
    let file = [gpg.export(&thief), stolen].concat();
    refused(&message, &[&file], "has not signed its primary key back");
    holds(&message, &[&file, &gpg.export(&victim)], &victim);
}

#[test]
fn a_subkey_for_encryption_vouches_for_nothing() {
    let gpg = Gpg::new();
    let key = gpg.key_with("owner", "ed25519", "cert", "never", &[]);
    let bare = gpg.export(&key);
    let subkey = gpg.subkey(&key, "rsa2048", "sign", "never");
    let message = gpg.sign(&subkey, &payload());
    let secret = gpg.run(&["--export-secret-keys", &key], b"");
    let mut flags = KeyFlags::default();
    flags.set_encrypt_comms(true);
    let file = [bare, bound(&secret, &subkey_of(&gpg.export(&key)), flags)].concat();
    refused(&message, &[&file], "is not for signing");
    // The certifying primary key does not sign images either.
    holds(&message, &[&gpg.export(&key)], &key);
}

#[test]
fn a_payload_of_another_kind_is_no_signature_of_an_image() {
    let gpg = Gpg::new();
    let key = gpg.key("signer", "ed25519");
    let file = gpg.export(&key);
    let good = String::from_utf8(payload()).unwrap();
    let optional = r#""optional":{"creator":"atomic 5.24.1","timestamp":1458239713}"#;
    assert!(good.contains(optional), "{good}");
    for (text, words) in [
        (good.replace("atomic container", "cosign container image"), "critical.type"),
        (good.replace(optional, r#""optional":null"#), "optional is null"),
        (good.replace(&format!(",{optional}"), ""), "missing field `optional`"),
        (good.replace("1458239713", "1.5"), "optional.timestamp"),
        (good.replace(r#""optional""#, r#""critical""#), "stands twice"),
        (good.replace(r#""image""#, r#""x":1,"image""#), "unknown field"),
        (good.replace("sha256:f3", "sha256:../"), "simple signing"),
        (format!("{good}{good}"), "simple signing"),
        (good.replace(r#"{"docker-reference":"q.io/a:1"}"#, r#"["q.io/a:1"]"#), "a list stands"),
    ] {
        assert_ne!(text, good, "{words}");
        refused(&gpg.sign(&key, text.as_bytes()), &[&file], words);
    }
}

#[test]
fn a_broken_file_is_no_key_file() {
    let gpg = Gpg::new();
    let key = gpg.key("signer", "ed25519");
    let secret =
        |options: &[&str]| gpg.run(&[options, &["--export-secret-keys", &key]].concat(), b"");
    let armored = String::from_utf8(gpg.export_armored(&key)).unwrap();
    let message = gpg.sign_with(&key, &payload(), &["--compress-algo", "none"]);
    for (file, words) in [
        (Vec::new(), "no OpenPGP public key"),
        (b"hello".to_vec(), "no OpenPGP public key"),
        (b"-----BEGIN PUBLIC KEY-----\n".to_vec(), "no OpenPGP public key"),
        (secret(&[]), "secret key"),
        (secret(&["--armor"]), "secret key"),
        (message, "no part of a public key"),
        (armored.replace("PUBLIC KEY", "MESSAGE").into_bytes(), "no OpenPGP public key"),
        (gpg.export(&key)[..50].to_vec(), "damaged"),
    ] {
        let error = Keyring::default().add(&file).unwrap_err();
        let error = crate::failure::chain(&error);
        assert!(error.contains(words), "{words:?} is not in: {error}");
    }
}

#[test]
fn no_cut_or_changed_byte_is_taken_for_something_else() {
    let gpg = Gpg::new();
    let (message, file) = signed(&gpg, "ed25519");
    let ring = keyring(&[&file]);
    let now = SystemTime::now();
    for length in 0..message.len() {
        assert!(verify(&message[..length], &ring, now).is_err(), "{length}");
    }
    for place in 0..message.len() {
        let mut changed = message.clone();
        changed[place] ^= 1;
        // What is not signed may change: the claims of who signed, and the text's file name.
        if let Ok(proven) = verify(&changed, &ring, now) {
            assert_eq!(proven.payload.docker_reference, NAME);
            assert_eq!(proven.payload.digest.to_string(), DIGEST);
        }
    }
    for place in 0..file.len() {
        let mut changed = file.clone();
        changed[place] ^= 1;
        let mut ring = Keyring::default();
        let _ = ring.add(&changed);
        if let Ok(proven) = verify(&message, &ring, now) {
            assert_eq!(proven.payload.docker_reference, NAME);
        }
    }
}
