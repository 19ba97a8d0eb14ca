//! The account of what the policy was asked, for whoever has to answer for it later.
//!
//! Every pull and every create that is judged leaves one record: who asked, for which image, by which
//! policy file, with which outcome and why. A record is one line of JSON in a file that this room
//! rotates, and an entry of the journal where there is one. What a foreign party wrote is cut and
//! escaped: it can neither end a line nor move a cursor.
//!
//! A record that cannot be written is never dropped silently: [`Audit::add`] says so, and whoever
//! asks decides what that means.
//!
//! Not here: judging (`judge`), and the daemon's log (`telemetry`). Records outlive a crash of the
//! daemon; nothing waits for the disk, so the last ones may not outlive a loss of power.

mod file;
mod journal;
mod record;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

pub use crate::audit::record::Mode;
pub use crate::audit::record::Outcome;
pub use crate::audit::record::Pod;
pub use crate::audit::record::Record;

use crate::audit::file::Rotated;
use crate::audit::journal::Journal;
use crate::failure::Classify;
use crate::failure::Kind;

/// Where systemd-journald takes entries.
pub const JOURNAL: &str = "/run/systemd/journal/socket";

/// Where records go.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The file; `None` writes none.
    pub file: Option<PathBuf>,
    /// The size at which it is rotated, in bytes.
    pub size_max: u64,
    /// How many old files are kept beside it.
    pub count: u32,
    /// The journal's socket; `None` sends nothing there.
    pub journal: Option<PathBuf>,
    /// Nothing may happen that is not on record.
    pub required: bool,
}

/// Why a record is not written.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The file cannot be written.
    #[error("cannot write the audit record to {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The journal does not take it.
    #[error("the journal at {} does not take the audit record", path.display())]
    Journal {
        /// Its socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no file and no journal, and a record is required.
    #[error(
        "an audit record is required and there is no place for it; set audit_log, or audit_journald where journald runs"
    )]
    Nowhere,
}

impl Classify for AuditError {
    fn kind(&self) -> Kind {
        match self {
            Self::File { source, .. } | Self::Journal { source, .. } => {
                crate::failure::io_kind(source)
            }
            Self::Nowhere => Kind::Internal,
        }
    }
}

/// The account. Copies of it are the same one.
#[derive(Debug, Clone)]
pub struct Audit {
    places: Arc<Places>,
}

#[derive(Debug)]
struct Places {
    file: Option<Rotated>,
    journal: Option<Journal>,
    required: bool,
}

impl Audit {
    /// An account that goes where the settings say. Opens nothing yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let Settings { file, size_max, count, journal, required } = settings;
        let places = Places {
            file: file.map(|path| Rotated::new(path, size_max, count)),
            journal: journal.map(Journal::new),
            required,
        };
        Self { places: Arc::new(places) }
    }

    /// An account that nobody keeps: for questions that change nothing.
    #[must_use]
    pub fn none() -> Self {
        Self::new(Settings::default())
    }

    /// Whether nothing may happen that is not on record.
    #[must_use]
    pub fn is_required(&self) -> bool {
        self.places.required
    }

    /// Writes a record everywhere it belongs. Blocks on the disk.
    ///
    /// # Errors
    ///
    /// [`AuditError`] for the first place that did not take it; the others have it.
    pub fn add(&self, record: &Record) -> Result<(), AuditError> {
        let Places { file, journal, required } = &*self.places;
        let to_file = file.as_ref().map(|file| {
            file.add(&record.line())
                .map_err(|source| AuditError::File { path: file.path().to_owned(), source })
        });
        let to_journal = journal.as_ref().and_then(|journal| match journal.send(record) {
            Ok(()) => Some(Ok(())),
            // A machine without systemd has no journal.
            Err(error) if is_nobody(&error) => None,
            Err(source) => {
                Some(Err(AuditError::Journal { path: journal.path().to_owned(), source }))
            }
        });
        let nowhere = to_file.is_none() && to_journal.is_none();
        to_file.unwrap_or(Ok(()))?;
        to_journal.unwrap_or(Ok(()))?;
        if nowhere && *required { Err(AuditError::Nowhere) } else { Ok(()) }
    }

    /// Looks whether a record can be written, at a time when somebody looks.
    ///
    /// # Errors
    ///
    /// [`AuditError::File`], and [`AuditError::Nowhere`] where there is no place for any.
    pub fn look(&self) -> Result<(), AuditError> {
        match &self.places.file {
            None if self.places.required && self.places.journal.is_none() => {
                Err(AuditError::Nowhere)
            }
            None => Ok(()),
            Some(file) => file
                .look()
                .map_err(|source| AuditError::File { path: file.path().to_owned(), source }),
        }
    }
}

fn is_nobody(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests;
