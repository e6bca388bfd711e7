//! A replica's state and the one way to change it.

use crate::change::{Cause, Change};
use crate::frontier::{EntryMeta, Frontier};
use crate::storage::{Batch, IndexEntry, IndexRow, Reader, Storage, StorageError, Summary, Write};
use crate::tree::{Leaf, Tree, leaf_digest};
use crate::view::{View, authority_key};
use kvgossip_grants::{
    AuthorityChange, Code, EntryFact, Fact, FactId, GrantId, Key, PublicKey, Verdict, Verified,
};
use smallvec::SmallVec;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The state of a replica, in memory. Its owner commits each [`Applied::batch`] to the store before anybody
/// sees the new [`View`]; when that fails, the replica must be loaded again.
#[derive(Debug)]
pub struct Replica {
    view: View,
    seq: u64,
}

/// What came of a list of facts.
#[derive(Debug)]
pub struct Applied {
    /// One for each fact, in order.
    pub verdicts: Vec<Verdict>,
    /// What to commit; `None` if nothing changed.
    pub batch: Option<Batch>,
    /// What changed for readers, in order.
    pub changes: Vec<Change>,
}

impl Replica {
    /// An empty replica of the cluster that `root` is the root of.
    pub fn new(root: PublicKey) -> Self {
        Self { view: View::new(root), seq: 0 }
    }

    /// Reads a replica from its store: authority, then the compact index; never a value.
    ///
    /// # Errors
    /// When the store fails, or holds what it could not have been given.
    pub fn load(root: PublicKey, storage: &dyn Storage) -> Result<Self, StorageError> {
        let mut replica = Self::new(root);
        replica.load_authority(storage)?;
        replica.load_entries(storage)?;
        let Some(summary) = storage.summary()? else { return Ok(replica) };
        replica.view.batch = summary.batch;
        if replica.summary() != summary {
            return Err(StorageError::Damaged("the index does not give the stored root digest".into()));
        }
        Ok(replica)
    }

    fn load_authority(&mut self, storage: &dyn Storage) -> Result<(), StorageError> {
        let cluster = self.view.authority.cluster();
        let mut facts = Vec::new();
        let mut damaged = None;
        storage.load_authority(&mut |record| match Fact::from_record(cluster, &record) {
            Ok(fact) => facts.push(fact),
            Err(code) => damaged = Some(code),
        })?;
        if let Some(code) = damaged {
            return Err(StorageError::Damaged(format!("an authority record does not read: {code}")));
        }
        // Stored in the order of their ids; a grant can be taken in once its parent is.
        while !facts.is_empty() {
            let before = facts.len();
            facts.retain(|fact| !self.load_fact(fact.clone()));
            if facts.len() == before {
                return Err(StorageError::Damaged("an authority fact has no live chain".into()));
            }
        }
        Ok(())
    }

    fn load_fact(&mut self, fact: Fact) -> bool {
        let id = fact.id();
        let change = Arc::make_mut(&mut self.view.authority).merge(Verified::from_own_store(fact));
        if change.verdict == Verdict::Merged {
            self.plant_authority(&id);
        }
        change.verdict == Verdict::Merged
    }

    fn load_entries(&mut self, storage: &dyn Storage) -> Result<(), StorageError> {
        let mut rows = Vec::new();
        let mut damaged = None;
        storage.load_index(&mut |key, row| match self.read_row(&key, &row) {
            Some(frontier) => rows.push((key, frontier)),
            None => damaged = Some(key),
        })?;
        if let Some(key) = damaged {
            return Err(StorageError::Damaged(format!("the index row of {key} does not fit")));
        }
        let keyed = rows.into_iter().map(|(key, frontier)| (KeyBytes(key), frontier));
        self.view.entries = Tree::from_sorted(keyed)
            .map_err(|_| StorageError::Damaged("the index is out of order".into()))?;
        Ok(())
    }

    fn read_row(&self, key: &Key, row: &IndexRow) -> Option<Frontier> {
        let mut entries = SmallVec::new();
        for entry in &row.entries {
            let grant = match entry.grant {
                Some(id) => Some(self.view.authority.grant(&id)?.clone()),
                None => None,
            };
            let (id, timestamp, is_delete) = (entry.id, entry.timestamp, entry.is_delete);
            entries.push(EntryMeta { id, timestamp, grant, is_delete });
        }
        Frontier::new(key, entries).filter(|frontier| frontier.digest() == row.digest)
    }

    /// The current state.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// What a batch that leads to the current state says of it.
    pub fn summary(&self) -> Summary {
        Summary {
            batch: self.view.batch,
            authority_facts: self.view.authority.len() as u64,
            keys: self.view.entries.len() as u64,
            root: self.view.root(),
        }
    }

    /// Takes verified facts in, in order, and says what to commit. `reader` reads the committed state.
    ///
    /// The chains are looked at again, as they may have ended since the facts were checked.
    ///
    /// # Errors
    /// When reading the store fails; then the replica must be loaded again.
    pub fn apply(&mut self, facts: Vec<Verified>, reader: &dyn Reader) -> Result<Applied, StorageError> {
        let mut merge = Merge {
            replica: self,
            reader,
            // An entry takes two: itself, and its row of the index.
            writes: Vec::with_capacity(2 * facts.len()),
            changes: Vec::with_capacity(facts.len()),
            fresh: Vec::with_capacity(facts.len()),
            touched: Vec::with_capacity(facts.len()),
        };
        let mut verdicts = Vec::with_capacity(facts.len());
        for fact in facts {
            verdicts.push(merge.take(fact)?);
        }
        merge.write_index();
        let Merge { writes, changes, .. } = merge;
        if writes.is_empty() {
            return Ok(Applied { verdicts, batch: None, changes });
        }
        self.view.batch += 1;
        let batch = Batch { writes, summary: self.summary() };
        Ok(Applied { verdicts, batch: Some(batch), changes })
    }

    fn plant_authority(&mut self, id: &FactId) {
        let key = authority_key(id);
        self.view.authority_tree.insert(key.as_bytes(), leaf_digest(key.as_bytes(), &[*id]));
    }
}

/// Lets the tree borrow the bytes of a key.
struct KeyBytes(Key);

impl AsRef<[u8]> for KeyBytes {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// One call of [`Replica::apply`] under way.
struct Merge<'a> {
    replica: &'a mut Replica,
    reader: &'a dyn Reader,
    writes: Vec<Write>,
    changes: Vec<Change>,
    /// Citations of this very batch, which the reader cannot know yet.
    fresh: Vec<(GrantId, Key)>,
    /// Keys whose index rows are to be written, some more than once.
    touched: Vec<Key>,
}

impl Merge<'_> {
    fn take(&mut self, fact: Verified) -> Result<Verdict, StorageError> {
        match fact.fact() {
            Fact::Entry(entry) => Ok(self.take_entry(entry)),
            _ => self.take_authority(fact),
        }
    }

    fn take_entry(&mut self, fact: &EntryFact) -> Verdict {
        let (entry, id, view) = (fact.entry(), fact.id(), &self.replica.view);
        let grant = match view.authority.entry_grant(entry) {
            Ok(grant) => grant.cloned(),
            Err(verdict) => return verdict,
        };
        if view.authority.is_floored(&entry.key, entry.timestamp) {
            return Verdict::Moot(Code::Floored);
        }
        let meta = EntryMeta::new(id, entry, grant);
        let standing = view.frontier(&entry.key).map_or(&[][..], Frontier::entries);
        if standing.iter().any(|other| other.id == id) {
            return Verdict::Moot(Code::Known);
        }
        if standing.iter().any(|other| other.dominates(&meta)) {
            return Verdict::Moot(Code::Dominated);
        }
        let (gone, mut kept): (Vec<_>, Vec<_>) =
            standing.iter().cloned().partition(|other| meta.dominates(other));
        if let Some(grant) = meta.grant_id() {
            self.fresh.push((grant, entry.key.clone()));
        }
        let record = fact.record().clone();
        self.writes.push(Write::PutEntry(entry.key.clone(), id, meta.grant_id(), record));
        kept.push(meta);
        self.replace(&entry.key, &gone, kept, Cause::Written(id));
        Verdict::Merged
    }

    fn take_authority(&mut self, fact: Verified) -> Result<Verdict, StorageError> {
        let (id, record) = (fact.fact().id(), fact.fact().to_record());
        // Looked at first: changing the set copies its indexes when a view of it is held.
        if self.replica.view.authority.contains(&id) {
            return Ok(Verdict::Moot(Code::Known));
        }
        let floor = match fact.fact() {
            Fact::Floor(floor) => Some(floor.clone()),
            _ => None,
        };
        let AuthorityChange { verdict, dropped, dead } =
            Arc::make_mut(&mut self.replica.view.authority).merge(fact);
        if verdict != Verdict::Merged {
            return Ok(verdict);
        }
        for gone in dropped {
            self.replica.view.authority_tree.remove(authority_key(&gone).as_bytes());
            self.writes.push(Write::RemoveAuthority(gone));
        }
        self.replica.plant_authority(&id);
        self.writes.push(Write::PutAuthority(id, record));
        for grant in dead {
            self.end_entries_of(grant)?;
        }
        if let Some(floor) = floor {
            for pattern in &floor.body().patterns {
                self.end_entries_below(pattern, floor.body().before, id);
            }
        }
        Ok(verdict)
    }

    /// Removes every entry that stands on an ended grant; touches no other key.
    fn end_entries_of(&mut self, grant: GrantId) -> Result<(), StorageError> {
        let fresh = self.fresh.iter().filter(|(cited, _)| *cited == grant);
        let mut keys: BTreeSet<Key> = fresh.map(|(_, key)| key.clone()).collect();
        let read = self.reader.keys_citing(&grant, &mut |key| {
            keys.insert(key);
        });
        match read {
            // What is revoked must fall, also from a damaged disk. The index in memory knows it as well: it only takes longer.
            Err(StorageError::Damaged(_) | StorageError::Io(_)) => {
                keys.extend(self.replica.view.citing(&grant))
            }
            read => read?,
        }
        for key in keys {
            let standing = self.replica.view.frontier(&key).map_or(&[][..], Frontier::entries);
            let (gone, kept): (Vec<_>, Vec<_>) =
                standing.iter().cloned().partition(|entry| entry.grant_id() == Some(grant));
            if !gone.is_empty() {
                self.replace(&key, &gone, kept, Cause::Revoked(grant));
            }
        }
        Ok(())
    }

    /// Removes entries older than a floor; looks only at keys under the pattern's literal prefix.
    fn end_entries_below(
        &mut self,
        pattern: &kvgossip_grants::KeyGlob,
        before: kvgossip_grants::Timestamp,
        floor: FactId,
    ) {
        let is_old = |entry: &EntryMeta| entry.timestamp < before;
        let hit: Vec<(Key, Frontier)> = self
            .replica
            .view
            .matching(pattern)
            .filter(|(_, frontier)| frontier.entries().iter().any(is_old))
            .map(|(key, frontier)| (key, frontier.clone()))
            .collect();
        for (key, frontier) in hit {
            let (gone, kept): (Vec<_>, Vec<_>) = frontier.entries().iter().cloned().partition(is_old);
            self.replace(&key, &gone, kept, Cause::Floored(floor));
        }
    }

    /// Puts `kept` in the place of what stood of `key`, of which `gone` leaves.
    fn replace(&mut self, key: &Key, gone: &[EntryMeta], kept: Vec<EntryMeta>, cause: Cause) {
        for entry in gone {
            self.writes.push(Write::RemoveEntry(key.clone(), entry.id));
            let Some(grant) = entry.grant_id() else { continue };
            if !kept.iter().any(|other| other.grant_id() == Some(grant)) {
                self.writes.push(Write::RemoveCitation(grant, key.clone()));
            }
        }
        let frontier = Frontier::new(key, kept.into());
        let new = frontier.as_ref().and_then(Frontier::newest).map(|entry| entry.id);
        let entries = &mut self.replica.view.entries;
        let before = match frontier {
            Some(frontier) => entries.insert(key.as_bytes(), frontier),
            None => entries.remove(key.as_bytes()),
        };
        self.touched.push(key.clone());
        let old = before.as_ref().and_then(Frontier::newest).map(|entry| entry.id);
        self.replica.seq += 1;
        self.changes.push(Change { seq: self.replica.seq, key: key.clone(), old, new, cause });
    }
}

impl Merge<'_> {
    /// Writes what stands now of every key that was touched, once: a row is as long as the key's frontier.
    fn write_index(&mut self) {
        let mut touched = std::mem::take(&mut self.touched);
        // Facts nearly always come in the order of their keys: then there is little to sort.
        touched.sort();
        touched.dedup();
        for key in touched {
            self.writes.push(match self.replica.view.frontier(&key) {
                Some(frontier) => Write::PutIndex(key, index_row(frontier)),
                None => Write::RemoveIndex(key),
            });
        }
    }
}

pub(crate) fn index_row(frontier: &Frontier) -> IndexRow {
    let entry = |meta: &EntryMeta| IndexEntry {
        id: meta.id,
        timestamp: meta.timestamp,
        grant: meta.grant_id(),
        is_delete: meta.is_delete,
    };
    IndexRow { digest: frontier.digest(), entries: frontier.entries().iter().map(entry).collect() }
}
