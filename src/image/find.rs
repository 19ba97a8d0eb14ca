//! Finds evidence for a create, where the administrator wants that: by the digest of the manifest, and
//! of the index that the name leads to, from the registry that the name says, with the node's own
//! credentials.
//!
//! A name chooses no image here: what is judged is the manifest that is on the node. An index is of use
//! if the name leads through it to this very manifest; where it leads elsewhere by now, as a tag that
//! was moved, there is what belongs to the manifest alone.

use std::time::Duration;

use crate::failure::Classify;
use crate::failure::Kind;
use crate::image::Verifier;
use crate::image::error::ImageError;
use crate::judge::Case;
use crate::judge::FindError;
use crate::judge::Finder;
use crate::policy::Evidence;
use crate::policy::Subject;
use crate::registry::Credentials;

/// How long looking up may take; the kubelet waits two minutes for a container.
const PATIENCE: Duration = Duration::from_secs(30);

impl Finder for Verifier {
    fn find(&self, subject: &Subject<'_>, case: &Case) -> Result<Evidence, FindError> {
        let looking = tokio::time::timeout(PATIENCE, self.look_up(subject, case));
        let found = tokio::runtime::Handle::current().block_on(looking);
        let late = format!("the registry did not answer within {} seconds", PATIENCE.as_secs());
        found
            .map_err(|_| FindError::new(Kind::Deadline, late))?
            .map_err(|error| FindError::new(error.kind(), error))
    }
}

impl Verifier {
    async fn look_up(&self, subject: &Subject<'_>, case: &Case) -> Result<Evidence, ImageError> {
        let (name, manifest) = (subject.reference, subject.manifest_digest);
        if name.digest() != Some(manifest) {
            match self.resolve(name, &Credentials::None).await {
                // Its own manifest, or one that an index lists, whose signatures count too.
                Ok(resolved) if resolved.digest == *manifest => {
                    return self.gather(case, name, &resolved, PATIENCE).await;
                }
                Ok(_) => {}
                Err(error) if error.kind() == Kind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let pinned = name.with_digest(manifest).without_tag_if_digested();
        let resolved = self.resolve(&pinned, &Credentials::None).await?;
        self.gather(case, name, &resolved, PATIENCE).await
    }
}
