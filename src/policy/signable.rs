//! Of what a signature on the image may be: its manifest, or an index that lists the manifest.
//!
//! An index is a list of digests, so whoever signs its bytes vouches for the manifests in it. That
//! counts only with these very bytes at hand, which are kept for that as evidence: they have the
//! digest that is signed, mean one thing only, and name the manifest as an image for a platform. What
//! an index lists that is an index again, an index vouches for no more.

use crate::oci::digest::Digest;
use crate::oci::document::Document;
use crate::oci::reference::Reference;
use crate::policy::Evidence;
use crate::policy::Subject;
use crate::policy::proof::Signed;

/// An image, and all that a signature on it may be of.
#[derive(Debug)]
pub(crate) struct Signable<'a> {
    /// The reference as the user wrote it.
    pub(crate) reference: &'a Reference,
    manifest: &'a Digest,
    indexes: Vec<Digest>,
}

impl<'a> Signable<'a> {
    /// `subject`, with those indexes of the evidence that list it.
    pub(crate) fn new(subject: &Subject<'a>, evidence: &Evidence) -> Self {
        let Subject { reference, manifest_digest: manifest } = *subject;
        let lists = |bytes: &&Vec<u8>| match Document::parse("", bytes) {
            Ok(Document::Index(index)) => index.lists(manifest),
            Ok(Document::Manifest(_)) | Err(_) => false,
        };
        let listing = evidence.indexes.iter().take(Evidence::INDEXES).filter(lists);
        Self { reference, manifest, indexes: listing.map(|bytes| Digest::sha256(bytes)).collect() }
    }

    /// What of it has this digest, if anything has.
    pub(crate) fn find(&self, digest: &Digest) -> Option<Signed> {
        if digest == self.manifest {
            return Some(Signed::Manifest(digest.clone()));
        }
        self.indexes.contains(digest).then(|| Signed::Index(digest.clone()))
    }
}
