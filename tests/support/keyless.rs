//! A Fulcio, its logs and a time stamper, made on the spot: what keyless signing needs.
//!
//! The authority has a root and an intermediate; a certificate lives for ten minutes, names who
//! logged in where, and is in a CT log (an embedded SCT, RFC 6962). Signatures have cosign's two
//! forms. Everything is what the real services were seen to give out, with keys that live as long
//! as the test.
#![allow(dead_code, unreachable_pub, reason = "each test takes its own part, from where it is")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "lengths and times of what was made here are small"
)]

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rcgen::CertificateParams;
use rcgen::CustomExtension;
use rcgen::ExtendedKeyUsagePurpose;
use rcgen::IsCa;
use rcgen::Issuer;
use rcgen::KeyPair;
use rcgen::PublicKeyData as _;
use rcgen::SanType;
use rcgen::SigningKey as _;
use serde_json::Value;
use serde_json::json;
use time::OffsetDateTime;
use x509_cert::der::Decode as _;
use x509_cert::der::Encode as _;
use x509_cert::der::asn1::ObjectIdentifier;

use super::keys::Key;
use super::keys::Log;
use super::keys::pae;
use super::keys::sha256;

/// The arc of Fulcio's extensions.
const FULCIO: [u64; 9] = [1, 3, 6, 1, 4, 1, 57264, 1, 0];

/// A certificate authority: the certificate, and what signs with it.
#[derive(Debug)]
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    spki: Vec<u8>,
    /// The certificate, DER.
    pub der: Vec<u8>,
}

/// Whom Fulcio writes into a certificate.
#[derive(Debug, Clone)]
pub struct Order {
    pub names: Vec<SanType>,
    pub issuer: Option<String>,
    pub claims: Vec<(u64, String)>,
    /// From when, in seconds since 1970.
    pub from: i64,
    /// For how many seconds.
    pub lasts: i64,
    pub purpose: ExtendedKeyUsagePurpose,
}

/// A certificate and its key.
#[derive(Debug)]
pub struct Leaf {
    key: KeyPair,
    /// The certificate, DER.
    pub der: Vec<u8>,
}

/// An authority with an intermediate, and the CT log that it uses.
#[derive(Debug)]
pub struct Fulcio {
    pub root: Ca,
    pub intermediate: Ca,
    pub ct: Key,
}

/// A time stamp authority (RFC 3161).
#[derive(Debug)]
pub struct Tsa {
    root: Ca,
    leaf: Leaf,
}

impl Order {
    pub fn new(name: SanType) -> Self {
        Self {
            names: vec![name],
            issuer: Some("https://login.example".to_owned()),
            claims: Vec::new(),
            from: Log::TIME - 60,
            lasts: 600,
            purpose: ExtendedKeyUsagePurpose::CodeSigning,
        }
    }

    pub fn email(name: &str) -> Self {
        Self::new(SanType::Rfc822Name(name.try_into().expect("an e-mail address")))
    }

    pub fn uri(name: &str) -> Self {
        Self::new(SanType::URI(name.try_into().expect("a URI")))
    }

    pub fn host(name: &str) -> Self {
        Self::new(SanType::DnsName(name.try_into().expect("a host name")))
    }

    fn params(&self) -> CertificateParams {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.subject_alt_names = self.names.clone();
        params.not_before = at(self.from);
        params.not_after = at(self.from + self.lasts);
        params.serial_number = Some(vec![1, 2, 3, 4].into());
        params.extended_key_usages = vec![self.purpose.clone()];
        params.use_authority_key_identifier_extension = true;
        let utf8 = |text: &str| der(0x0c, &[text.as_bytes()]);
        let extension = |number: u64, value: Vec<u8>| {
            let mut oid = FULCIO;
            oid[8] = number;
            CustomExtension::from_oid_content(&oid, value)
        };
        if let Some(issuer) = &self.issuer {
            params.custom_extensions.push(extension(1, issuer.clone().into_bytes()));
            params.custom_extensions.push(extension(8, utf8(issuer)));
        }
        let claims = self.claims.iter().map(|(number, text)| extension(*number, utf8(text)));
        params.custom_extensions.extend(claims);
        params
    }
}

impl Ca {
    /// An authority by `above`, or by itself, for all purposes.
    pub fn make(name: &str, above: Option<&Ca>) -> Self {
        Self::make_for(name, above, Vec::new())
    }

    fn make_for(name: &str, above: Option<&Ca>, purposes: Vec<ExtendedKeyUsagePurpose>) -> Self {
        let key = KeyPair::generate().expect("a key");
        let spki = key.subject_public_key_info();
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.extended_key_usages = purposes;
        let certificate = match above {
            Some(above) => params.signed_by(&key, &above.issuer),
            None => params.self_signed(&key),
        };
        let der = certificate.expect("a certificate").der().to_vec();
        Self { issuer: Issuer::new(params, key), spki, der }
    }

    pub fn pem(&self) -> String {
        pem(&self.der)
    }

    /// A certificate without an SCT.
    pub fn issue(&self, order: &Order) -> Leaf {
        self.issue_for(KeyPair::generate().expect("a key"), order)
    }

    /// The same for a key on P-521.
    pub fn issue_p521(&self, order: &Order) -> Leaf {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512);
        self.issue_for(key.expect("a key"), order)
    }

    fn issue_for(&self, key: KeyPair, order: &Order) -> Leaf {
        let certificate = order.params().signed_by(&key, &self.issuer).expect("a certificate");
        Leaf { der: certificate.der().to_vec(), key }
    }

    /// A certificate that the CT log `ct` has.
    pub fn issue_logged(&self, order: &Order, ct: &Key) -> Leaf {
        let Leaf { key, der: early } = self.issue(order);
        let parsed = x509_cert::Certificate::from_der(&early).expect("a certificate");
        let tbs = parsed.tbs_certificate.to_der().expect("its body");
        let time = (order.from as u64 * 1000).to_be_bytes();
        let length = (tbs.len() as u32).to_be_bytes();
        let signed =
            [&[0, 0][..], &time, &[0, 1], &sha256(&self.spki), &length[1..], &tbs, &[0, 0]]
                .concat();
        let signature = vector16(&ct.sign(&signed));
        let log = sha256(&ct.public_der());
        let sct = vector16(&[&[0][..], &log, &time, &[0, 0], &[4, 3], &signature].concat());
        let list = der(0x04, &[&vector16(&sct)]);
        let mut params = order.params();
        let oid = [1, 3, 6, 1, 4, 1, 11129, 2, 4, 2];
        params.custom_extensions.push(CustomExtension::from_oid_content(&oid, list));
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Leaf { der: certificate.der().to_vec(), key }
    }
}

impl Fulcio {
    pub fn make() -> Self {
        let root = Ca::make("root", None);
        let purposes = vec![ExtendedKeyUsagePurpose::CodeSigning];
        let intermediate = Ca::make_for("intermediate", Some(&root), purposes);
        Self { root, intermediate, ct: Key::generate() }
    }

    pub fn issue(&self, order: &Order) -> Leaf {
        self.intermediate.issue_logged(order, &self.ct)
    }

    /// A `trusted_root.json` with this authority and its CT log, the logs and the time stamper.
    pub fn trusted_root(&self, logs: &[&Log], tsa: Option<&Tsa>) -> Value {
        let log = |key: &Key| {
            json!({
                "baseUrl": "https://log.example",
                "hashAlgorithm": "SHA2_256",
                "publicKey": {
                    "rawBytes": BASE64.encode(key.public_der()),
                    "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                    "validFor": { "start": "2020-01-01T00:00:00Z" },
                },
                "logId": { "keyId": BASE64.encode(sha256(&key.public_der())) },
            })
        };
        let authority = |certificates: &[&[u8]]| {
            let chain: Vec<_> =
                certificates.iter().map(|der| json!({ "rawBytes": BASE64.encode(der) })).collect();
            json!({
                "subject": { "organization": "test", "commonName": "test" },
                "uri": "https://authority.example",
                "certChain": { "certificates": chain },
                "validFor": { "start": "2020-01-01T00:00:00Z" },
            })
        };
        let logs: Vec<_> = logs.iter().map(|of| log(&of.key)).collect();
        let tsas: Vec<_> =
            tsa.iter().map(|tsa| authority(&[&tsa.leaf.der, &tsa.root.der])).collect();
        json!({
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": logs,
            "certificateAuthorities": [authority(&[&self.intermediate.der, &self.root.der])],
            "ctlogs": [log(&self.ct)],
            "timestampAuthorities": tsas,
        })
    }
}

impl Leaf {
    pub fn pem(&self) -> String {
        pem(&self.der)
    }

    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.key.sign(message).expect("a signature")
    }

    /// The annotations that cosign v2 puts beside a payload; the log took it in at `time`.
    pub fn annotations(
        &self,
        payload: &[u8],
        chain: &[&Ca],
        log: &Log,
        time: i64,
    ) -> BTreeMap<String, String> {
        let signature = BASE64.encode(self.sign(payload));
        let body = super::keys::hashedrekord_by(&self.pem(), &signature, payload);
        let chain: String = chain.iter().map(|ca| ca.pem()).collect();
        BTreeMap::from([
            ("dev.cosignproject.cosign/signature".to_owned(), signature),
            ("dev.sigstore.cosign/certificate".to_owned(), self.pem()),
            ("dev.sigstore.cosign/chain".to_owned(), chain),
            ("dev.sigstore.cosign/bundle".to_owned(), log.set_at(&body, time)),
        ])
    }

    /// A bundle v0.3 around `statement`, without a log entry and without a time.
    pub fn bundle(&self, statement: &[u8]) -> Value {
        json!({
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {
                "certificate": { "rawBytes": BASE64.encode(&self.der) },
                "tlogEntries": [],
            },
            "dsseEnvelope": {
                "payload": BASE64.encode(statement),
                "payloadType": "application/vnd.in-toto+json",
                "signatures": [{ "sig": BASE64.encode(self.sign(&pae(statement))) }],
            },
        })
    }

    /// The same with an entry of a Rekor v1 log, taken in at `time`.
    pub fn logged_bundle(&self, statement: &[u8], log: &Log, time: i64) -> Value {
        let mut bundle = self.bundle(statement);
        let body = self.dsse_entry(statement, &bundle["dsseEnvelope"]);
        bundle["verificationMaterial"]["tlogEntries"] = json!([log.entry_at(&body, time)]);
        bundle
    }

    /// An envelope around `statement` as cosign v2 attaches it, and the annotations beside it; the
    /// log took it in at `time`.
    pub fn attached(
        &self,
        statement: &[u8],
        chain: &[&Ca],
        log: &Log,
        time: i64,
    ) -> (Vec<u8>, BTreeMap<String, String>) {
        let envelope = self.bundle(statement)["dsseEnvelope"].take();
        let entry = log.set_at(&self.dsse_entry(statement, &envelope), time);
        let annotations = BTreeMap::from([
            ("dev.cosignproject.cosign/signature".to_owned(), String::new()),
            ("dev.sigstore.cosign/certificate".to_owned(), self.pem()),
            ("dev.sigstore.cosign/chain".to_owned(), chain.iter().map(|ca| ca.pem()).collect()),
            ("dev.sigstore.cosign/bundle".to_owned(), entry),
        ]);
        (envelope.to_string().into_bytes(), annotations)
    }

    /// The entry of a Rekor v1 log for an envelope.
    fn dsse_entry(&self, statement: &[u8], envelope: &Value) -> Value {
        json!({
            "apiVersion": "0.0.1",
            "kind": "dsse",
            "spec": {
                "envelopeHash": { "algorithm": "sha256", "value": "00".repeat(32) },
                "payloadHash": { "algorithm": "sha256", "value": hex(&sha256(statement)) },
                "signatures": [{
                    "signature": envelope["signatures"][0]["sig"],
                    "verifier": BASE64.encode(self.pem()),
                }],
            },
        })
    }

    /// The same with an entry of a Rekor v2 log, which gives no time, and a time stamp.
    pub fn stamped_bundle(&self, statement: &[u8], log: &Log, tsa: &Tsa, time: i64) -> Value {
        let mut bundle = self.bundle(statement);
        let signature = bundle["dsseEnvelope"]["signatures"][0]["sig"].clone();
        let body = json!({
            "apiVersion": "0.0.2",
            "kind": "hashedrekord",
            "spec": { "hashedRekordV002": {
                "data": { "algorithm": "SHA2_256", "digest": BASE64.encode(sha256(&pae(statement))) },
                "signature": {
                    "content": signature,
                    "verifier": {
                        "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                        "x509Certificate": { "rawBytes": BASE64.encode(&self.der) },
                    },
                },
            } },
        });
        bundle["verificationMaterial"]["tlogEntries"] = json!([log.entry_v2(&body)]);
        let signature = BASE64.decode(signature.as_str().expect("text")).expect("base64");
        bundle["verificationMaterial"]["timestampVerificationData"] = json!({
            "rfc3161Timestamps": [{ "signedTimestamp": BASE64.encode(tsa.stamp(&signature, time)) }],
        });
        bundle
    }
}

impl Tsa {
    pub fn make() -> Self {
        let root = Ca::make("time root", None);
        let mut order = Order::host("time.example");
        order.purpose = ExtendedKeyUsagePurpose::TimeStamping;
        order.from -= 100_000;
        order.lasts = 1_000_000;
        let leaf = root.issue(&order);
        Self { root, leaf }
    }

    /// Cosign v2's annotation for a stamp of the signature in `annotations`, granted at `time`.
    pub fn annotation(&self, annotations: &BTreeMap<String, String>, time: i64) -> String {
        let signature = BASE64.decode(&annotations["dev.cosignproject.cosign/signature"]);
        let stamp = self.stamp(&signature.expect("base64"), time);
        json!({ "SignedRFC3161Timestamp": BASE64.encode(stamp) }).to_string()
    }

    /// A time stamp response for `message`, granted at `time`.
    pub fn stamp(&self, message: &[u8], time: i64) -> Vec<u8> {
        let oid = |text: &str| ObjectIdentifier::new_unwrap(text).to_der().expect("an OID");
        let octets = |bytes: &[u8]| der(0x04, &[bytes]);
        let (sha256_id, tst) = (oid("2.16.840.1.101.3.4.2.1"), oid("1.2.840.113549.1.9.16.1.4"));
        let algorithm = der(0x30, &[&sha256_id]);
        let format = time::macros::format_description!("[year][month][day][hour][minute][second]Z");
        let when = at(time).format(&format).expect("a time");
        let info = der(
            0x30,
            &[
                &der(0x02, &[&[1]]),
                &oid("1.3.6.1.4.1.57264.2"),
                &der(0x30, &[&algorithm, &octets(&sha256(message))]),
                &der(0x02, &[&[7]]),
                &der(0x18, &[when.as_bytes()]),
            ],
        );
        let attribute = |kind: &str, value: &[u8]| der(0x30, &[&oid(kind), &der(0x31, &[value])]);
        let attributes = [
            attribute("1.2.840.113549.1.9.3", &tst),
            attribute("1.2.840.113549.1.9.4", &octets(&sha256(&info))),
        ]
        .concat();
        let signature = self.leaf.sign(&der(0x31, &[&attributes]));
        let leaf = x509_cert::Certificate::from_der(&self.leaf.der).expect("a certificate");
        let body = leaf.tbs_certificate;
        let issuer = body.issuer.to_der().expect("a name");
        let serial = body.serial_number.to_der().expect("a number");
        let signer = der(
            0x30,
            &[
                &der(0x02, &[&[1]]),
                &der(0x30, &[&issuer, &serial]),
                &algorithm,
                &der(0xa0, &[&attributes]),
                &der(0x30, &[&oid("1.2.840.10045.4.3.2")]),
                &octets(&signature),
            ],
        );
        let data = der(
            0x30,
            &[
                &der(0x02, &[&[3]]),
                &der(0x31, &[&algorithm]),
                &der(0x30, &[&tst, &der(0xa0, &[&octets(&info)])]),
                &der(0x31, &[&signer]),
            ],
        );
        let token = der(0x30, &[&oid("1.2.840.113549.1.7.2"), &der(0xa0, &[&data])]);
        der(0x30, &[&der(0x30, &[&der(0x02, &[&[0]])]), &token])
    }
}

/// A value in DER.
fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = content.len();
    let head = match length {
        0..=127 => vec![tag, length as u8],
        128..=255 => vec![tag, 0x81, length as u8],
        _ => vec![tag, 0x82, (length >> 8) as u8, length as u8],
    };
    [head, content].concat()
}

/// Bytes with their length in two bytes before them (TLS).
fn vector16(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat()
}

fn at(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(seconds).expect("a time")
}

fn pem(der: &[u8]) -> String {
    let text = BASE64.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("text")).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
