//! Taking in what a stream tells.

use super::core::Core;
use super::held::{Held, Merged, Why};
use super::state::Rejection;
use super::streams::StreamId;
use super::{MAX_DEAD_GRANTS, MAX_UNVERIFIED_KEYS};
use base64::prelude::{BASE64_STANDARD, Engine};
use kvgossip_api::{AuthorityEvent, GapEvent, KeyEvent, SyncedEvent, event};
use kvgossip_grants::{Code, EntryFact, EntryId, Fact, FactId, Held as Digests, Key, Verdict, Verified};
use std::collections::BTreeSet;
use std::sync::Arc;

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

/// The agent does not speak as one of this cluster.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreadable {
    /// An event is not what the API says.
    #[error("an event that cannot be read: {0}")]
    Event(String),
    /// There would be no end to it.
    #[error("nothing verifies of {MAX_UNVERIFIED_KEYS} keys and more: is it an agent of this cluster?")]
    Nothing,
}

/// What became of an entry that the agent told.
pub(super) enum Fate {
    /// It stands here too.
    Stands,
    /// It is dead or superseded, as far as is known here.
    Over,
    /// It did not verify, or not yet.
    Unverified,
}

fn read<T: serde::de::DeserializeOwned>(data: &str) -> Result<T, Unreadable> {
    serde_json::from_str(data).map_err(|error| Unreadable::Event(error.to_string()))
}

/// Where something comes from, for what is said of it.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) endpoint: Arc<str>,
    pub(super) stream: Option<StreamId>,
}

impl Core {
    /// Takes an event in; `id` is the last that the stream gave.
    pub(crate) fn hear(
        &mut self,
        stream: StreamId,
        id: Option<&str>,
        name: &str,
        data: &str,
    ) -> Result<Reaction, Unreadable> {
        let reaction = match name {
            event::AUTHORITY => self.hear_authority(stream, &read(data)?),
            event::KEY => self.hear_key(stream, &read(data)?)?,
            event::SYNCED => self.hear_synced(stream, &read(data)?),
            event::GAP => self.hear_gap(stream, &read(data)?),
            // Later agents may tell more.
            _ => Reaction::Continue,
        };
        if let Some((telling, cursor)) = self.streams.get_mut(&stream).zip(id) {
            telling.note_cursor(cursor);
        }
        Ok(reaction)
    }

    fn source(&self, stream: StreamId) -> Source {
        let endpoint = self.streams.get(&stream).map(|telling| telling.endpoint.clone());
        Source { endpoint: endpoint.unwrap_or_else(|| "".into()), stream: Some(stream) }
    }

    /// Reports what does not verify.
    pub(super) fn reject(&mut self, source: &Source, key: Option<&Key>, id: Option<FactId>, code: Code) {
        let (endpoint, code) = (source.endpoint.to_string(), code.as_str().to_owned());
        // A time in the future may be the fault of this machine's clock.
        let blames = code != Code::NotYet.as_str();
        let rejection = Rejection { endpoint, key: key.cloned(), id, code, at: self.now };
        self.rejections.note(rejection, blames);
    }

    fn parse(&mut self, source: &Source, key: Option<&Key>, record: &str) -> Option<Fact> {
        let bytes = BASE64_STANDARD.decode(record).ok();
        let fact = bytes.ok_or(Code::Malformed);
        let fact = fact.and_then(|bytes| Fact::from_record(self.authority.cluster(), &bytes));
        fact.map_err(|code| self.reject(source, key, None, code)).ok()
    }

    /// Judges and verifies a fact.
    pub(super) fn verify(&self, fact: Fact) -> Result<Verified, Verdict> {
        self.authority.check(fact, self.now)?.verify(self.verifier.as_ref())
    }

    fn hear_authority(&mut self, stream: StreamId, event: &AuthorityEvent) -> Reaction {
        let source = self.source(stream);
        let mut helped = false;
        for record in &event.records_b64 {
            let Some(fact) = self.parse(&source, None, record) else { continue };
            let id = fact.id();
            if !fact.is_authority() {
                self.reject(&source, None, Some(id), Code::Malformed);
                continue;
            }
            if self.authority.contains(&id) {
                continue;
            }
            let parent = if let Fact::Grant(grant) = &fact { grant.body().parent } else { None };
            match self.verify(fact) {
                Ok(verified) => helped |= self.merge_authority(verified),
                Err(Verdict::Refused(code)) => self.reject(&source, None, Some(id), code),
                Err(Verdict::Unjustified(code)) => {
                    let below_dead = parent.is_some_and(|parent| self.dead.contains(&parent));
                    if parent.is_some() && (code == Code::GrantRevoked || below_dead) {
                        self.note_dead(id);
                    }
                }
                // It says nothing new.
                Err(_) => {}
            }
        }
        if helped {
            for key in self.keys.keys().cloned().collect::<Vec<_>>() {
                self.retry(&key);
            }
        }
        Reaction::Continue
    }

    /// What an agent that lags says of a grant below a revoked one is honest, and over.
    fn note_dead(&mut self, grant: FactId) {
        if self.dead.len() < MAX_DEAD_GRANTS {
            self.dead.insert(grant);
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
        change.dead.iter().for_each(|grant| self.note_dead(*grant));
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

    fn hear_key(&mut self, stream: StreamId, event: &KeyEvent) -> Result<Reaction, Unreadable> {
        let source = self.source(stream);
        let Ok(key) = Key::parse(&event.key) else {
            self.reject(&source, None, None, Code::Malformed);
            return Ok(Reaction::Continue);
        };
        if self.interests.covering(&key).next().is_none() {
            // Nobody wants it any more.
            return Ok(Reaction::Continue);
        }
        let ids = event.entries.iter().map(|id| id.parse::<EntryId>()).collect::<Result<Vec<_>, _>>();
        let ids = ids.unwrap_or_else(|_| {
            self.reject(&source, Some(&key), None, Code::Malformed);
            Vec::new()
        });
        let (mut over, mut accounted) = (false, BTreeSet::new());
        for record in &event.records_b64 {
            let Some(Fact::Entry(fact)) = self.parse(&source, Some(&key), record) else { continue };
            let id = fact.id();
            if fact.entry().key != key || !ids.contains(&id) {
                self.reject(&source, Some(&key), Some(id), Code::Malformed);
                continue;
            }
            match self.take(&source, &key, fact) {
                Fate::Stands => {
                    accounted.insert(id);
                }
                Fate::Over => {
                    over = true;
                    accounted.insert(id);
                }
                Fate::Unverified => {}
            }
        }
        let held = self.keys.entry(key.clone()).or_default();
        // What stands here already may be listed without its record.
        held.unverified = !ids.iter().all(|id| accounted.contains(id) || held.contains(id));
        held.outdated = over;
        held.told = Some(ids);
        // Otherwise it is when the stream is in step.
        if self.interests.covering(&key).any(|interest| interest.synced) {
            held.told_in_step();
        }
        let lacks_unreadable = held.unverified && event.state == KeyEvent::UNREADABLE;
        // By whichever stream: it is later than what another one compared when it was opened.
        for telling in self.streams.values_mut().filter(|telling| !telling.synced) {
            telling.told.insert(key.clone());
        }
        self.settle(&key, Why::Told);
        if lacks_unreadable {
            // Another agent may have it.
            let (endpoint, code) = (source.endpoint.to_string(), Rejection::UNREADABLE.to_owned());
            self.rejections.note(Rejection { endpoint, key: Some(key), id: None, code, at: self.now }, true);
        }
        if self.bare_troubled.len() > MAX_UNVERIFIED_KEYS {
            return Err(Unreadable::Nothing);
        }
        Ok(Reaction::Continue)
    }

    /// Judges an entry that an agent told, and takes it in if it verifies.
    pub(super) fn take(&mut self, source: &Source, key: &Key, fact: EntryFact) -> Fate {
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
            Err(Verdict::Unjustified(_)) if fact.entry().grant.is_some_and(|id| self.dead.contains(&id)) => {
                Fate::Over
            }
            Err(Verdict::Unjustified(_) | Verdict::NotYet { .. }) => {
                self.keep_waiting(source, key, fact);
                Fate::Unverified
            }
            Err(verdict) => {
                self.reject(source, Some(key), Some(id), verdict.code().unwrap_or(Code::Malformed));
                Fate::Unverified
            }
        }
    }

    /// The cursor leads nowhere, and digests are compared instead; or the stream is over.
    fn hear_gap(&mut self, stream: StreamId, event: &GapEvent) -> Reaction {
        self.bookmark = None;
        let Some(telling) = self.streams.get_mut(&stream) else { return Reaction::Continue };
        if event.reason == GapEvent::CURSOR && !telling.synced {
            telling.resuming = false;
            telling.told.clear();
            self.forget_told(&BTreeSet::new());
            return Reaction::Continue;
        }
        // What it told last is not all that happened.
        telling.dropped_some = true;
        Reaction::Reopen
    }

    fn hear_synced(&mut self, stream: StreamId, event: &SyncedEvent) -> Reaction {
        let Some(telling) = self.streams.get_mut(&stream).filter(|telling| !telling.synced) else {
            return Reaction::Continue;
        };
        telling.synced = true;
        let (interests, told) = (telling.interests.clone(), std::mem::take(&mut telling.told));
        let (claimed, buckets) = (std::mem::take(&mut telling.claimed), telling.buckets);
        let resumed = telling.resuming && event.resumed;
        let differs = |key: &Key| {
            let bucket = Digests::bucket(key, buckets) as u64;
            event.different.as_ref().is_none_or(|list| list.iter().any(|place| u64::from(*place) == bucket))
        };
        let mut settled = Vec::new();
        for (key, held) in &mut self.keys {
            if !self.interests.covering_ids(key).any(|id| interests.contains(&id)) {
                continue;
            }
            if !resumed && !told.contains(key) {
                let same = || claimed.get(key).cloned().unwrap_or_default();
                held.told = Some(if differs(key) { Vec::new() } else { same() });
                (held.unverified, held.outdated) = (false, false);
            }
            held.told_in_step();
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
        Reaction::Synced
    }

    /// Forgets keys that nobody named and of which nothing stands: to be called when their changes have been passed on.
    pub(crate) fn forget_bare<'a>(&mut self, keys: impl Iterator<Item = &'a Key>) {
        for key in keys {
            let bare = |held: &Held| held.is_empty() && !held.unverified && !held.outdated;
            if self.keys.get(key).is_some_and(bare) && !self.interests.names(key) {
                self.forget(key);
            }
        }
    }
}
