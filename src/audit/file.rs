//! A file that lines are added to, and that is put aside when it is large.

use std::fs::DirBuilder;
use std::fs::File;
use std::io;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;

use crate::sys::files;

/// Who may read the file: its owner.
const MODE: u32 = 0o600;

/// `path`, and `path.1`, `path.2`, …, of which the last is the oldest.
#[derive(Debug)]
pub(super) struct Rotated {
    path: PathBuf,
    size_max: u64,
    count: u32,
    open: Mutex<Option<Open>>,
}

/// The file as it was opened.
#[derive(Debug)]
struct Open {
    file: File,
    size: u64,
}

impl Rotated {
    pub(super) fn new(path: PathBuf, size_max: u64, count: u32) -> Self {
        Self { path, size_max, count, open: Mutex::default() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Adds a line with one write, so that no reader sees half of it.
    pub(super) fn add(&self, line: &[u8]) -> io::Result<()> {
        let mut held = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        // After a failure nothing is held: the next line opens the file anew.
        let mut open = match held.take().filter(|open| open.is_at(&self.path)) {
            Some(open) => open,
            None => Open::at(&self.path)?,
        };
        let more = u64::try_from(line.len()).unwrap_or(u64::MAX);
        if open.size > 0 && open.size.saturating_add(more) > self.size_max {
            self.put_aside()?;
            open = Open::at(&self.path)?;
        }
        open.file.write_all(line)?;
        open.size += more;
        *held = Some(open);
        Ok(())
    }

    /// Opens the file, as the next line will.
    pub(super) fn look(&self) -> io::Result<()> {
        let mut held = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        *held = Some(Open::at(&self.path)?);
        Ok(())
    }

    /// Moves every file one number up, as far as there are any; the last one goes.
    fn put_aside(&self) -> io::Result<()> {
        let numbered = |number: u32| match number {
            0 => self.path.clone(),
            _ => {
                let mut name = self.path.clone().into_os_string();
                name.push(format!(".{number}"));
                PathBuf::from(name)
            }
        };
        // Not from the configured end: every answer of the policy waits meanwhile, and it may be far.
        let is_there = |number: &u32| numbered(*number).symlink_metadata().is_ok();
        let free = (1..=self.count).find(|number| !is_there(number)).unwrap_or(self.count);
        files::remove(&numbered(free))?;
        for number in (0..free).rev() {
            match std::fs::rename(numbered(number), numbered(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

impl Open {
    fn at(path: &Path) -> io::Result<Self> {
        if let Some(directory) = path.parent().filter(|directory| !directory.exists()) {
            DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        }
        let mut file = files::append(path, MODE)?;
        let mut size = file.metadata()?.len();
        if size > 0 {
            let mut last = [0];
            file.read_exact_at(&mut last, size - 1)?;
            // A line that a full disk cut off must not swallow the next one.
            if last != *b"\n" {
                file.write_all(b"\n")?;
                size += 1;
            }
        }
        Ok(Self { file, size })
    }

    /// Whether it still is the file of that name: others may have put it aside or removed it.
    fn is_at(&self, path: &Path) -> bool {
        let place = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
        let ours = self.file.metadata().map(place).ok();
        ours.is_some() && std::fs::symlink_metadata(path).map(place).ok() == ours
    }
}
