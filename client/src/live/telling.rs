//! Processes the events of a stream.

use super::core::Core;
use super::held::{KeyState, Merged, Why};
use super::offered::Offered;
use super::state::Rejection;
use super::streams::StreamId;
use super::told::{Part, Told};
use super::{MAX_ANSWER_EVENTS_BYTES, MAX_UNVERIFIED_KEYS};
use base64::prelude::{BASE64_STANDARD, Engine};
use kvgossip_api::{AuthorityEvent, GapEvent, KeyEvent, SyncedEvent, event};
use kvgossip_grants::{
    Code, Entry, EntryId, Fact, FactId, GrantId, HeldDigests, Key, LiveGrant, Signed, Verdict, Verified,
};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Consequence of an event for its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reaction {
    /// The stream goes on, and nothing else follows from the event.
    Continue,
    /// The stream is in step from here on.
    Synced,
    /// The stream has missed something: it must be opened again, comparing digests.
    Reopen,
}

/// Error: the agent does not behave like one of this cluster.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreadable {
    /// An event does not conform to the API.
    #[error("an event that cannot be read: {0}")]
    Event(String),
    /// The agent sent more than `MAX_UNVERIFIED_KEYS` keys of which nothing verifies.
    #[error("nothing verifies of {MAX_UNVERIFIED_KEYS} keys and more: is it an agent of this cluster?")]
    Nothing,
    /// The answer is too long.
    #[error("an answer of more than {MAX_ANSWER_EVENTS_BYTES} bytes")]
    Endless,
}

/// Result of taking in an entry sent by the agent.
pub(super) enum Fate {
    /// The entry is in the frontier.
    Stands,
    /// The entry is ended or superseded, as far as is known here.
    Over,
    /// The entry is older than those dropped for lack of room, and is not taken in.
    Falls,
    /// The entry did not verify, or cannot be judged yet.
    Unverified,
}

/// Result of judging an entry that is neither refused nor to be judged later. `Over` and `Falls` do not say that its
/// signature was verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admitted {
    /// The entry is newly in the frontier.
    New,
    /// The entry was already in the frontier.
    Known,
    /// The entry is ended or superseded, as far as is known here.
    Over,
    /// The entry is older than those dropped for lack of room, and is not taken in.
    Falls,
}

pub(super) fn read<T: serde::de::DeserializeOwned>(data: &str) -> Result<T, Unreadable> {
    serde_json::from_str(data).map_err(|error| Unreadable::Event(error.to_string()))
}

/// Agent and stream that a fact came from, for reports.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) endpoint: Arc<str>,
    pub(super) stream: Option<StreamId>,
}

impl Core {
    /// Processes an event; `id` is the last id that the stream sent.
    pub(crate) fn hear(
        &mut self,
        stream: StreamId,
        id: Option<&str>,
        name: &str,
        data: &str,
    ) -> Result<Reaction, Unreadable> {
        let mut reaction = match name {
            event::AUTHORITY => self.hear_authority(stream, &read(data)?),
            event::KEY => self.hear_key(stream, &read(data)?)?,
            event::SYNCED => self.hear_synced(stream, &read(data)?),
            event::GAP => self.hear_gap(stream, &read(data)?),
            // Later versions of the agent may send more.
            _ => Reaction::Continue,
        };
        if let Some((telling, cursor)) = self.streams.get_mut(&stream).zip(id) {
            telling.note_cursor(cursor);
        }
        if std::mem::take(&mut self.lost_sight)
            && reaction == Reaction::Continue
            && let Some(telling) = self.streams.get_mut(&stream)
        {
            telling.dropped_some = true;
            reaction = Reaction::Reopen;
        }
        Ok(reaction)
    }

    fn source(&self, stream: StreamId) -> Source {
        let endpoint = self.streams.get(&stream).map(|telling| telling.endpoint.clone());
        Source { endpoint: endpoint.unwrap_or_else(|| "".into()), stream: Some(stream) }
    }

    /// Reports a fact that does not verify.
    pub(super) fn reject(&mut self, source: &Source, key: Option<&Key>, id: Option<FactId>, code: Code) {
        self.reject_for(source, key, id, code.as_str());
    }

    pub(super) fn reject_for(&mut self, source: &Source, key: Option<&Key>, id: Option<FactId>, code: &str) {
        let (endpoint, code) = (source.endpoint.to_string(), code.to_owned());
        // A time in the future may be the fault of this machine's clock.
        let blames = code != Code::NotYet.as_str();
        let rejection = Rejection { endpoint, key: key.cloned(), id, code, at: self.now };
        self.rejections.note(rejection, blames);
    }

    pub(super) fn parse(&mut self, source: &Source, key: Option<&Key>, record: &str) -> Option<Fact> {
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
        let taken = self.take_authority(&source, event);
        taken.told.iter().for_each(|id| self.learned.note_told(id));
        if taken.is_new() {
            self.retry_all();
        }
        Reaction::Continue
    }

    fn hear_key(&mut self, stream: StreamId, event: &KeyEvent) -> Result<Reaction, Unreadable> {
        let source = self.source(stream);
        let Ok(key) = Key::parse(&event.key) else {
            self.reject(&source, None, None, Code::Malformed);
            return Ok(Reaction::Continue);
        };
        if self.interests.covering(&key).next().is_none() {
            // The key is no longer wanted.
            return Ok(Reaction::Continue);
        }
        let Some(part) = Part::read(event.part.as_ref()) else {
            self.reject(&source, Some(&key), None, Code::Malformed);
            return Ok(Reaction::Continue);
        };
        let ids = event.entries.iter().map(|id| id.parse::<EntryId>()).collect::<Result<BTreeSet<_>, _>>();
        let ids = ids.unwrap_or_else(|_| {
            self.reject(&source, Some(&key), None, Code::Malformed);
            BTreeSet::new()
        });
        self.keys.entry(key.clone()).or_default().begin_event(part, stream);
        let (mut over, mut accounted) = (false, BTreeSet::new());
        for offered in self.parse_entries(&source, &key, event) {
            let id = offered.id();
            if offered.entry().key != key || !ids.contains(&id) {
                self.reject(&source, Some(&key), Some(id.into()), Code::Malformed);
                continue;
            }
            match self.take(&source, &key, offered) {
                Fate::Stands | Fate::Falls => {
                    accounted.insert(id);
                }
                Fate::Over => {
                    over = true;
                    accounted.insert(id);
                }
                Fate::Unverified => {}
            }
        }
        let in_step = self.interests.covering(&key).any(|interest| interest.synced);
        let held = self.keys.entry(key.clone()).or_default();
        let mut unknown = None;
        // An entry of the frontier may be listed without its record.
        let (known, doubtful): (Vec<_>, Vec<_>) =
            ids.into_iter().partition(|id| accounted.contains(id) || held.contains(id));
        if let Some(told) = &mut held.told {
            known.iter().for_each(|id| told.account(id));
            unknown = match event.state.as_str() {
                KeyEvent::UNREADABLE => Some(Rejection::UNREADABLE),
                KeyEvent::EARLY => Some(Rejection::EARLY),
                _ => None,
            };
            unknown = unknown.filter(|_| !doubtful.is_empty());
            doubtful.into_iter().for_each(|id| told.doubt(id));
            told.outdated |= over;
            told.note(part, stream, event.entry.as_ref().and_then(|id| id.parse().ok()));
            // Otherwise this happens when the stream is in step.
            if in_step {
                told.is_in_step();
            }
        }
        // This holds for every stream not yet in step: the event is later than the digests that the stream
        // compared.
        for telling in self.streams.values_mut().filter(|telling| !telling.synced) {
            telling.told.insert(key.clone());
        }
        self.settle(&key, Why::Told);
        if let Some(code) = unknown {
            // Another agent may have it.
            let (endpoint, code) = (source.endpoint.to_string(), code.to_owned());
            self.rejections.note(Rejection { endpoint, key: Some(key), id: None, code, at: self.now }, true);
        }
        if self.bare_troubled.len() > MAX_UNVERIFIED_KEYS {
            return Err(Unreadable::Nothing);
        }
        Ok(Reaction::Continue)
    }

    /// Parses the entries of an event.
    pub(super) fn parse_entries(&mut self, source: &Source, key: &Key, event: &KeyEvent) -> Vec<Offered> {
        let mut offered = Vec::with_capacity(event.records_b64.len() + event.fronts_b64.len());
        for record in &event.records_b64 {
            if let Some(Fact::Entry(fact)) = self.parse(source, Some(key), record) {
                offered.push(Offered::Whole(fact));
            }
        }
        let cluster = self.authority.cluster();
        for front in &event.fronts_b64 {
            let front = BASE64_STANDARD.decode(front).map_err(|_| Code::Malformed);
            match front.and_then(|front| Signed::<Entry>::from_front(cluster, &front)) {
                Ok(signed) => offered.push(Offered::Front(signed)),
                Err(code) => self.reject(source, Some(key), None, code),
            }
        }
        offered
    }

    /// Judges an entry sent by the connected agent, and takes it in if it verifies.
    pub(super) fn take(&mut self, source: &Source, key: &Key, offered: Offered) -> Fate {
        match self.admit(key, &offered) {
            Ok(Admitted::New | Admitted::Known) => Fate::Stands,
            Ok(Admitted::Over) => Fate::Over,
            Ok(Admitted::Falls) => Fate::Falls,
            Err(Verdict::Unjustified(_) | Verdict::NotYet { .. }) => {
                self.keep_waiting(source, key, offered);
                Fate::Unverified
            }
            Err(verdict) => {
                let code = verdict.code().unwrap_or(Code::Malformed);
                self.reject(source, Some(key), Some(offered.id().into()), code);
                Fate::Unverified
            }
        }
    }

    /// Judges an entry, whichever agent sent it, and takes it in if it verifies.
    pub(super) fn admit(&mut self, key: &Key, offered: &Offered) -> Result<Admitted, Verdict> {
        let (now, grant) = (self.now, offered.entry().grant);
        let held = self.keys.entry(key.clone()).or_default();
        if held.contains(&offered.id()) {
            held.keep_value(offered.clone());
            return Ok(Admitted::Known);
        }
        if self.authority.is_floored(key, offered.entry().timestamp) {
            return Ok(Admitted::Over);
        }
        let live = |id: &GrantId| self.authority.grant(id).map(AsRef::<LiveGrant>::as_ref);
        if held.falls(offered.rank(), grant.as_ref().and_then(live), now) {
            return Ok(Admitted::Falls);
        }
        match self.authority.verify_entry(offered.signed(), now, self.verifier.as_ref()) {
            Ok(grant) => Ok(match held.merge(offered.clone(), grant.cloned(), now) {
                Merged::Stands => Admitted::New,
                Merged::Dominated => Admitted::Over,
            }),
            Err(Verdict::Unjustified(Code::GrantRevoked) | Verdict::Moot(_)) => Ok(Admitted::Over),
            Err(Verdict::Unjustified(_)) if grant.is_some_and(|id| self.dead.contains(&id)) => {
                Ok(Admitted::Over)
            }
            Err(verdict) => Err(verdict),
        }
    }

    /// Processes a gap: either the cursor is unusable and digests are compared instead, or the stream is over.
    fn hear_gap(&mut self, stream: StreamId, event: &GapEvent) -> Reaction {
        self.bookmark = None;
        let Some(telling) = self.streams.get_mut(&stream) else { return Reaction::Continue };
        if event.reason == GapEvent::CURSOR && !telling.synced {
            telling.resuming = false;
            telling.told.clear();
            self.forget_told(&BTreeSet::new());
            return Reaction::Continue;
        }
        // The last events are not everything that happened.
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
        if event.same_authority != Some(false) {
            // The agent claims to hold what other agents sent, or else it has sent everything that it holds.
            self.learned.clear_authority();
        }
        let differs = |key: &Key| {
            let bucket = HeldDigests::bucket(key, buckets) as u64;
            event.different.as_ref().is_none_or(|list| list.iter().any(|place| u64::from(*place) == bucket))
        };
        let mut settled = Vec::new();
        for (key, held) in &mut self.keys {
            if !self.interests.covering_ids(key).any(|id| interests.contains(&id)) {
                continue;
            }
            if !resumed {
                let same = || claimed.get(key).map_or(&[][..], Vec::as_slice);
                let (was_told, differs) = (told.contains(key), differs(key));
                let standing = held.ids().collect::<Vec<_>>();
                match &mut held.told {
                    // Everything received since then adds to what both sides have in common.
                    Some(told) if was_told && !told.is_whole() && !differs => told.complete(same()),
                    Some(_) if was_told => {}
                    other => {
                        *other = Some(Told::exactly(standing.into_iter(), if differs { &[] } else { same() }))
                    }
                }
            }
            if let Some(told) = &mut held.told {
                told.is_in_step();
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
        // Streams opened before this one are no longer needed.
        self.streams.retain(|id, _| *id >= stream);
        self.changes.dirt = true;
        Reaction::Synced
    }

    /// Drops keys that are not subscribed by name and have no entry. Call it after their changes have been
    /// published.
    pub(crate) fn forget_bare<'a>(&mut self, keys: impl Iterator<Item = &'a Key>) {
        for key in keys {
            let quiet = |told: &Told| told.is_whole() && !told.is_disputed();
            let bare = |held: &KeyState| held.is_empty() && held.told.as_ref().is_none_or(quiet);
            if self.keys.get(key).is_some_and(bare) && !self.interests.names(key) {
                self.forget(key);
            }
        }
    }
}
