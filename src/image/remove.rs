//! Removes an image, or one of its names.

use std::sync::Arc;

use crate::image::Images;
use crate::image::blocking;
use crate::image::error::ImageError;
use crate::model::change::Change;
use crate::model::ids::ImageId;

impl Images {
    /// Removes what `text` names: an ID takes the image with all its names; a name takes itself,
    /// and the image when it was the last one. What is not there is fine.
    ///
    /// # Errors
    ///
    /// [`ImageError::Store`] when a container uses the image.
    pub async fn remove(&self, text: &str) -> Result<Change, ImageError> {
        let catalog = Arc::clone(&self.parts.catalog);
        let store = self.parts.store.clone();
        let (text, artifacts) = (text.to_owned(), self.parts.artifacts.clone());
        blocking(move || {
            let Some(image) = catalog.find(&text)? else { return Ok(Change::Unchanged(())) };
            if let Some(artifact) = &image.artifact {
                let wanted = catalog.names_of(&image, &text);
                let names = (!by_id(&text, &image.id)).then_some(wanted.as_slice());
                let removed = artifacts
                    .remove(&artifact.digest, names)
                    .map_err(|source| ImageError::Artifact { reference: text.clone(), source })?;
                return Ok(if removed { Change::Made(()) } else { Change::Unchanged(()) });
            }
            if by_id(&text, &image.id) {
                return Ok(store.remove_image(&image.id)?);
            }
            let wanted = catalog.names_of(&image, &text);
            let others = store
                .image(&image.id)?
                .is_some_and(|image| image.names.iter().any(|name| !wanted.contains(name)));
            if others {
                Ok(store.remove_names(&image.id, &wanted)?)
            } else {
                Ok(store.remove_image(&image.id)?)
            }
        })
        .await
    }
}

/// Whether `text` is the image's ID or the beginning of it.
fn by_id(text: &str, id: &ImageId) -> bool {
    let text = text.strip_prefix("sha256:").unwrap_or(text);
    !text.is_empty() && id.as_str().starts_with(text)
}
