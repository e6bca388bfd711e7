//! A replica with everything around it that production has, but mock signatures and a store in memory.

use crate::ledger::Ledger;
use crate::naive::Facts;
use kvgossip_engine::{Applied, Change, Reader, Replica, Storage, StorageError, View};
use kvgossip_grants::{Fact, Key, MockVerifier, PublicKey, Timestamp, Verdict, Verified};
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
}

impl SimReplica {
    /// An empty replica.
    pub fn new(root: PublicKey, now: Timestamp) -> Self {
        let storage = Ledger::default();
        Self { replica: Replica::new(root), storage, now, changes: Vec::new(), taken: None }
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
        if let Some(batch) = batch {
            self.storage.commit(&batch)?;
        }
        self.changes.extend(changes);
        Ok(verdicts)
    }

    /// Every fact that is stored, as the store has it.
    pub fn facts(&self) -> Vec<Fact> {
        let view = self.view();
        let authority = view.authority().fact_ids().filter_map(|id| view.authority().fact(&id));
        let entries = view.keys("", None).flat_map(|(key, frontier)| {
            frontier.entries().iter().map(|entry| (key.clone(), entry.id)).collect::<Vec<_>>()
        });
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
