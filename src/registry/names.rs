//! What a user's text means, and where it is to be had: short names and sources.
//!
//! A [`Source`] is one place that may have an image. The name the image is judged and kept under
//! is always the logical one; mirrors and rewritten locations change only who is asked.

use crate::oci::reference::Reference;
use crate::oci::reference::ReferenceError;
use crate::oci::reference::Written;
use crate::registry::conf::Conf;
use crate::registry::conf::Endpoint;
use crate::registry::conf::Serves;
use crate::registry::conf::matched;
use crate::registry::credentials::Login;
use crate::registry::error::RegistryError;

/// Whether a short name may be tried at more than one registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ShortNameMode {
    /// A name with more than one meaning is an error.
    #[default]
    Enforcing,
    /// All meanings are tried in order.
    Disabled,
}

/// One place that may have an image, and how to speak to it.
#[derive(Debug, Clone)]
pub struct Source {
    pub(super) logical: Reference,
    pub(super) physical: Reference,
    pub(super) insecure: bool,
    pub(super) login: Option<Login>,
    pub(super) mirror: bool,
}

impl Source {
    /// The reference as the user and the policy know it.
    #[must_use]
    pub fn logical(&self) -> &Reference {
        &self.logical
    }

    /// Host and path that are really asked.
    #[must_use]
    pub fn location(&self) -> String {
        self.physical.repository()
    }

    /// The host that is really asked.
    #[must_use]
    pub fn host(&self) -> &str {
        self.physical.host()
    }

    /// Whether this is a mirror, and not the registry itself.
    #[must_use]
    pub fn is_mirror(&self) -> bool {
        self.mirror
    }
}

/// The full references that `text` can mean, in the order to try them.
///
/// What has neither tag nor digest gets `latest`; what has both keeps the digest alone.
pub(super) fn candidates(
    conf: &Conf,
    mode: ShortNameMode,
    text: &str,
) -> Result<Vec<Reference>, RegistryError> {
    let written = Written::parse(text)?;
    let whole = |reference: Reference| reference.without_tag_if_digested().or_latest();
    if let Some(host) = &written.host {
        return Ok(vec![whole(written.at(host)?)]);
    }
    if let Some(Some(alias)) = conf.aliases.get(&written.path) {
        let meant = Written { path: alias.path().to_owned(), ..written };
        return Ok(vec![whole(meant.at(alias.host())?)]);
    }
    let found: Vec<Reference> = conf
        .search
        .iter()
        .map(|host| written.at(host).map(whole))
        .collect::<Result<_, ReferenceError>>()?;
    if found.is_empty() {
        let path = conf.search_file.clone();
        return Err(RegistryError::Meaningless { name: text.to_owned(), path });
    }
    if mode == ShortNameMode::Enforcing && found.len() > 1 {
        let candidates: Vec<String> = found.iter().map(Reference::to_string).collect();
        let candidates = candidates.join(", ");
        return Err(RegistryError::Ambiguous { name: text.to_owned(), candidates });
    }
    Ok(found)
}

/// A place before its credentials are known.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) physical: Reference,
    pub(super) insecure: bool,
    pub(super) mirror: bool,
}

/// Where `reference` can be had: the mirrors that serve it, then the registry itself.
pub(super) fn places(conf: &Conf, reference: &Reference) -> Result<Vec<Place>, RegistryError> {
    let Some((prefix, entry)) = conf.find(reference) else {
        return Ok(vec![Place { physical: reference.clone(), insecure: false, mirror: false }]);
    };
    let blocked = |prefix: &str, path: &std::path::Path| RegistryError::Blocked {
        reference: reference.to_string(),
        prefix: prefix.to_owned(),
        path: path.to_owned(),
    };
    if entry.blocked {
        return Err(blocked(prefix, &entry.file));
    }
    let serves = |serves: Serves| match serves {
        Serves::All => true,
        Serves::Digests => reference.digest().is_some(),
        Serves::Tags => reference.digest().is_none(),
    };
    let mirrors = entry.mirrors.iter().filter(|mirror| serves(mirror.serves));
    let endpoints = mirrors
        .map(|mirror| (&mirror.endpoint, true))
        .chain(std::iter::once((&entry.endpoint, false)));
    let mut places = Vec::new();
    for (endpoint, mirror) in endpoints {
        let physical = rewritten(reference, prefix, endpoint).map_err(|source| {
            let fault =
                format!("the location {:?} does not fit {reference}: {source}", endpoint.location);
            RegistryError::Configuration { path: entry.file.clone(), fault }
        })?;
        // The place may have an entry of its own, which counts too.
        let own = conf.find(&physical);
        match own {
            Some((_, own)) if own.blocked && mirror => continue,
            Some((prefix, own)) if own.blocked => return Err(blocked(prefix, &own.file)),
            _ => {}
        }
        let insecure = endpoint.insecure || own.is_some_and(|(_, own)| own.endpoint.insecure);
        places.push(Place { physical, insecure, mirror });
    }
    Ok(places)
}

fn rewritten(
    reference: &Reference,
    prefix: &str,
    endpoint: &Endpoint,
) -> Result<Reference, ReferenceError> {
    if endpoint.location.is_empty() {
        return Ok(reference.clone());
    }
    let text = reference.to_string();
    let covered = matched(&text, reference.host(), prefix).unwrap_or_default();
    let rest = text.get(covered..).unwrap_or_default();
    let written = Written::parse(&format!("{}{rest}", endpoint.location))?;
    match &written.host {
        Some(host) => written.at(host),
        None => Err(ReferenceError::Short(endpoint.location.clone())),
    }
}

#[cfg(test)]
#[path = "names_tests.rs"]
mod tests;
