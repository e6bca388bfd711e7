//! Reading a key with its value.

use super::Agent;
use crate::clock;
use crate::unfinished::unfinished;
use kvgossip_engine::{Failure, StorageError};
use kvgossip_grants::{EntryFact, Fact, Key};

impl Agent {
    /// Returns the entry that is shown for `key` now, with its value; `None`: the key shows no value.
    pub async fn read(&self, key: &Key) -> Result<Option<EntryFact>, Failure> {
        let (key, store) = (key.clone(), self.store().clone());
        let read = move || {
            let now = store.snapshot();
            let Some(shown) = now.view.shown(&key, clock::now()) else { return Ok(None) };
            let record = now.reader.entry(&key, &shown.id)?;
            match record.map(|record| Fact::from_record(now.view.authority().cluster(), &record)) {
                Some(Ok(Fact::Entry(entry))) => Ok(Some(entry)),
                _ => Err(StorageError::Damaged(format!("the entry of {key} does not read"))),
            }
        };
        let done = tokio::task::spawn_blocking(read).await;
        Ok(done.map_err(|error| unfinished(&error, "a read of the store"))??)
    }
}
