//! Records of one kind, by id: in memory for questions, on disk for the next start.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::Mutex as StdMutex;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::sync::RwLockReadGuard;
use std::sync::RwLockWriteGuard;

use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;
use tokio::sync::OwnedMutexGuard;

use crate::state::error::StateError;
use crate::sys::files;
use crate::sys::files::Durability;
use crate::sys::files::Links;

/// The largest record file that is read, in bytes.
const RECORD_LIMIT: u64 = 8 * 1024 * 1024;
/// The version of the file format that this program writes.
const FORMAT: u32 = 1;

/// Something that a [`Table`] keeps.
pub trait Record: Clone + PartialEq + Serialize + DeserializeOwned {
    /// What to call it in an error.
    const WHAT: &'static str;
}

/// The file's form: the version beside the record.
#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    format: u32,
    record: T,
}

struct Row<T> {
    value: Arc<T>,
    turn: Arc<Mutex<()>>,
}

/// What a table has in memory.
pub(super) struct Rows<K, T>(RwLock<BTreeMap<K, Row<T>>>);

/// Is told what a record was before a change and is after it; nothing stands for no record.
pub(super) type Tell<T> = Box<dyn Fn(Option<&Arc<T>>, Option<&Arc<T>>) + Send + Sync>;

/// Records of one kind, by id.
pub struct Table<K, T> {
    path: Box<dyn Fn(&K) -> PathBuf + Send + Sync>,
    rows: Arc<Rows<K, T>>,
    /// Held over a change and while it is told, so that all see the same order.
    order: Arc<StdMutex<()>>,
    tell: Option<Tell<T>>,
}

/// What a look-up by the beginning of an id gives.
pub type Found<T> = Result<Arc<T>, StateError>;

impl<K, T> fmt::Debug for Table<K, T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Table").finish_non_exhaustive()
    }
}

impl<K, T> fmt::Debug for Rows<K, T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Rows").finish_non_exhaustive()
    }
}

impl<K: Ord, T> Rows<K, T> {
    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<K, Row<T>>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<K, Row<T>>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The record of this id.
    pub(super) fn by_id(&self, id: &K) -> Option<Arc<T>> {
        self.read().get(id).map(|row| Arc::clone(&row.value))
    }

    /// All records, in the order of their ids.
    pub(super) fn all(&self) -> Vec<Arc<T>> {
        self.read().values().map(|row| Arc::clone(&row.value)).collect()
    }
}

impl<K: Ord + Clone + FromStr + AsText, T: Record> Table<K, T> {
    pub(super) fn new(path: impl Fn(&K) -> PathBuf + Send + Sync + 'static) -> Self {
        Self {
            path: Box::new(path),
            rows: Arc::new(Rows(RwLock::default())),
            order: Arc::default(),
            tell: None,
        }
    }

    /// What is in memory, for others to look at.
    pub(super) fn rows(&self) -> Arc<Rows<K, T>> {
        Arc::clone(&self.rows)
    }

    /// Tells each change, one after the other among all tables with the same `order`.
    pub(super) fn telling(mut self, order: Arc<StdMutex<()>>, tell: Tell<T>) -> Self {
        self.order = order;
        self.tell = Some(tell);
        self
    }

    fn told(&self, before: Option<&Arc<T>>, after: Option<&Arc<T>>) {
        if let Some(tell) = &self.tell {
            tell(before, after);
        }
    }

    /// Adds or replaces a record, on disk first.
    ///
    /// # Errors
    ///
    /// [`StateError::Write`]; nothing has changed then.
    pub fn insert(&self, id: &K, value: T) -> Result<Arc<T>, StateError> {
        self.put(id, value, Arc::default())
    }

    /// Adds a record as [`Table::insert`] does, its turn taken already: nobody comes between.
    ///
    /// # Errors
    ///
    /// [`StateError::Write`]; nothing has changed then.
    pub fn insert_taken(
        &self,
        id: &K,
        value: T,
    ) -> Result<Option<OwnedMutexGuard<()>>, StateError> {
        let turn = Arc::new(Mutex::new(()));
        let guard = Arc::clone(&turn).try_lock_owned().ok();
        self.put(id, value, turn)?;
        Ok(guard)
    }

    fn put(&self, id: &K, value: T, turn: Arc<Mutex<()>>) -> Result<Arc<T>, StateError> {
        let _order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        self.write(id, &value)?;
        let value = Arc::new(value);
        let row = Row { value: Arc::clone(&value), turn };
        let before = self.rows.write().insert(id.clone(), row);
        self.told(before.map(|row| row.value).as_ref(), Some(&value));
        Ok(value)
    }

    /// Reads one record from disk into the table, as at a start.
    ///
    /// # Errors
    ///
    /// [`StateError::Read`], [`StateError::Cut`] and [`StateError::Malformed`].
    pub fn load(&self, id: &K) -> Result<Arc<T>, StateError> {
        let path = (self.path)(id);
        let bytes = files::read(&path, RECORD_LIMIT, Links::Refuse)
            .map_err(|source| StateError::Read { path: path.clone(), source })?;
        let envelope: Envelope<T> = serde_json::from_slice(&bytes).map_err(|source| {
            let path = path.clone();
            // A later version's record is JSON all the same.
            if source.is_data() {
                StateError::Malformed { path, source }
            } else {
                StateError::Cut { path, source }
            }
        })?;
        if envelope.format != FORMAT {
            let source = serde::de::Error::custom(format_args!(
                "it has format {}, this version knows {FORMAT}",
                envelope.format
            ));
            return Err(StateError::Malformed { path, source });
        }
        let value = Arc::new(envelope.record);
        let row = Row { value: Arc::clone(&value), turn: Arc::default() };
        self.rows.write().insert(id.clone(), row);
        Ok(value)
    }

    /// Changes a record, on disk first. Gives the new one, or `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`StateError::Write`]; nothing has changed then.
    pub fn update(
        &self,
        id: &K,
        change: impl FnOnce(&mut T),
    ) -> Result<Option<Arc<T>>, StateError> {
        let _order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        // Only who holds the order changes rows: readers need not wait for the disk.
        let Some(before) = self.rows.by_id(id) else { return Ok(None) };
        let mut value = T::clone(&before);
        change(&mut value);
        if value == *before {
            return Ok(Some(before));
        }
        self.write(id, &value)?;
        let after = Arc::new(value);
        if let Some(row) = self.rows.write().get_mut(id) {
            row.value = Arc::clone(&after);
        }
        self.told(Some(&before), Some(&after));
        Ok(Some(after))
    }

    /// Takes a record out, on disk first. The directory stays: it is its owner's to remove.
    ///
    /// # Errors
    ///
    /// [`StateError::Write`] when the file cannot be removed.
    pub fn remove(&self, id: &K) -> Result<(), StateError> {
        let _order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        let path = (self.path)(id);
        files::remove(&path).map_err(|source| StateError::Write { path, source })?;
        let before = self.rows.write().remove(id);
        self.told(before.map(|row| row.value).as_ref(), None);
        Ok(())
    }

    /// The record of this id.
    #[must_use]
    pub fn by_id(&self, id: &K) -> Option<Arc<T>> {
        self.rows.by_id(id)
    }

    /// All records, in the order of their ids.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<T>> {
        self.rows.all()
    }

    /// The record whose id is, or begins with, `text`.
    ///
    /// # Errors
    ///
    /// [`StateError::Unknown`] and [`StateError::Ambiguous`].
    pub fn find(&self, text: &str) -> Found<T> {
        let unknown = || StateError::Unknown { what: T::WHAT, id: text.chars().take(80).collect() };
        if let Ok(id) = text.parse::<K>() {
            return self.by_id(&id).ok_or_else(unknown);
        }
        let rows = self.rows.read();
        let mut matches =
            rows.iter().filter(|(id, _)| !text.is_empty() && id.text().starts_with(text));
        match (matches.next(), matches.next()) {
            (Some((_, row)), None) => Ok(Arc::clone(&row.value)),
            (Some(_), Some(_)) => Err(StateError::Ambiguous { what: T::WHAT, id: text.to_owned() }),
            (None, _) => Err(unknown()),
        }
    }

    /// Waits for this record's turn: verbs that change one thing go one after another.
    ///
    /// `None` if there is no such record.
    pub async fn turn(&self, id: &K) -> Option<OwnedMutexGuard<()>> {
        let turn = {
            let rows = self.rows.read();
            Arc::clone(&rows.get(id)?.turn)
        };
        Some(turn.lock_owned().await)
    }

    /// Whether a verb is under way that took this record's turn.
    #[must_use]
    pub fn is_taken(&self, id: &K) -> bool {
        let rows = self.rows.read();
        rows.get(id).is_some_and(|row| row.turn.try_lock().is_err())
    }

    fn write(&self, id: &K, record: &T) -> Result<(), StateError> {
        let path = (self.path)(id);
        let wrap = |source: std::io::Error| StateError::Write { path: path.clone(), source };
        let bytes = serde_json::to_vec(&Envelope { format: FORMAT, record })
            .map_err(|error| wrap(error.into()))?;
        let directory = path.parent().unwrap_or(Path::new("/"));
        std::fs::create_dir_all(directory).map_err(wrap)?;
        files::replace(&path, &bytes, 0o600, Durability::Process).map_err(wrap)
    }
}

/// An id as text.
pub trait AsText {
    /// The text.
    fn text(&self) -> &str;
}

impl AsText for crate::model::ids::SandboxId {
    fn text(&self) -> &str {
        self.as_str()
    }
}

impl AsText for crate::model::ids::ContainerId {
    fn text(&self) -> &str {
        self.as_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::ContainerId;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Note(String);

    impl Record for Note {
        const WHAT: &'static str = "note";
    }

    fn table(directory: &Path) -> Table<ContainerId, Note> {
        let directory = directory.to_owned();
        Table::new(move |id: &ContainerId| directory.join(id.as_str()).join("record.json"))
    }

    fn id(digit: char) -> ContainerId {
        digit.to_string().repeat(64).parse().unwrap()
    }

    #[test]
    fn what_was_answered_is_there_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let before = table(directory.path());
        before.insert(&id('a'), Note("one".into())).unwrap();
        before.update(&id('a'), |note| note.0.push('!')).unwrap();
        let after = table(directory.path());
        assert_eq!(after.load(&id('a')).unwrap().0, "one!");
        assert_eq!(after.find("aaaa").unwrap().0, "one!");
        after.remove(&id('a')).unwrap();
        assert!(table(directory.path()).load(&id('a')).is_err());
    }

    #[test]
    fn the_beginning_of_an_id_must_be_of_one_record() {
        let directory = tempfile::tempdir().unwrap();
        let table = table(directory.path());
        let other: ContainerId = format!("ab{}", "0".repeat(62)).parse().unwrap();
        table.insert(&id('a'), Note("one".into())).unwrap();
        table.insert(&other, Note("two".into())).unwrap();
        assert!(matches!(table.find("a"), Err(StateError::Ambiguous { .. })));
        assert!(matches!(table.find(""), Err(StateError::Unknown { .. })));
        assert!(matches!(table.find("../x"), Err(StateError::Unknown { .. })));
        assert_eq!(table.find("ab").unwrap().0, "two");
    }

    #[tokio::test]
    async fn a_turn_is_seen_by_others_while_it_lasts() {
        let directory = tempfile::tempdir().unwrap();
        let table = table(directory.path());
        assert!(!table.is_taken(&id('a')) && table.turn(&id('a')).await.is_none());
        let turn = table.insert_taken(&id('a'), Note("one".into())).unwrap();
        assert!(turn.is_some() && table.is_taken(&id('a')));
        drop(turn);
        assert!(!table.is_taken(&id('a')));
    }

    #[test]
    fn a_record_of_a_later_format_is_not_guessed_at() {
        let directory = tempfile::tempdir().unwrap();
        let table = table(directory.path());
        table.insert(&id('a'), Note("one".into())).unwrap();
        let path = directory.path().join(id('a').as_str()).join("record.json");
        files::replace(&path, br#"{"format":9,"record":"x"}"#, 0o600, Durability::Process).unwrap();
        assert!(matches!(table.load(&id('a')), Err(StateError::Malformed { .. })));
    }
}
