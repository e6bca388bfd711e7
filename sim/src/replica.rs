//! A replica with the environment that it has in production, except that signatures are mock ones and the store is in
//! memory.

use crate::ledger::Ledger;
use crate::naive::Facts;
use bytes::Bytes;
use kvgossip_engine::declined::Declined;
use kvgossip_engine::{
    Applied, Batch, Change, IndexEntry, Reader, Replica, Snapshot, Storage, StorageError, View, Write,
};
use kvgossip_grants::{
    Code, EntryId, Fact, FactId, Key, MockVerifier, PublicKey, Timestamp, Verdict, Verified,
};
use std::sync::Arc;

/// One simulated replica.
#[derive(Debug)]
pub struct SimReplica {
    replica: Replica,
    storage: Ledger,
    /// Time of the replica's own clock.
    pub now: Timestamp,
    /// All change events that the replica made for its readers.
    pub changes: Vec<Change>,
    /// All facts that the replica has taken in; `None` if they are not recorded.
    taken: Option<Facts>,
    /// Facts that the replica declines; `None` if it remembers none.
    declined: Option<Declined>,
    /// A fact that only this replica refuses, with the code of the refusal.
    refuses: Option<(FactId, Code)>,
}

impl SimReplica {
    /// Creates an empty replica.
    pub fn new(root: PublicKey, now: Timestamp) -> Self {
        let storage = Ledger::default();
        let (changes, taken, declined, refuses) = (Vec::new(), None, None, None);
        Self { replica: Replica::new(root), storage, now, changes, taken, declined, refuses }
    }

    /// Makes the replica keep early facts until they are due, remember facts that can never be accepted, and decline
    /// both.
    pub fn with_waiting_room(mut self) -> Self {
        self.declined = Some(Declined::new(self.view().authority().cluster()));
        self
    }

    /// Makes the replica refuse a fact that others accept, as a replica of another version might.
    pub fn refusing(mut self, id: FactId, code: Code) -> Self {
        self.refuses = Some((id, code));
        self
    }

    /// Returns the facts that the replica declines; `None` if it remembers none.
    pub fn declined(&self) -> Option<&Declined> {
        self.declined.as_ref()
    }

    /// Keeps a fact of a peer that is early, or remembers one that can never be accepted, according to `verdict`.
    pub fn put_aside(&mut self, fact: &Fact, verdict: Verdict) {
        let now = self.now;
        let Some(declined) = &mut self.declined else { return };
        match verdict {
            Verdict::NotYet { due } => declined.keep(fact, due),
            Verdict::Refused(code) => declined.refused(fact.id(), code, now),
            Verdict::Merged | Verdict::Moot(_) | Verdict::Unjustified(_) | Verdict::Misused(_) => {}
        }
    }

    /// Offers the waiting facts that are due by now, and forgets the ids of those that peers are to send again. Returns
    /// the number of merged facts.
    pub fn offer_due(&mut self) -> usize {
        let mut merged = 0;
        while let Some(declined) = &mut self.declined {
            let due = declined.take_due(self.now);
            if due.is_empty() {
                declined.forget_due(self.now);
                break;
            }
            merged += due.into_iter().filter(|fact| self.offer(fact.clone()) == Verdict::Merged).count();
            self.declined.iter_mut().for_each(|declined| drop(declined.settle_due()));
        }
        merged
    }

    /// Makes the replica record every fact that is merged or found moot, from any source.
    pub fn with_journal(mut self) -> Self {
        self.taken = Some(Facts::new());
        self
    }

    /// Returns the facts taken in since [`with_journal`](Self::with_journal); `None` without it.
    pub fn taken(&self) -> Option<&Facts> {
        self.taken.as_ref()
    }

    /// Returns the replica's store.
    pub fn storage(&self) -> &Ledger {
        &self.storage
    }

    /// Returns the current state.
    pub fn view(&self) -> &View {
        self.replica.view()
    }

    /// Returns the current state with reads of the same commit.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot { view: Arc::new(self.view().clone()), reader: self.reader() }
    }

    /// Returns a reader of the committed state.
    pub fn reader(&self) -> Arc<dyn Reader> {
        self.storage.reader()
    }

    /// Offers one fact to the replica, as a peer, a put or an import does.
    pub fn offer(&mut self, fact: Fact) -> Verdict {
        match self.check(fact) {
            Ok(verified) => self.apply(vec![verified]).first().copied().unwrap_or(Verdict::Merged),
            Err(verdict) => verdict,
        }
    }

    /// Checks a fact against the replica's state and verifies its signatures.
    pub fn check(&self, fact: Fact) -> Result<Verified, Verdict> {
        if let Some((_, code)) = self.refuses.filter(|(id, _)| *id == fact.id()) {
            return Err(Verdict::Refused(code));
        }
        self.view().check(fact, self.now)?.verify(&MockVerifier)
    }

    /// Merges verified facts as one batch and commits it to the store.
    pub fn apply(&mut self, facts: Vec<Verified>) -> Vec<Verdict> {
        match self.try_apply(facts) {
            Ok(verdicts) => verdicts,
            Err(error) => panic!("a store in memory does not fail: {error}"),
        }
    }

    fn try_apply(&mut self, facts: Vec<Verified>) -> Result<Vec<Verdict>, StorageError> {
        let noted: Vec<Fact> = match self.taken {
            Some(_) => facts.iter().map(|fact| fact.fact().clone()).collect(),
            None => Vec::new(),
        };
        let reader = self.storage.reader();
        let Applied { verdicts, batch, changes } = self.replica.apply(facts, reader.as_ref())?;
        if let Some(taken) = &mut self.taken {
            let noted = noted.into_iter().zip(&verdicts).filter(|(_, verdict)| verdict.is_taken_in());
            taken.extend(noted.map(|(fact, _)| (fact.id(), fact)));
        }
        let mut next = batch;
        while let Some(batch) = next {
            self.storage.commit(&batch)?;
            next = self.replica.next_sweep();
        }
        self.changes.extend(changes);
        Ok(verdicts)
    }

    /// Replaces the stored record of an entry by other bytes, as a lying replica would send them.
    pub fn tell_instead(&mut self, key: &Key, id: &EntryId, record: Bytes) {
        let Some(standing) = self.view().frontier(key).and_then(|frontier| frontier.get(id)) else { return };
        let meta = &standing.meta;
        let (timestamp, grant, is_delete) = (meta.timestamp, meta.grant_id(), meta.is_delete);
        let value_bytes = (!is_delete).then_some(meta.value_bytes);
        let row = IndexEntry { id: *id, timestamp, grant, is_delete, value_bytes };
        let writes = vec![Write::PutEntry(key.clone(), row, record)];
        let batch = Batch { writes, summary: self.replica.summary() };
        if let Err(error) = self.storage.commit(&batch) {
            panic!("a store in memory does not fail: {error}");
        }
    }

    /// Returns every fact in the store, decoded from its stored record.
    pub fn facts(&self) -> Vec<Fact> {
        let view = self.view();
        let authority = view.authority().fact_ids().filter_map(|id| view.authority().fact(&id));
        let entries = view
            .keys("", None)
            .flat_map(|(key, frontier)| frontier.ids().map(|id| (key.clone(), id)).collect::<Vec<_>>());
        authority.chain(entries.filter_map(|(key, id)| self.stored(&key, &id))).collect()
    }

    fn stored(&self, key: &Key, id: &kvgossip_grants::EntryId) -> Option<Fact> {
        let record = self.storage.reader().entry(key, id).ok().flatten()?;
        Fact::from_record(self.view().authority().cluster(), &record).ok()
    }

    /// Returns the value of `key` that a reader sees by the replica's clock; `None` if the key is unset.
    pub fn get(&self, key: &Key) -> Option<Vec<u8>> {
        let shown = self.view().shown(key, self.now)?;
        match self.stored(key, &shown.id)? {
            Fact::Entry(entry) => entry.value().map(|value| value.to_vec()),
            _ => None,
        }
    }

    /// Loads the replica again from its store, as after a restart.
    pub fn restart(&mut self) -> Result<(), StorageError> {
        let root = self.view().authority().root().clone();
        self.replica = Replica::load(root, &self.storage)?;
        Ok(())
    }
}
