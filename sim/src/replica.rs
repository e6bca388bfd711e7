//! A replica with everything around it that production has, but mock signatures and a store in memory.

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
    /// Its own clock.
    pub now: Timestamp,
    /// Everything that its readers were told.
    pub changes: Vec<Change>,
    /// Everything that it took in, if anybody wants to know.
    taken: Option<Facts>,
    /// What it declines, if it remembers that.
    declined: Option<Declined>,
    /// What it alone refuses.
    refuses: Option<(FactId, Code)>,
}

impl SimReplica {
    /// An empty replica.
    pub fn new(root: PublicKey, now: Timestamp) -> Self {
        let storage = Ledger::default();
        let (changes, taken, declined, refuses) = (Vec::new(), None, None, None);
        Self { replica: Replica::new(root), storage, now, changes, taken, declined, refuses }
    }

    /// From now on keeps early facts until they are due, remembers what can never be taken in, and declines both.
    pub fn with_waiting_room(mut self) -> Self {
        self.declined = Some(Declined::new(self.view().authority().cluster()));
        self
    }

    /// From now on refuses a fact that others take in, as a replica of another version might.
    pub fn refusing(mut self, id: FactId, code: Code) -> Self {
        self.refuses = Some((id, code));
        self
    }

    /// What it declines.
    pub fn declined(&self) -> Option<&Declined> {
        self.declined.as_ref()
    }

    /// Keeps or remembers a fact of a peer that was not taken in.
    pub fn put_aside(&mut self, fact: &Fact, verdict: Verdict) {
        let now = self.now;
        let Some(declined) = &mut self.declined else { return };
        match verdict {
            Verdict::NotYet { due } => declined.keep(fact, due),
            Verdict::Refused(code) => declined.refused(fact.id(), code, now),
            Verdict::Merged | Verdict::Moot(_) | Verdict::Unjustified(_) | Verdict::Misused(_) => {}
        }
    }

    /// Offers what is due by now, and forgets what is to be sent again. How many facts were merged.
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

    /// From now on remembers every fact that is merged or found moot, wherever it comes from.
    pub fn with_journal(mut self) -> Self {
        self.taken = Some(Facts::new());
        self
    }

    /// What was taken in since [`with_journal`](Self::with_journal).
    pub fn taken(&self) -> Option<&Facts> {
        self.taken.as_ref()
    }

    /// The store.
    pub fn storage(&self) -> &Ledger {
        &self.storage
    }

    /// The current state.
    pub fn view(&self) -> &View {
        self.replica.view()
    }

    /// The current state with reads of the same commit.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot { view: Arc::new(self.view().clone()), reader: self.reader() }
    }

    /// Reads of the committed state.
    pub fn reader(&self) -> Arc<dyn Reader> {
        self.storage.reader()
    }

    /// Offers one fact, as a peer, a put or an import does.
    pub fn offer(&mut self, fact: Fact) -> Verdict {
        match self.check(fact) {
            Ok(verified) => self.apply(vec![verified]).first().copied().unwrap_or(Verdict::Merged),
            Err(verdict) => verdict,
        }
    }

    /// Judges a fact and verifies its signatures.
    pub fn check(&self, fact: Fact) -> Result<Verified, Verdict> {
        if let Some((_, code)) = self.refuses.filter(|(id, _)| *id == fact.id()) {
            return Err(Verdict::Refused(code));
        }
        self.view().check(fact, self.now)?.verify(&MockVerifier)
    }

    /// Takes verified facts in as one batch.
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

    /// From now on the store holds other bytes in the place of an entry: what a replica tells that lies.
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

    /// Every fact that is stored, as the store has it.
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

    /// The value that a reader sees.
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
