//! References: what a user writes to name an image.
//!
//! `host[:port]/path[:tag][@digest]`, in the grammar of the distribution project's reference
//! package. A [`Reference`] always has its host; `busybox` becomes `docker.io/library/busybox` only
//! through [`Reference::parse_normalized`], because short names are resolved by registries.conf.

use std::fmt;
use std::str::FromStr;

use crate::oci::digest::Digest;
use crate::oci::digest::DigestError;

/// The longest repository name that the distribution specification allows, in bytes.
const NAME_LIMIT: usize = 255;

/// A full reference: repository, and a tag, a digest, both, or neither.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    host: Box<str>,
    path: Box<str>,
    tag: Option<Box<str>>,
    digest: Option<Digest>,
}

/// Why a text is no reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// There is no text.
    #[error("the image reference is empty")]
    Empty,
    /// 64 hex digits are an image ID, and no name.
    #[error("{0:?} is an image ID, not an image reference")]
    ImageId(String),
    /// The host has characters that a host cannot have.
    #[error("image reference {0:?} has an illegal registry host")]
    Host(String),
    /// The path is not lower-case names joined by slashes, or is too long.
    #[error("image reference {0:?} has an illegal repository path")]
    Path(String),
    /// The tag is not `[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}`.
    #[error("image reference {0:?} has an illegal tag")]
    Tag(String),
    /// What is behind `@` is no digest.
    #[error("image reference {text:?}")]
    Digest {
        /// The whole reference.
        text: String,
        /// What is wrong with it.
        source: DigestError,
    },
    /// A reference without a host, where one is needed.
    #[error("image reference {0:?} names no registry host")]
    Short(String),
}

/// The parts of a reference as written, before the host is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The host, if the first component looks like one (has a dot or a colon, or is `localhost`).
    pub host: Option<String>,
    /// The repository path.
    pub path: String,
    /// The tag.
    pub tag: Option<String>,
    /// The digest.
    pub digest: Option<Digest>,
}

impl Written {
    /// Splits and checks what a user wrote.
    ///
    /// # Errors
    ///
    /// [`ReferenceError`] when any part breaks the grammar.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        let shown = || text.chars().take(300).collect::<String>();
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        let (rest, digest) = match text.split_once('@') {
            None => (text, None),
            Some((rest, digest)) => {
                let digest = digest
                    .parse()
                    .map_err(|source| ReferenceError::Digest { text: shown(), source })?;
                (rest, Some(digest))
            }
        };
        let name_start = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match rest.get(name_start..).and_then(|last| last.find(':')) {
            Some(colon) => rest.split_at(name_start + colon),
            None => (rest, ""),
        };
        let tag = tag.strip_prefix(':').map(str::to_owned);
        if tag.as_deref().is_some_and(|tag| !is_tag(tag)) {
            return Err(ReferenceError::Tag(shown()));
        }
        let (host, path) = match name.split_once('/') {
            Some((first, path))
                if first.contains(['.', ':'])
                    || first == "localhost"
                    || first.bytes().any(|byte| byte.is_ascii_uppercase()) =>
            {
                (Some(first.to_owned()), path)
            }
            _ => (None, name),
        };
        if host.as_deref().is_some_and(|host| !is_host(host)) {
            return Err(ReferenceError::Host(shown()));
        }
        if name.len() > NAME_LIMIT || !is_path(path) {
            return Err(ReferenceError::Path(shown()));
        }
        if host.is_none() && tag.is_none() && digest.is_none() && is_image_id(path) {
            return Err(ReferenceError::ImageId(shown()));
        }
        Ok(Self { host, path: path.to_owned(), tag, digest })
    }

    /// The reference at `host`; Docker Hub's official images get their `library/`.
    ///
    /// # Errors
    ///
    /// [`ReferenceError::Host`] when `host` is none.
    pub fn at(&self, host: &str) -> Result<Reference, ReferenceError> {
        if !is_host(host) {
            return Err(ReferenceError::Host(host.to_owned()));
        }
        let host = if host == "index.docker.io" { "docker.io" } else { host };
        let path = if host == "docker.io" && !self.path.contains('/') {
            format!("library/{}", self.path)
        } else {
            self.path.clone()
        };
        Ok(Reference {
            host: host.into(),
            path: path.into(),
            tag: self.tag.clone().map(Into::into),
            digest: self.digest.clone(),
        })
    }
}

impl Reference {
    /// A reference with Docker Hub as the host if none is written, and with no tag added.
    ///
    /// # Errors
    ///
    /// [`ReferenceError`] when any part breaks the grammar.
    pub fn parse_normalized(text: &str) -> Result<Self, ReferenceError> {
        let written = Written::parse(text)?;
        written.at(written.host.as_deref().unwrap_or("docker.io"))
    }

    /// The registry's host, with its port if it has one.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The repository's path at that host.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Host and path: `docker.io/library/busybox`.
    #[must_use]
    pub fn repository(&self) -> String {
        format!("{}/{}", self.host, self.path)
    }

    /// The tag as written.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest as written.
    #[must_use]
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The same with the tag `latest` where neither tag nor digest is written.
    #[must_use]
    pub fn or_latest(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some("latest".into());
        }
        self
    }

    /// The same repository with only this digest.
    #[must_use]
    pub fn with_digest(&self, digest: &Digest) -> Self {
        Self { tag: None, digest: Some(digest.clone()), ..self.clone() }
    }

    /// The same repository with only this tag.
    ///
    /// # Errors
    ///
    /// [`ReferenceError::Tag`] when it is none.
    pub fn with_tag(&self, tag: &str) -> Result<Self, ReferenceError> {
        if !is_tag(tag) {
            return Err(ReferenceError::Tag(tag.to_owned()));
        }
        Ok(Self { tag: Some(tag.into()), digest: None, ..self.clone() })
    }

    /// The same without the tag where a digest is written: the digest alone decides.
    #[must_use]
    pub fn without_tag_if_digested(mut self) -> Self {
        if self.digest.is_some() {
            self.tag = None;
        }
        self
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    /// A reference that names its host.
    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let written = Written::parse(text)?;
        match &written.host {
            Some(host) => written.at(host),
            None => Err(ReferenceError::Short(text.to_owned())),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.host, self.path)?;
        if let Some(tag) = &self.tag {
            write!(out, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(out, "@{digest}")?;
        }
        Ok(())
    }
}

/// Whether `text` is 64 lower-case hex digits, as an image ID is.
#[must_use]
pub fn is_image_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn is_tag(tag: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    tag.len() <= 128
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|byte| word(byte) || byte == b'.' || byte == b'-')
}

fn is_host(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !host.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    };
    let port_fits = port.is_none_or(|port| {
        !port.is_empty() && port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit())
    });
    let v6 = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let name_fits = match v6 {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => name.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        }),
    };
    host.len() <= NAME_LIMIT && port_fits && name_fits
}

/// Path components are lower-case letters and digits joined by `.`, `_`, `__` or hyphens.
fn is_path(path: &str) -> bool {
    path.split('/').all(is_component)
}

fn is_component(component: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = component.as_bytes();
    let ends = bytes.first().zip(bytes.last());
    if !ends.is_some_and(|(first, last)| plain(*first) && plain(*last)) {
        return false;
    }
    let mut separator = String::new();
    for byte in component.bytes() {
        if plain(byte) {
            separator.clear();
            continue;
        }
        separator.push(char::from(byte));
        let known = matches!(separator.as_str(), "." | "_" | "__");
        if !known && !separator.bytes().all(|byte| byte == b'-') {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        assert_eq!(Reference::parse_normalized(text).unwrap().to_string(), expected, "{text}");
    }

    #[test]
    fn references_are_normalized() {
        let hex = "0".repeat(64);
        check("busybox", "docker.io/library/busybox");
        check("me/busybox:1", "docker.io/me/busybox:1");
        check("index.docker.io/busybox", "docker.io/library/busybox");
        check("localhost/a", "localhost/a");
        check("127.0.0.1:5000/a/b:t", "127.0.0.1:5000/a/b:t");
        check("[::1]:5000/a", "[::1]:5000/a");
        check(
            &format!("q.io/a__b/c-d:1.0@sha256:{hex}"),
            &format!("q.io/a__b/c-d:1.0@sha256:{hex}"),
        );
    }

    #[test]
    fn what_breaks_the_grammar_is_refused() {
        let id = "0".repeat(64);
        for text in [
            "",
            "/",
            "a//b",
            "A",
            "a:",
            "a:-x",
            "a@sha256:0",
            "a/../b",
            "a_-b",
            "a___b",
            "-a",
            "a-",
            "q.io/",
            "q.io:port/a",
            "q..io/a",
            "a b",
            "a\n",
            "q.io/a:t:u",
            &id,
        ] {
            assert!(Reference::parse_normalized(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_digest_takes_the_place_of_a_tag() {
        let text = format!("q.io/a:1@sha256:{}", "1".repeat(64));
        let reference: Reference = text.parse().unwrap();
        assert_eq!(reference.clone().without_tag_if_digested().tag(), None);
        assert_eq!(reference.or_latest().tag(), Some("1"));
    }
}
