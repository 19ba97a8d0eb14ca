//! The JSON indexes of a store: read when someone wrote, written as a whole.
//!
//! An index is one or two files that hold lists of records, and the lock that guards them. What
//! was read is kept, and read again when the lock's token or one of the files is another than
//! before (`podman load` writes the token; an archive extracted over the store replaces the
//! files). A record keeps every field that it came with, known or not, and gives it back when it
//! is written: this program is not the only one, nor the newest, that uses the store.
//!
//! A record that this program cannot make sense of is kept and not shown.

use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use serde_json::Map;
use serde_json::Value;

use crate::storage::error::StorageError;
use crate::storage::lockfile::Hold;
use crate::storage::lockfile::LockFile;
use crate::storage::lockfile::Token;
use crate::sys::files;
use crate::sys::files::Durability;
use crate::sys::files::Links;
use crate::sys::files::Stamp;

/// The largest index that is read, in bytes.
const LIMIT: u64 = 512 * 1024 * 1024;

/// The fields of a record.
pub(super) type Fields = Map<String, Value>;

/// What an index is a list of.
pub(super) trait Record: Sized {
    /// Makes sense of the fields of a record from the index's file number `file`.
    fn read(fields: &Fields, file: usize) -> Option<Self>;
}

/// A record, and where it is kept.
#[derive(Debug)]
pub(super) struct Row<T> {
    /// All its fields.
    pub(super) fields: Fields,
    /// What they say; `None` if they make no sense.
    pub(super) record: Option<Arc<T>>,
    /// The number of the file that it is kept in.
    pub(super) file: usize,
}

impl<T> Clone for Row<T> {
    fn clone(&self) -> Self {
        Self { fields: self.fields.clone(), record: self.record.clone(), file: self.file }
    }
}

impl<T: Record> Row<T> {
    /// A record of these fields.
    pub(super) fn new(fields: Fields, file: usize) -> Self {
        let record = T::read(&fields, file).map(Arc::new);
        Self { fields, record, file }
    }

    /// Changes some fields.
    pub(super) fn edit(&mut self, change: impl FnOnce(&mut Fields)) {
        change(&mut self.fields);
        self.record = T::read(&self.fields, self.file).map(Arc::new);
    }
}

/// The records at one moment.
#[derive(Debug)]
pub(super) struct Snapshot<T> {
    rows: Arc<Vec<Row<T>>>,
    /// Grows whenever the records are others than before.
    pub(super) generation: u64,
}

impl<T> Default for Snapshot<T> {
    /// No records.
    fn default() -> Self {
        Self { rows: Arc::default(), generation: 0 }
    }
}

impl<T> Snapshot<T> {
    /// All records, those that make no sense among them.
    pub(super) fn rows(&self) -> &[Row<T>] {
        &self.rows
    }

    /// The records that make sense.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<T>> {
        self.rows.iter().filter_map(|row| row.record.as_ref())
    }
}

/// Which files an index is kept in.
#[derive(Debug, Clone)]
pub(super) struct IndexFile {
    /// Where.
    pub(super) path: PathBuf,
    /// What it must survive.
    pub(super) durability: Durability,
}

impl IndexFile {
    fn is_kept(&self) -> bool {
        self.durability == Durability::Machine
    }

    fn is_cut(&self) -> bool {
        self.is_kept() && std::fs::metadata(&self.path).is_ok_and(|found| found.len() == 0)
    }
}

#[derive(Debug)]
struct State<T> {
    lock: LockFile,
    token: Option<Token>,
    stamps: Vec<Option<Stamp>>,
    rows: Arc<Vec<Row<T>>>,
    generation: u64,
}

/// An index.
#[derive(Debug)]
pub(super) struct Index<T> {
    lock_path: PathBuf,
    files: Vec<IndexFile>,
    state: Mutex<State<T>>,
}

impl<T: Record> Index<T> {
    /// An index in these files, guarded by the lock file at `lock`. Nothing is read yet.
    pub(super) fn new(lock: PathBuf, files: Vec<IndexFile>) -> Self {
        let state = State {
            lock: LockFile::new(lock.clone()),
            token: None,
            stamps: vec![None; files.len()],
            rows: Arc::default(),
            generation: 0,
        };
        Self { lock_path: lock, files, state: Mutex::new(state) }
    }

    /// The records as they are now.
    pub(super) fn snapshot(&self) -> Result<Snapshot<T>, StorageError> {
        let held = self.hold(Hold::Read)?;
        Ok(Snapshot { rows: Arc::clone(&held.state.rows), generation: held.state.generation })
    }

    /// Renames a file of this index away, which is no index. `false` if it is none of its files.
    ///
    /// # Errors
    ///
    /// What the kernel says; and that it is an index by now, as another program wrote it anew.
    pub(super) fn put_aside(&self, path: &Path, to: &Path) -> io::Result<bool> {
        let Some(file) = self.files.iter().find(|file| file.path == path) else {
            return Ok(false);
        };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.token = None;
        state.lock.lock(Hold::Write)?;
        let done = match read(path) {
            Ok(_) if !file.is_cut() => Err(io::Error::other("it can be read by now")),
            _ => state.lock.renew().and_then(|_| std::fs::rename(path, to)),
        };
        state.lock.unlock();
        done.map(|()| true)
    }

    /// The file that is empty, though an index of nothing is written as a list of none: a power loss
    /// cut it. What need not survive one is not asked.
    pub(super) fn cut(&self) -> Option<&Path> {
        let cut = self.files.iter().find(|file| file.is_cut());
        cut.map(|file| file.path.as_path())
    }

    /// A file of this index that was put aside, and still lies there. What need not survive a power
    /// loss may be lost with one.
    pub(super) fn aside(&self) -> Option<PathBuf> {
        self.files.iter().filter(|file| file.is_kept()).find_map(|file| {
            let begin = format!("{}.damaged-", file.path.file_name()?.to_str()?);
            let entries = std::fs::read_dir(file.path.parent()?).ok()?;
            let mut names = entries.flatten().map(|entry| entry.path());
            names.find(|path| {
                path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&begin))
            })
        })
    }

    /// Takes the lock, and keeps it as long as the answer lives.
    pub(super) fn hold(&self, hold: Hold) -> Result<Held<'_, T>, StorageError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.lock.lock(hold).map_err(StorageError::io("lock", &self.lock_path))?;
        let mut held = Held { index: self, state };
        held.refresh()?;
        Ok(held)
    }
}

/// An index whose lock is held.
#[derive(Debug)]
pub(super) struct Held<'a, T> {
    index: &'a Index<T>,
    state: MutexGuard<'a, State<T>>,
}

impl<T> Drop for Held<'_, T> {
    fn drop(&mut self) {
        self.state.lock.unlock();
    }
}

impl<T: Record> Held<'_, T> {
    /// The records that make sense.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<T>> {
        self.state.rows.iter().filter_map(|row| row.record.as_ref())
    }

    /// All records, to be changed. Nothing is written until [`Held::save`]; what is not saved is
    /// forgotten.
    pub(super) fn rows(&mut self) -> &mut Vec<Row<T>> {
        self.state.token = None;
        Arc::make_mut(&mut self.state.rows)
    }

    /// Writes the index's file of this number. The lock is held for writing.
    pub(super) fn save(&mut self, number: usize) -> Result<(), StorageError> {
        let Some(file) = self.index.files.get(number) else { return Ok(()) };
        let rows: Vec<_> = self.state.rows.iter().filter(|row| row.file == number).collect();
        let fields: Vec<&Fields> = rows.iter().map(|row| &row.fields).collect();
        let text = serde_json::to_vec(&fields)
            .map_err(|source| StorageError::Damaged { path: file.path.clone(), source })?;
        drop(rows);
        // Until all is done, what is in memory is not what is on disk. The token goes first: a
        // reader that comes after a crash between the two reads once too often, never too seldom.
        self.state.token = None;
        let token =
            self.state.lock.renew().map_err(StorageError::io("write", &self.index.lock_path))?;
        files::replace(&file.path, &text, 0o600, file.durability)
            .map_err(StorageError::io("write", &file.path))?;
        let stamp = stamp(&file.path)?;
        if let Some(slot) = self.state.stamps.get_mut(number) {
            *slot = stamp;
        }
        self.state.token = Some(token);
        self.state.generation += 1;
        Ok(())
    }

    fn refresh(&mut self) -> Result<(), StorageError> {
        let token =
            self.state.lock.token().map_err(StorageError::io("read", &self.index.lock_path))?;
        let stamps: Vec<_> =
            self.index.files.iter().map(|file| stamp(&file.path)).collect::<Result<_, _>>()?;
        if self.state.token.as_ref() == Some(&token) && self.state.stamps == stamps {
            return Ok(());
        }
        let mut rows = Vec::new();
        for (number, file) in self.index.files.iter().enumerate() {
            for fields in read(&file.path)? {
                rows.push(Row::new(fields, number));
            }
        }
        self.state.rows = Arc::new(rows);
        self.state.token = Some(token);
        self.state.stamps = stamps;
        self.state.generation += 1;
        Ok(())
    }
}

fn read(path: &Path) -> Result<Vec<Fields>, StorageError> {
    let bytes = match files::read(path, LIMIT, Links::Follow) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(StorageError::io("read", path)(source)),
    };
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    // `null` is what others write for an empty list.
    let list: Option<Vec<Fields>> = serde_json::from_slice(&bytes)
        .map_err(|source| StorageError::Damaged { path: path.to_owned(), source })?;
    Ok(list.unwrap_or_default())
}

fn stamp(path: &Path) -> Result<Option<Stamp>, StorageError> {
    files::stamp(path).map_err(StorageError::io("read", path))
}

/// The text in this field; empty if there is none.
pub(super) fn text<'a>(fields: &'a Fields, key: &str) -> &'a str {
    fields.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The list of texts in this field.
pub(super) fn texts(fields: &Fields, key: &str) -> Vec<String> {
    let list = fields.get(key).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Whether the flag of this name is set in the record.
pub(super) fn flag(fields: &Fields, name: &str) -> bool {
    fields.get("flags").and_then(|flags| flags.get(name)).and_then(Value::as_bool) == Some(true)
}

/// The time in this field, if it is one.
pub(super) fn time(fields: &Fields, key: &str) -> Option<time::OffsetDateTime> {
    let format = &time::format_description::well_known::Rfc3339;
    time::OffsetDateTime::parse(text(fields, key), format).ok()
}

/// The time now, as records have it.
pub(super) fn now() -> String {
    let format = &time::format_description::well_known::Rfc3339;
    let now = time::OffsetDateTime::now_utc();
    now.format(format).unwrap_or_else(|_| "1970-01-01T00:00:00Z".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Name(String);

    impl Record for Name {
        fn read(fields: &Fields, _: usize) -> Option<Self> {
            Some(Self(fields.get("id")?.as_str()?.to_owned()))
        }
    }

    fn index(directory: &Path) -> Index<Name> {
        let file = |name: &str, durability| IndexFile { path: directory.join(name), durability };
        let files = vec![file("a.json", Durability::Machine), file("b.json", Durability::Process)];
        Index::new(directory.join("a.lock"), files)
    }

    fn names(index: &Index<Name>) -> Vec<String> {
        index.snapshot().unwrap().iter().map(|name| name.0.clone()).collect()
    }

    #[test]
    fn another_writer_is_seen_and_unknown_fields_stay() {
        let directory = tempfile::tempdir().unwrap();
        let text = r#"[{"id":"one","from-the-future":{"a":[1]}},{"what":"is this"}]"#;
        files::replace(
            &directory.path().join("a.json"),
            text.as_bytes(),
            0o600,
            Durability::Process,
        )
        .unwrap();
        let (mine, theirs) = (index(directory.path()), index(directory.path()));
        assert_eq!(names(&mine), ["one"]);
        assert_eq!(names(&theirs), ["one"]);
        let mut held = theirs.hold(Hold::Write).unwrap();
        let fields = serde_json::from_str(r#"{"id":"two"}"#).unwrap();
        held.rows().push(Row::new(fields, 0));
        held.save(0).unwrap();
        drop(held);
        assert_eq!(names(&mine), ["one", "two"]);
        let written = std::fs::read_to_string(directory.path().join("a.json")).unwrap();
        assert!(written.contains(r#""from-the-future":{"a":[1]}"#), "{written}");
        assert!(written.contains(r#"{"what":"is this"}"#), "{written}");
    }

    #[test]
    fn files_put_in_place_without_the_lock_are_seen() {
        let directory = tempfile::tempdir().unwrap();
        let index = index(directory.path());
        assert!(names(&index).is_empty());
        let path = directory.path().join("b.json");
        for (text, expected) in [("[{\"id\":\"x\"}]", vec!["x"]), ("null", vec![]), ("", vec![])] {
            files::replace(&path, text.as_bytes(), 0o600, Durability::Process).unwrap();
            assert_eq!(names(&index), expected);
        }
        files::replace(&path, b"[{", 0o600, Durability::Process).unwrap();
        assert!(matches!(index.snapshot(), Err(StorageError::Damaged { .. })));
    }
}
