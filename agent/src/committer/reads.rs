//! Notes what cannot be read from the store while the agent runs.
//!
//! A damaged place of a disk shows when it is read, weeks after it was written. Whoever asked hears of it, and the
//! operator has to: the digests say that this replica has the fact, so no peer sends it again.

use arc_swap::ArcSwap;
use bytes::Bytes;
use kvgossip_engine::{Reader, StorageError, View};
use kvgossip_grants::{EntryId, GrantId, Key};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// So many are remembered, and told in the log. A disk that is gone would fill memory and log with the others.
const MAX_NOTED: usize = 64;

/// How often a record that seems to be gone is looked for while commits are under way, and the pause between.
const MISSING_LOOKS: u32 = 50;
const LOOK_PAUSE: Duration = Duration::from_millis(1);

/// What could not be read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Entry(Key, EntryId),
    CitationsOf(GrantId),
}

/// What reads again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadsAgain {
    /// The entries of these keys.
    Keys(Vec<Key>),
    /// Entries, and there were more than are remembered.
    Others,
}

/// What is published, and whether the store is ahead of it.
pub(super) struct Published {
    pub(super) view: Arc<ArcSwap<View>>,
    /// Odd from the beginning of a commit until its view is published. Only the committer changes it.
    commits: AtomicU64,
}

impl Published {
    pub(super) fn new(view: Arc<ArcSwap<View>>) -> Self {
        Self { view, commits: AtomicU64::new(0) }
    }

    /// A commit begins: from now on the store may be ahead. So it stays after a commit that failed.
    pub(super) fn begin(&self) {
        self.commits.fetch_or(1, Ordering::SeqCst);
    }

    /// The view of the commit that has begun is published.
    pub(super) fn end(&self) {
        self.commits.fetch_add(1, Ordering::SeqCst);
    }
}

/// Reads of the store; remembers those that failed.
pub(super) struct NotingReader {
    inner: Arc<dyn Reader>,
    published: Arc<Published>,
    noted: Mutex<BTreeMap<What, StorageError>>,
}

impl NotingReader {
    pub(super) fn new(inner: Arc<dyn Reader>, published: Arc<Published>) -> Self {
        Self { inner, published, noted: Mutex::default() }
    }

    /// Whether an entry stands and its record is gone. Between two commits nothing of the kind can be seen by chance.
    fn is_missing(&self, key: &Key, id: &EntryId) -> bool {
        for _ in 0..MISSING_LOOKS {
            let before = self.published.commits.load(Ordering::SeqCst);
            let view = self.published.view.load_full();
            let stands = view.frontier(key).is_some_and(|frontier| frontier.contains(id));
            if !stands || !matches!(self.inner.entry(key, id), Ok(None)) {
                return false;
            }
            if before.is_multiple_of(2) && self.published.commits.load(Ordering::SeqCst) == before {
                return true;
            }
            std::thread::sleep(LOOK_PAUSE);
        }
        false
    }

    /// The first of what does not read, and how many others.
    pub(super) fn trouble(&self) -> Option<StorageError> {
        let noted = self.noted.lock();
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

    pub(super) fn look_again(&self, view: &View) -> ReadsAgain {
        let noted: Vec<What> = self.noted.lock().keys().cloned().collect();
        let (was_full, mut keys) = (noted.len() == MAX_NOTED, Vec::new());
        for what in noted {
            let reads = match &what {
                What::Entry(key, id) => {
                    match view.frontier(key).is_some_and(|frontier| frontier.contains(id)) {
                        true if matches!(self.inner.entry(key, id), Ok(Some(_))) => {
                            keys.push(key.clone());
                            true
                        }
                        stands => !stands,
                    }
                }
                What::CitationsOf(grant) => self.inner.keys_citing(grant, &mut |_| {}).is_ok(),
            };
            if reads {
                self.noted.lock().remove(&what);
            }
        }
        if self.noted.lock().is_empty() {
            tracing::info!("what could not be read from the store reads again, or was written anew");
        }
        if was_full && !keys.is_empty() { ReadsAgain::Others } else { ReadsAgain::Keys(keys) }
    }

    fn note(&self, what: What, error: StorageError) -> StorageError {
        // Of a store that was closed there is nothing to say.
        if !matches!(error, StorageError::Damaged(_) | StorageError::Io(_)) {
            return error;
        }
        let name = match &what {
            What::Entry(key, id) => format!("the entry {} of {key}: ", id.short()),
            What::CitationsOf(grant) => format!("what stands on grant {}: ", grant.short()),
        };
        let error = with(error, &name, "");
        let mut noted = self.noted.lock();
        if noted.len() < MAX_NOTED && noted.insert(what, error.clone()).is_none() {
            tracing::error!(%error, code = error.code(), "the store cannot be read; everything else goes on");
        }
        error
    }
}

/// The same error with words before and after its own.
fn with(error: StorageError, before: &str, after: &str) -> StorageError {
    match error {
        StorageError::Damaged(why) => StorageError::Damaged(format!("{before}{why}{after}")),
        StorageError::Io(why) => StorageError::Io(format!("{before}{why}{after}")),
        other => other,
    }
}

impl Reader for NotingReader {
    fn entry(&self, key: &Key, id: &EntryId) -> Result<Option<Bytes>, StorageError> {
        let read = match self.inner.entry(key, id) {
            Ok(None) if self.is_missing(key, id) => {
                Err(StorageError::Damaged("its record is missing".into()))
            }
            read => read,
        };
        read.map_err(|error| self.note(What::Entry(key.clone(), *id), error))
    }

    fn keys_citing(&self, grant: &GrantId, each: &mut dyn FnMut(Key)) -> Result<(), StorageError> {
        self.inner.keys_citing(grant, each).map_err(|error| self.note(What::CitationsOf(*grant), error))
    }
}
