//! The state of a replica and the only way to change it.

mod forget;
mod load;
mod merge;
#[cfg(test)]
mod tests;

use crate::change::Change;
use crate::leaf::KeyLeaf;
use crate::storage::{Batch, Reader, Storage, StorageError, Summary};
use crate::sweep::{MAX_REMOVED_AT_ONCE, Sweep};
use crate::tree::{id_key, leaf_digest};
use crate::view::View;
use kvgossip_grants::{FactId, Key, PublicKey, Verdict, Verified};
use merge::Merge;

/// The state of a replica, in memory. Its owner commits each [`Applied::batch`] and each batch of
/// [`Replica::next_sweep`] to the store before anybody sees the new [`View`], in the order in which they were made; if
/// that fails, the replica must be loaded again.
#[derive(Debug)]
pub struct Replica {
    view: View,
    seq: u64,
    sweep: Sweep,
    /// Number of ended facts whose rows a batch of facts removes itself, in addition to one for each of its facts.
    removed_at_once: usize,
}

/// Result of merging facts by [`Replica::apply`]: verdicts, the batch to commit and the changes for readers.
#[derive(Debug)]
pub struct Applied {
    /// Verdict on each offered fact, in the order of the facts.
    pub verdicts: Vec<Verdict>,
    /// Batch to commit to the store; `None` if no fact changed the state.
    pub batch: Option<Batch>,
    /// Changes of keys to report to readers, in the order in which they were made.
    pub changes: Vec<Change>,
}

impl Replica {
    /// Creates an empty replica of the cluster whose root has the key `root`.
    pub fn new(root: PublicKey) -> Self {
        let view = View::new(root);
        Self { view, seq: 0, sweep: Sweep::default(), removed_at_once: MAX_REMOVED_AT_ONCE }
    }

    /// Loads a replica from its store: the authority set, then the compact index. Values are not read.
    ///
    /// # Errors
    /// The store failed, or its contents are not a state that a replica could have written.
    pub fn load(root: PublicKey, storage: &dyn Storage) -> Result<Self, StorageError> {
        let mut replica = Self::new(root);
        load::load(&mut replica, storage)?;
        Ok(replica)
    }

    /// Sets the number of ended facts that a batch removes itself, instead of [`MAX_REMOVED_AT_ONCE`]; with 0, nearly
    /// everything is left to the sweep.
    pub fn removing_at_once(self, most: usize) -> Self {
        Self { removed_at_once: most, ..self }
    }

    /// Returns the replica's current state.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Returns the summary of the current state, as the batch that leads to it stores it.
    pub fn summary(&self) -> Summary {
        Summary {
            batch: self.view.batch,
            authority_facts: self.view.authority.len() as u64,
            keys: self.view.entries.len() as u64,
            root: self.view.root(),
            sweep_pending: self.sweep.is_pending(),
        }
    }

    /// Merges verified facts in order and returns the batch to commit. `reader` reads the committed state.
    ///
    /// The chains are checked again, as they may have ended since the facts were checked.
    ///
    /// # Errors
    /// Reading the store failed; the replica must be loaded again.
    pub fn apply(&mut self, facts: Vec<Verified>, reader: &dyn Reader) -> Result<Applied, StorageError> {
        let mut merge = Merge::new(self, reader, facts.len());
        let mut verdicts = Vec::with_capacity(facts.len());
        for fact in facts {
            verdicts.push(merge.take(fact)?);
        }
        let (writes, changes) = merge.finish();
        let batch = if writes.is_empty() { None } else { Some(self.batch(writes)) };
        Ok(Applied { verdicts, batch, changes })
    }

    /// Whether [`Replica::next_sweep`] has rows to remove.
    pub fn is_sweep_due(&self) -> bool {
        self.sweep.is_due()
    }

    /// Returns a batch that removes at most [`MAX_SWEEP_ROWS`](crate::MAX_SWEEP_ROWS) rows of ended facts and changes
    /// nothing for readers. Call it between batches of facts until it returns `None`.
    pub fn next_sweep(&mut self) -> Option<Batch> {
        if !self.sweep.is_due() {
            return None;
        }
        let writes = self.sweep.next(&self.view);
        Some(self.batch(writes))
    }

    fn batch(&mut self, writes: Vec<crate::Write>) -> Batch {
        self.view.batch += 1;
        Batch { writes, summary: self.summary() }
    }

    /// Replaces the leaf of a key, or removes it if it has no entry.
    fn put_leaf(&mut self, key: &Key, leaf: KeyLeaf) {
        self.view.long.note(key, leaf.frontier().len());
        match leaf.frontier().is_empty() {
            true => self.view.entries.remove(key.as_bytes()),
            false => self.view.entries.insert(key.as_bytes(), leaf),
        };
    }

    fn plant_authority(&mut self, id: &FactId) {
        let key = id_key(*id);
        self.view.authority_tree.insert(key.as_bytes(), leaf_digest(key.as_bytes(), &[*id]));
    }
}

/// Adapter that lets the tree borrow the bytes of a key.
struct KeyBytes(Key);

impl AsRef<[u8]> for KeyBytes {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}
