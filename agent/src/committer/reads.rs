//! Records which stored data cannot be read while the agent runs.
//!
//! A damaged place on a disk is noticed when it is read, perhaps weeks after the write. The reader gets an error, and
//! the operator has to be informed: the digests say that this replica has the fact, so no peer sends it again.

use bytes::Bytes;
use kvgossip_engine::{Reader, Replica, Snapshot, Storage, StorageError, View};
use kvgossip_grants::{EntryId, GrantId, Key};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Maximum number of failures that are remembered and logged. A disk that is gone would fill memory and log.
const MAX_NOTED: usize = 64;

/// Stored data that could not be read: an entry, or the keys of the entries that cite a grant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Entry(Key, EntryId),
    CitationsOf(GrantId),
}

/// Stored data that could not be read before and can be read now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadsAgain {
    /// Keys of all entries that can be read again; empty: none.
    Keys(Vec<Key>),
    /// More entries than were remembered: entries of any key may be readable again.
    Others,
}

/// Recent failures to read stored data, at most [`MAX_NOTED`].
#[derive(Default)]
pub(super) struct Noted(Mutex<BTreeMap<What, StorageError>>);

/// A reader of the store as of one commit, which records failures.
struct NotingReader {
    inner: Arc<dyn Reader>,
    /// State as of that commit: it says which records must exist.
    view: Arc<View>,
    noted: Arc<Noted>,
}

impl Noted {
    /// Returns the state of the last commit, with a reader that records its failures in this list.
    pub(super) fn snapshot(self: &Arc<Self>, replica: &Replica, storage: &dyn Storage) -> Snapshot {
        let view = Arc::new(replica.view().clone());
        let reader = NotingReader { inner: storage.reader(), view: view.clone(), noted: self.clone() };
        Snapshot { view, reader: Arc::new(reader) }
    }

    /// Returns one of the remembered failures, with the number of the others in its text; `None`: there is none.
    pub(super) fn trouble(&self) -> Option<StorageError> {
        let noted = self.0.lock();
        let error = noted.values().next()?.clone();
        let others = match noted.len() - 1 {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        let advice = format!(
            "{others}; everything else goes on: write the key again, or start the agent with --move-damaged-aside"
        );
        Some(with(error, "", &advice))
    }

    pub(super) fn look_again(&self, now: &Snapshot) -> ReadsAgain {
        let noted: Vec<What> = self.0.lock().keys().cloned().collect();
        let (was_full, mut keys) = (noted.len() == MAX_NOTED, Vec::new());
        for what in noted {
            let reads = match &what {
                What::Entry(key, id) => {
                    let is_live = is_live(&now.view, key, id);
                    let reads = is_live && matches!(now.reader.entry(key, id), Ok(Some(_)));
                    if reads {
                        keys.push(key.clone());
                    }
                    reads || !is_live
                }
                What::CitationsOf(grant) => now.reader.keys_citing(grant, &mut |_| {}).is_ok(),
            };
            if reads {
                self.0.lock().remove(&what);
            }
        }
        if self.0.lock().is_empty() {
            tracing::info!("what could not be read from the store reads again, or was written anew");
        }
        if was_full && !keys.is_empty() { ReadsAgain::Others } else { ReadsAgain::Keys(keys) }
    }

    fn note(&self, what: What, error: StorageError) -> StorageError {
        // Only damage and I/O errors are recorded; a closed store, for example, is not.
        if !matches!(error, StorageError::Damaged(_) | StorageError::Io(_)) {
            return error;
        }
        let name = match &what {
            What::Entry(key, id) => format!("the entry {} of {key}: ", id.short()),
            What::CitationsOf(grant) => format!("what stands on grant {}: ", grant.short()),
        };
        let error = with(error, &name, "");
        let mut noted = self.0.lock();
        if noted.len() < MAX_NOTED && noted.insert(what, error.clone()).is_none() {
            tracing::error!(%error, code = error.code(), "the store cannot be read; everything else goes on");
        }
        error
    }
}

/// Returns a storage error with text added before and after its own; errors without a text stay as they are.
fn with(error: StorageError, before: &str, after: &str) -> StorageError {
    match error {
        StorageError::Damaged(why) => StorageError::Damaged(format!("{before}{why}{after}")),
        StorageError::Io(why) => StorageError::Io(format!("{before}{why}{after}")),
        other => other,
    }
}

/// Whether an entry is in the frontier of its key, so that its record must be stored.
fn is_live(view: &View, key: &Key, id: &EntryId) -> bool {
    view.frontier(key).is_some_and(|frontier| frontier.contains(id))
}

impl Reader for NotingReader {
    fn entry(&self, key: &Key, id: &EntryId) -> Result<Option<Bytes>, StorageError> {
        let read = match self.inner.entry(key, id) {
            Ok(None) if is_live(&self.view, key, id) => {
                Err(StorageError::Damaged("its record is missing".into()))
            }
            read => read,
        };
        read.map_err(|error| self.noted.note(What::Entry(key.clone(), *id), error))
    }

    fn keys_citing(&self, grant: &GrantId, each: &mut dyn FnMut(Key)) -> Result<(), StorageError> {
        let cited = self.inner.keys_citing(grant, each);
        cited.map_err(|error| self.noted.note(What::CitationsOf(*grant), error))
    }
}
