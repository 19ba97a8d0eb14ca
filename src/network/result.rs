//! What plugins answer: the result of an `ADD`, of all versions, and the words of an error.
//!
//! A result is kept as it came, because the next plugin, and other tools that read the cache,
//! want the whole of it. What we use of it, the addresses, is parsed here and nowhere else.

use std::net::IpAddr;

use serde::Deserialize;
use serde::de::Error;
use serde_json::Value;

use super::conf::Version;
use super::error::ResultError;
use super::error::quoted;

/// More addresses than this are no answer.
const MAX_ADDRESSES: usize = 64;

#[derive(Deserialize)]
struct Document {
    #[serde(rename = "cniVersion", default)]
    version: Option<String>,
    #[serde(default)]
    ips: Option<Vec<Ip>>,
    /// Up to version 0.2.0 there is one address of each family.
    #[serde(default)]
    ip4: Option<OldIp>,
    #[serde(default)]
    ip6: Option<OldIp>,
}

#[derive(Deserialize)]
struct Ip {
    address: String,
}

#[derive(Deserialize)]
struct OldIp {
    ip: String,
}

/// A checked result of an `ADD`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    /// The whole of it, with its version set.
    pub value: Value,
    /// The pod's addresses, the primary first.
    pub ips: Vec<IpAddr>,
}

/// Reads what a plugin wrote after an `ADD`.
///
/// A result without a version has that of the configuration, as libcni has it.
pub(super) fn parse(bytes: &[u8], asked: Version) -> Result<Answer, ResultError> {
    let value = serde_json::from_slice(bytes).map_err(ResultError::Shape)?;
    check(value, asked)
}

/// Checks a result that is JSON already, as one from the cache.
pub(super) fn check(mut value: Value, asked: Version) -> Result<Answer, ResultError> {
    // A derived reader takes an array for an object too.
    if !value.is_object() {
        return Err(ResultError::Shape(serde_json::Error::custom("not an object")));
    }
    let document = Document::deserialize(&value).map_err(ResultError::Shape)?;
    match document.version.as_deref() {
        None | Some("") => {
            if let Some(map) = value.as_object_mut() {
                map.insert("cniVersion".to_owned(), Value::from(asked.as_str()));
            }
        }
        Some(text) if Version::parse(text).is_some() => {}
        Some(text) => return Err(ResultError::Version(quoted(text))),
    }
    let new = document.ips.unwrap_or_default().into_iter().map(|ip| ip.address);
    let old = [document.ip4, document.ip6].into_iter().flatten().map(|ip| ip.ip);
    let mut ips = Vec::new();
    for text in new.chain(old) {
        let ip = address(&text).ok_or_else(|| ResultError::Address(quoted(&text)))?;
        if !ips.contains(&ip) {
            ips.push(ip);
        }
    }
    if ips.len() > MAX_ADDRESSES {
        return Err(ResultError::TooMany(ips.len()));
    }
    Ok(Answer { value, ips })
}

/// The address in `10.88.0.5/16`.
fn address(text: &str) -> Option<IpAddr> {
    let (ip, length) = text.split_once('/')?;
    let ip: IpAddr = ip.parse().ok()?;
    let most = if ip.is_ipv4() { 32 } else { 128 };
    let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
    let whole = digits && length.parse::<u32>().is_ok_and(|length| length <= most);
    // What no interface can have as its own address is a plugin's lie.
    (whole && !ip.is_unspecified() && !ip.is_multicast()).then_some(ip)
}

/// The error of a plugin, in its own words.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reported {
    /// The specification's or the plugin's own code.
    pub code: u32,
    /// Message and details, cut and escaped.
    pub message: String,
}

/// Reads a plugin's error object, if it is one.
pub(super) fn parse_error(bytes: &[u8]) -> Option<Reported> {
    #[derive(Deserialize)]
    struct Words {
        #[serde(default)]
        code: u32,
        msg: String,
        #[serde(default)]
        details: String,
    }
    let Words { code, msg, details } = serde_json::from_slice(bytes).ok()?;
    let message = if details.is_empty() {
        quoted(&msg)
    } else {
        format!("{}; {}", quoted(&msg), quoted(&details))
    };
    Some(Reported { code, message })
}

/// Reads what a plugin wrote after `VERSION`: the versions it speaks, as far as we know them.
pub(super) fn parse_versions(bytes: &[u8]) -> Result<Vec<Version>, ResultError> {
    #[derive(Deserialize)]
    struct Versions {
        #[serde(rename = "supportedVersions", default)]
        supported: Vec<String>,
    }
    let Versions { supported } = serde_json::from_slice(bytes).map_err(ResultError::Shape)?;
    Ok(supported.iter().filter_map(|text| Version::parse(text)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(text: &str) -> Result<Vec<String>, String> {
        parse(text.as_bytes(), Version::V0_4_0)
            .map(|answer| answer.ips.iter().map(ToString::to_string).collect())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn results_of_every_version_give_their_addresses() {
        for (text, expected) in [
            (r#"{"cniVersion":"0.2.0","ip4":{"ip":"10.1.0.5/16"},"ip6":{"ip":"fd00::5/64"}}"#, 2),
            (r#"{"cniVersion":"0.3.1","ips":[{"version":"4","address":"10.1.0.5/16"}]}"#, 1),
            (
                r#"{"cniVersion":"0.4.0","ips":[{"version":"4","address":"10.1.0.5/16"},{"version":"6","address":"fd00::5/64"}],"dns":{}}"#,
                2,
            ),
            (
                r#"{"cniVersion":"1.0.0","interfaces":[],"ips":[{"address":"10.1.0.5/16","interface":2}]}"#,
                1,
            ),
            (
                r#"{"cniVersion":"1.1.0","ips":[{"address":"10.1.0.5/16"}],"routes":[{"dst":"0.0.0.0/0","mtu":9}]}"#,
                1,
            ),
            (r#"{"ips":null}"#, 0),
        ] {
            let ips = ips(text).unwrap();
            assert_eq!(ips.len(), expected, "{text}");
            assert!(ips.first().is_none_or(|first| first == "10.1.0.5"));
        }
    }

    #[test]
    fn an_answer_without_version_has_the_one_that_was_asked() {
        let answer = parse(b"{}", Version::V0_4_0).unwrap();
        assert_eq!(answer.value, serde_json::json!({"cniVersion": "0.4.0"}));
    }

    #[test]
    fn lies_are_refused() {
        for text in [
            "",
            "null",
            "[]",
            "hello",
            r#"{"cniVersion":"9.9.9"}"#,
            r#"{"cniVersion":4}"#,
            r#"{"ips":{}}"#,
            r#"{"ips":[{"address":"10.1.0.5"}]}"#,
            r#"{"ips":[{"address":"10.1.0.5/33"}]}"#,
            r#"{"ips":[{"address":"10.1.0.5/+3"}]}"#,
            r#"{"ips":[{"address":"0.0.0.0/0"}]}"#,
            r#"{"ips":[{"address":"ff02::1/64"}]}"#,
            r#"{"ips":[{"address":"10.1.0.5/16; rm -rf /"}]}"#,
            r#"{"ips":[{"address":"10.1.0.5/16"}]} {"#,
        ] {
            assert!(ips(text).is_err(), "{text}");
        }
        let many: Vec<_> =
            (0..=64).map(|n| serde_json::json!({"address": format!("10.1.0.{n}/16")})).collect();
        assert!(ips(&serde_json::json!({"ips": many}).to_string()).is_err());
    }

    #[test]
    fn a_plugins_words_are_kept_in_one_line() {
        let reported = parse_error(br#"{"code":11,"msg":"try\nagain","details":"busy"}"#).unwrap();
        assert_eq!(reported, Reported { code: 11, message: "try\\nagain; busy".to_owned() });
        assert_eq!(parse_error(b"no json"), None);
        assert_eq!(parse_error(b"{}"), None);
    }
}
