//! Images as volumes: the layers of an image, mounted to be read only, and which containers use them.
//!
//! One mount serves all containers. It is that of the image's uppermost layer, counted once in
//! `mountpoints.json` as other programs do. Who uses it is one empty file for each container, in a
//! directory for each image: a crash loses no user, and a reboot takes the files with the mounts.

use std::io::ErrorKind;
use std::path::Path;
use std::path::PathBuf;

use crate::model::ids::ContainerId;
use crate::model::ids::ImageId;
use crate::model::ids::LayerId;
use crate::oci::digest::DiffId;
use crate::storage::Store;
use crate::storage::collect::ids_in;
use crate::storage::error::StorageError;
use crate::storage::index::Held;
use crate::storage::layers;
use crate::storage::lockfile::Hold;
use crate::storage::make_directories;
use crate::storage::overlay::Access;
use crate::storage::rootfs::How;
use crate::storage::rootfs::MountPoint;
use crate::storage::rootfs::count;
use crate::storage::rootfs::set_count;
use crate::sys::files;
use crate::sys::mount;

impl Store {
    /// Mounts an image, whose layers must be these archives, to be read, if it is not mounted already,
    /// and returns where it is. It stays until [`Store::unmount_images`] was called for the last
    /// container that it was mounted for.
    ///
    /// # Errors
    ///
    /// [`StorageError::ImageMissing`], [`StorageError::NoLayers`], [`StorageError::LayerMissing`],
    /// [`StorageError::OtherLayers`], and where the kernel does not mount it.
    pub fn mount_image(
        &self,
        id: &ImageId,
        archives: &[DiffId],
        user: &ContainerId,
    ) -> Result<PathBuf, StorageError> {
        self.own_mounts()?;
        // With the layers held, nobody removes the image.
        let held = self.inner.layers.hold(Hold::Read)?;
        let layer = self.top_layer(id)?.ok_or_else(|| StorageError::NoLayers(id.clone()))?;
        layers::must_be_of(&held, id, Some(&layer), archives)?;
        let mut mounts = self.inner.mounts.hold(Hold::Write)?;
        let users = self.users_of(id);
        make_directories(&users, 0o700)?;
        let first = ids_in::<ContainerId>(&users)?.is_empty();
        let mark = users.join(user.as_str());
        std::fs::File::create(&mark).map_err(StorageError::io("create", &mark))?;
        let target = self.layer_directory(&layer).join("merged");
        let mounted = self.have_mounted(&layer, &target, first, &mut mounts);
        if mounted.is_err() {
            files::remove(&mark).map_err(StorageError::io("remove", &mark))?;
        }
        mounted.map(|()| target)
    }

    fn have_mounted(
        &self,
        layer: &LayerId,
        target: &Path,
        first: bool,
        mounts: &mut Held<'_, MountPoint>,
    ) -> Result<(), StorageError> {
        let mounted = mount::is_mount_point(target).map_err(StorageError::io("look at", target))?;
        if !mounted {
            let how = How { label: None, access: Access::ReadOnly, user_namespace: None };
            self.mount_layer(layer, target, how)?;
        }
        // A count without a mount is from before someone unmounted it by hand.
        let others = if mounted { count(mounts, layer) } else { 0 };
        if mounted && !first {
            return Ok(());
        }
        set_count(mounts, layer, target, others + 1);
        let saved = mounts.save(0);
        if saved.is_err() && !mounted {
            let _ = mount::unmount(target);
        }
        saved
    }

    /// Takes a container from the users of all images, and unmounts those that were its alone.
    ///
    /// # Errors
    ///
    /// Where the kernel does not unmount one; called again, it goes on.
    pub fn unmount_images(&self, user: &ContainerId) -> Result<(), StorageError> {
        for image in self.mounted_images()? {
            let mark = self.users_of(&image).join(user.as_str());
            if mark.exists() {
                self.unmount_image(&image, &mark)?;
            }
        }
        Ok(())
    }

    fn unmount_image(&self, id: &ImageId, mark: &Path) -> Result<(), StorageError> {
        let _layers = self.inner.layers.hold(Hold::Read)?;
        let mut mounts = self.inner.mounts.hold(Hold::Write)?;
        let users = self.users_of(id);
        let last = ids_in::<ContainerId>(&users)?.len() == 1;
        // The mark goes last: as long as it is there, someone comes back to what is left.
        let layer = match self.top_layer(id) {
            // Another program removed the image, and unmounted it for that.
            Err(StorageError::ImageMissing(_)) => None,
            other => other?,
        };
        if last && let Some(layer) = layer {
            let others = count(&mounts, &layer).saturating_sub(1);
            if others == 0 {
                self.unmount_layer(&layer)?;
            }
            let target = self.layer_directory(&layer).join("merged");
            set_count(&mut mounts, &layer, &target, others);
            mounts.save(0)?;
        }
        files::remove(mark).map_err(StorageError::io("remove", mark))?;
        if last {
            files::remove_tree(&users).map_err(StorageError::io("remove", &users))?;
        }
        Ok(())
    }

    /// Takes away what containers that are not in the store any more have mounted.
    ///
    /// # Errors
    ///
    /// As [`Store::unmount_images`].
    pub fn collect_image_mounts(&self) -> Result<(), StorageError> {
        let containers = self.containers()?;
        for image in self.mounted_images()? {
            for user in self.image_mounted_by(&image)? {
                if !containers.iter().any(|container| container.id == user) {
                    self.unmount_images(&user)?;
                }
            }
        }
        Ok(())
    }

    /// The containers that have an image mounted as a volume.
    pub(super) fn image_mounted_by(&self, id: &ImageId) -> Result<Vec<ContainerId>, StorageError> {
        let users = self.users_of(id);
        if users.exists() { ids_in(&users) } else { Ok(Vec::new()) }
    }

    fn mounted_images(&self) -> Result<Vec<ImageId>, StorageError> {
        let all = self.image_volumes();
        match ids_in(&all) {
            Err(StorageError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
                Ok(Vec::new())
            }
            other => other,
        }
    }

    fn top_layer(&self, id: &ImageId) -> Result<Option<LayerId>, StorageError> {
        let images = self.inner.images.snapshot()?;
        let found = images.iter().find(|image| image.id == *id);
        let image = found.ok_or_else(|| StorageError::ImageMissing(id.clone()))?;
        Ok(image.top_layer().cloned())
    }

    fn users_of(&self, id: &ImageId) -> PathBuf {
        self.image_volumes().join(id.as_str())
    }

    fn image_volumes(&self) -> PathBuf {
        self.runroot().join("crioxide/image-volumes")
    }
}
