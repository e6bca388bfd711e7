//! Taking in what a stream tells.

use super::core::{Core, StreamId};
use super::held::{Held, Merged, Why};
use base64::prelude::{BASE64_STANDARD, Engine};
use kvgossip_api::{AuthorityEvent, KeyEvent, SyncedEvent, event};
use kvgossip_grants::{Code, EntryFact, EntryId, Fact, Held as Digests, Key, Verdict, Verified};

/// What an event means for its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reaction {
    /// Nothing.
    Continue,
    /// It is in step from here on.
    Synced,
    /// It has missed something: open it anew, and compare.
    Reopen,
}

/// The agent does not speak as one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event that cannot be read: {0}")]
pub(crate) struct Unreadable(String);

/// What became of an entry that the agent told.
enum Fate {
    /// It stands here too.
    Stands,
    /// It is dead or superseded, as far as is known here.
    Over,
    /// It did not verify, or not yet.
    Unverified,
}

fn read<T: serde::de::DeserializeOwned>(data: &str) -> Result<T, Unreadable> {
    serde_json::from_str(data).map_err(|error| Unreadable(error.to_string()))
}

impl Core {
    /// Takes an event in.
    pub(crate) fn hear(&mut self, stream: StreamId, name: &str, data: &str) -> Result<Reaction, Unreadable> {
        match name {
            event::AUTHORITY => self.hear_authority(stream, &read(data)?),
            event::KEY => self.hear_key(stream, &read(data)?)?,
            event::SYNCED => {
                self.hear_synced(stream, &read(data)?);
                return Ok(Reaction::Synced);
            }
            event::GAP => return Ok(Reaction::Reopen),
            // Later agents may tell more.
            _ => {}
        }
        Ok(Reaction::Continue)
    }

    fn parse(&mut self, stream: StreamId, key: Option<&Key>, record: &str) -> Option<Fact> {
        let bytes = BASE64_STANDARD.decode(record).ok();
        let fact = bytes.ok_or(Code::Malformed);
        let fact = fact.and_then(|bytes| Fact::from_record(self.authority.cluster(), &bytes));
        fact.map_err(|code| self.reject(stream, key.cloned(), None, code.as_str())).ok()
    }

    /// Judges and verifies a fact.
    fn verify(&self, fact: Fact) -> Result<Verified, Verdict> {
        self.authority.check(fact, self.now)?.verify(self.verifier.as_ref())
    }

    fn hear_authority(&mut self, stream: StreamId, event: &AuthorityEvent) {
        let mut helped = false;
        for record in &event.records_b64 {
            let Some(fact) = self.parse(stream, None, record) else { continue };
            let id = fact.id();
            if !fact.is_authority() {
                self.reject(stream, None, Some(id), Code::Malformed.as_str());
                continue;
            }
            if self.authority.contains(&id) {
                continue;
            }
            match self.verify(fact) {
                Ok(verified) => helped |= self.merge_authority(verified),
                Err(Verdict::Refused(code)) => self.reject(stream, None, Some(id), code.as_str()),
                // It hangs below what is known to be revoked, or says nothing new.
                Err(_) => {}
            }
        }
        if helped {
            for key in self.keys.keys().cloned().collect::<Vec<_>>() {
                self.retry(&key);
            }
        }
    }

    /// Takes a verified grant, revocation or floor in; whether it was new.
    fn merge_authority(&mut self, verified: Verified) -> bool {
        let why = match verified.fact() {
            Fact::Revocation(revocation) => Some(Why::Revoked(revocation.body().grant.id())),
            Fact::Floor(floor) => Some(Why::Floored(floor.id())),
            Fact::Grant(_) | Fact::Entry(_) => None,
        };
        let change = self.authority.merge(verified);
        if change.verdict != Verdict::Merged {
            return false;
        }
        let Some(why) = why else { return true };
        let floored = matches!(why, Why::Floored(_));
        let mut hit = Vec::new();
        for (key, held) in &mut self.keys {
            let ended = held.end_grants(&change.dead) | (floored && held.end_floored(&self.authority));
            if ended {
                hit.push(key.clone());
            }
        }
        for key in hit {
            self.settle(&key, why);
        }
        true
    }

    fn hear_key(&mut self, stream: StreamId, event: &KeyEvent) -> Result<(), Unreadable> {
        let key = Key::parse(&event.key).map_err(|error| Unreadable(error.to_string()))?;
        let ids = event.entries.iter().map(|id| id.parse::<EntryId>()).collect::<Result<Vec<_>, _>>();
        let ids = ids.map_err(|error| Unreadable(error.to_string()))?;
        if self.interests.covering(&key).next().is_none() {
            // Nobody wants it any more.
            return Ok(());
        }
        let (mut over, mut accounted) = (false, Vec::new());
        for record in &event.records_b64 {
            let Some(Fact::Entry(fact)) = self.parse(stream, Some(&key), record) else { continue };
            let id = fact.id();
            if fact.entry().key != key || !ids.contains(&id) {
                self.reject(stream, Some(key.clone()), Some(id), Code::Malformed.as_str());
                continue;
            }
            match self.take(stream, &key, fact) {
                Fate::Stands => accounted.push(id),
                Fate::Over => {
                    over = true;
                    accounted.push(id);
                }
                Fate::Unverified => {}
            }
        }
        let held = self.keys.entry(key.clone()).or_default();
        // What stands here already may be listed without its record.
        held.unverified = !ids.iter().all(|id| accounted.contains(id) || held.contains(id));
        held.outdated = over;
        held.told = Some(ids);
        if let Some(telling) = self.streams.get_mut(&stream) {
            telling.told.insert(key.clone());
        }
        self.settle(&key, Why::Told);
        Ok(())
    }

    /// Judges an entry that an agent told, and takes it in if it verifies.
    fn take(&mut self, stream: StreamId, key: &Key, fact: EntryFact) -> Fate {
        if self.keys.get(key).is_some_and(|held| held.contains(&fact.id())) {
            return Fate::Stands;
        }
        let id = fact.id();
        if self.authority.is_floored(key, fact.entry().timestamp) {
            return Fate::Over;
        }
        match self.verify(Fact::Entry(fact.clone())) {
            Ok(_) => match self.keys.entry(key.clone()).or_default().merge(fact, &self.authority) {
                Merged::New | Merged::Known => Fate::Stands,
                Merged::Dominated => Fate::Over,
            },
            Err(Verdict::Unjustified(Code::GrantRevoked) | Verdict::Moot(_)) => Fate::Over,
            Err(Verdict::Unjustified(_) | Verdict::NotYet { .. }) => {
                self.keys.entry(key.clone()).or_default().wait(fact);
                Fate::Unverified
            }
            Err(verdict) => {
                let code = verdict.code().unwrap_or(Code::Malformed);
                self.reject(stream, Some(key.clone()), Some(id), code.as_str());
                Fate::Unverified
            }
        }
    }

    /// Offers again what waits for a grant or for its time.
    pub(super) fn retry(&mut self, key: &Key) {
        let waiting = self.keys.get_mut(key).map(Held::take_waiting).unwrap_or_default();
        if waiting.is_empty() {
            return;
        }
        for fact in waiting {
            // The stream it came from is not known any more; number 0 is never given.
            self.take(0, key, fact);
        }
        if let Some(held) = self.keys.get_mut(key) {
            let stands = |id| held.contains(id);
            held.unverified =
                held.told.as_ref().is_some_and(|told| held.unverified && !told.iter().all(stands));
        }
        self.settle(key, Why::Told);
    }

    fn hear_synced(&mut self, stream: StreamId, event: &SyncedEvent) {
        let Some(telling) = self.streams.get_mut(&stream) else { return };
        let (interests, told) = (telling.interests.clone(), std::mem::take(&mut telling.told));
        let (claimed, buckets) = (std::mem::take(&mut telling.claimed), telling.buckets);
        let differs = |key: &Key| {
            let bucket = Digests::bucket(key, buckets) as u64;
            event.different.as_ref().is_none_or(|list| list.iter().any(|place| u64::from(*place) == bucket))
        };
        let mut settled = Vec::new();
        for (key, held) in &mut self.keys {
            if !self.interests.covering_ids(key).any(|id| interests.contains(&id)) {
                continue;
            }
            held.loaded = true;
            // A stream that replaces another of the same agent adds nothing to what that has told.
            if held.told.is_none() && !told.contains(key) {
                let same = || claimed.get(key).cloned().unwrap_or_default();
                held.told = Some(if differs(key) { Vec::new() } else { same() });
            }
            settled.push(key.clone());
        }
        for key in settled {
            self.settle(&key, Why::Told);
        }
        for id in interests {
            if let Some(interest) = self.interests.get_mut(id) {
                (interest.loaded, interest.synced) = (true, true);
            }
        }
        // Whatever was opened before this one has done its work.
        self.streams.retain(|id, _| *id >= stream);
        self.changes.dirt = true;
    }

    /// Forgets keys that nobody named and of which nothing stands: to be called when their changes have been passed on.
    pub(crate) fn forget_bare<'a>(&mut self, keys: impl Iterator<Item = &'a Key>) {
        for key in keys {
            let bare = |held: &Held| held.is_empty() && !held.unverified && !held.outdated;
            if self.keys.get(key).is_some_and(bare) && !self.interests.names(key) {
                self.keys.remove(key);
            }
        }
    }
}
