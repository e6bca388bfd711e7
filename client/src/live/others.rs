//! Answers of agents other than the connected one: taken in like all facts, and compared with what the
//! connected one sent.
//!
//! A question is a watch that ends when its answer is complete. It carries digests of what is held, so an agent
//! that holds the same facts answers with one event.

use super::core::Core;
use super::held::Why;
use super::learned::What;
use super::offered::Offered;
use super::streams::{Telling, Way};
use super::telling::{Admitted, Source, Unreadable, read};
use super::told::Told;
use super::{MAX_ANSWER_EVENTS_BYTES, MAX_ANSWER_REJECTIONS, MAX_HANDED_BYTES, MAX_HANDED_FACTS};
use bytes::Bytes;
use kvgossip_api::{AuthorityEvent, KeyEvent, WatchRequest, event};
use kvgossip_grants::{Code, EntryFact, EntryId, Fact, FactId, GrantId, Key, Op, Verdict};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Returns the fact if it deletes its key.
fn delete(offered: Offered) -> Option<Box<EntryFact>> {
    match offered {
        Offered::Whole(fact) => Some(Box::new(fact)).filter(|fact| fact.value().is_none()),
        Offered::Front(signed) if signed.body().op == Op::Delete => {
            EntryFact::new(signed, Bytes::new()).ok().map(Box::new)
        }
        Offered::Front(_) => None,
    }
}

/// Question to one agent, and the state of its answer.
#[derive(Debug)]
pub(crate) struct Question {
    source: Source,
    /// Interests of the question, and the digests that it carries.
    telling: Telling,
    bytes: usize,
    rejected: usize,
    /// Whether the answer included something that cannot be judged here, or that the agent could not read.
    is_doubtful: bool,
    /// Whether the answer included an entry that is not due yet.
    is_early: bool,
}

impl Question {
    /// Returns whether everything in the answer verified.
    pub(crate) fn is_proven(&self) -> bool {
        self.rejected == 0 && !self.is_doubtful
    }

    /// Returns whether the answer included an entry that is not due yet.
    pub(crate) fn told_early(&self) -> bool {
        self.is_early
    }
}

/// Progress of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The answer is not complete: more events follow.
    More,
    /// The answer is complete.
    Whole,
}

impl Core {
    /// Builds a question to another agent.
    pub(crate) fn question(&self, endpoint: &str) -> (WatchRequest, Question) {
        let (request, telling) = self.request(endpoint, Way::Anew);
        let source = Source { endpoint: Arc::from(endpoint), stream: None };
        (request, Question { source, telling, bytes: 0, rejected: 0, is_doubtful: false, is_early: false })
    }

    /// Processes an event of an answer. Facts that verify count, whatever follows.
    pub(crate) fn hear_other(
        &mut self,
        question: &mut Question,
        name: &str,
        data: &str,
    ) -> Result<Answer, Unreadable> {
        question.bytes = question.bytes.saturating_add(data.len());
        if question.bytes > MAX_ANSWER_EVENTS_BYTES {
            return Err(Unreadable::Endless);
        }
        let before = self.rejections.count();
        match name {
            event::AUTHORITY => self.hear_others_authority(question, &read(data)?),
            event::KEY => self.hear_others_key(question, &read(data)?),
            event::SYNCED => return Ok(Answer::Whole),
            // Changes arrived faster than they were read; the next question covers them.
            event::GAP => return Err(Unreadable::Event("it skips changes".to_owned())),
            // Later versions of the agent may send more.
            _ => {}
        }
        question.rejected += usize::try_from(self.rejections.count() - before).unwrap_or(usize::MAX);
        if question.rejected > MAX_ANSWER_REJECTIONS { Err(Unreadable::Nothing) } else { Ok(Answer::More) }
    }

    fn hear_others_authority(&mut self, question: &Question, event: &AuthorityEvent) {
        let standing = self.keys.iter().filter_map(|(key, held)| Some((key.clone(), held.told_standing()?)));
        let standing: BTreeMap<Key, usize> = standing.collect();
        let taken = self.take_authority(&question.source, event);
        for id in &taken.ends {
            self.learned.note(*id, What::Ends);
        }
        if taken.is_new() {
            self.retry_all();
        }
        if !taken.ends.is_empty() {
            self.note_outdated(&standing);
        }
    }

    /// Marks keys as outdated if the connected agent sent entries for them that are now known to be over, until
    /// it sends these keys again.
    fn note_outdated(&mut self, standing: &BTreeMap<Key, usize>) {
        let mut hit = Vec::new();
        for (key, before) in standing {
            let Some(held) = self.keys.get_mut(key) else { continue };
            if held.told_standing().is_some_and(|now| now < *before)
                && let Some(told) = &mut held.told
            {
                told.outdated = true;
                hit.push(key.clone());
            }
        }
        hit.iter().for_each(|key| self.settle(key, Why::Told));
        self.changes.dirt |= !hit.is_empty();
    }

    fn hear_others_key(&mut self, question: &mut Question, event: &KeyEvent) {
        let source = question.source.clone();
        let Ok(key) = Key::parse(&event.key) else {
            return self.reject(&source, None, None, Code::Malformed);
        };
        let asked = |id| question.telling.interests.contains(&id);
        if !self.interests.covering_ids(&key).any(asked) {
            // It is no longer wanted, or was not asked for.
            return;
        }
        question.is_doubtful |= [KeyEvent::UNREADABLE, KeyEvent::EARLY].contains(&event.state.as_str());
        for offered in self.parse_entries(&source, &key, event) {
            let id = offered.id();
            if offered.entry().key != key {
                self.reject(&source, Some(&key), Some(id.into()), Code::Malformed);
                continue;
            }
            let admitted = self.admit(&key, &offered);
            if admitted == Ok(Admitted::New)
                && let Some(held) = self.keys.get_mut(&key)
            {
                held.note_learned(id);
            }
            match admitted {
                Ok(Admitted::New | Admitted::Known) => {
                    self.learned.note(id.into(), What::Entry(key.clone(), delete(offered)));
                }
                Ok(Admitted::Over | Admitted::Falls) => {}
                // The question is repeated before long; entries from other agents are not kept waiting.
                Err(verdict @ (Verdict::Unjustified(_) | Verdict::NotYet { .. })) => {
                    question.is_doubtful = true;
                    question.is_early |= matches!(verdict, Verdict::NotYet { .. });
                }
                Err(verdict) => {
                    self.reject(
                        &source,
                        Some(&key),
                        Some(id.into()),
                        verdict.code().unwrap_or(Code::Malformed),
                    );
                }
            }
        }
        let has_newest = self.keys.get(&key).is_some_and(|held| held.newest(self.now).is_some());
        // If there are very many entries, some are sent after the end of the answer or not at all; the shown
        // one may be among them.
        let is_part =
            event.part.is_some() || event.entries.len() > event.records_b64.len() + event.fronts_b64.len();
        question.is_doubtful |= is_part && !has_newest;
        let in_step = self.interests.covering(&key).any(|interest| interest.synced);
        if let Some(held) = self.keys.get_mut(&key)
            && in_step
            && held.told.is_none()
        {
            // The connected agent has sent everything that it holds, which did not include this key.
            held.told = Some(Told::exactly(held.ids(), &[]));
        }
        self.settle(&key, Why::Told);
    }

    /// Ids of the facts in effect here that other agents sent and the connected one has not: revocations,
    /// floors, and shown entries.
    pub(crate) fn lacked(&mut self) -> BTreeSet<FactId> {
        let (authority, keys, now) = (&self.authority, &self.keys, self.now);
        let is_lacked = |key: &Key, id: EntryId| keys.get(key).is_some_and(|held| held.lacks_shown(&id, now));
        self.learned.0.retain(|id, what| match what {
            What::Ends => authority.contains(id),
            What::Entry(key, _) => is_lacked(key, EntryId(id.0)),
        });
        self.learned.0.keys().copied().collect()
    }

    /// Facts to hand to an agent, each after the grants that it depends on. The facts in `ids` are marked
    /// `true`, the grants `false`. At most `MAX_HANDED_FACTS` and `MAX_HANDED_BYTES`; the rest is left for the
    /// next handover.
    pub(crate) fn facts_to_hand(&self, ids: &BTreeSet<FactId>) -> Vec<(Fact, bool)> {
        let (mut facts, mut seen, mut bytes) = (Vec::new(), BTreeSet::new(), 0);
        for id in ids {
            let fact = match self.learned.0.get(id) {
                Some(What::Ends) => self.authority.fact(id),
                Some(What::Entry(key, delete)) => {
                    let kept = || self.keys.get(key).and_then(|held| held.fact(&EntryId(id.0))).cloned();
                    delete.as_deref().cloned().or_else(kept).map(Fact::Entry)
                }
                None => None,
            };
            let Some(fact) = fact else { continue };
            bytes += fact.to_record().len();
            if facts.len() >= MAX_HANDED_FACTS || bytes > MAX_HANDED_BYTES && !facts.is_empty() {
                break;
            }
            for grant in self.chain_of(&fact) {
                if seen.insert(grant)
                    && let Some(grant) = self.authority.fact(&grant.into())
                {
                    facts.push((grant, false));
                }
            }
            facts.push((fact, true));
        }
        facts
    }

    /// Ids of the live grants that a fact depends on, from root's grant down; empty if it depends on none.
    fn chain_of(&self, fact: &Fact) -> Vec<GrantId> {
        let lowest = match fact {
            Fact::Entry(entry) => entry.entry().grant,
            Fact::Revocation(revocation) => revocation.body().grant.body().parent,
            Fact::Grant(grant) => grant.body().parent,
            Fact::Floor(_) => None,
        };
        let lowest = lowest.and_then(|id| self.authority.grant(&id));
        let mut chain: Vec<_> =
            lowest.into_iter().flat_map(|grant| grant.chain()).map(|grant| grant.id()).collect();
        chain.reverse();
        chain
    }

    /// Reports that the connected agent withheld a fact, and blames it.
    pub(crate) fn report_withheld(&mut self, endpoint: &str, id: FactId) {
        let key = match self.learned.0.get(&id) {
            Some(What::Entry(key, _)) => Some(key.clone()),
            Some(What::Ends) | None => None,
        };
        let source = Source { endpoint: Arc::from(endpoint), stream: None };
        self.reject_for(&source, key.as_ref(), Some(id), super::state::Rejection::WITHHELD);
        self.learned.clear();
    }

    /// Forgets which facts the connected agent lacks.
    pub(crate) fn drop_lacked(&mut self) {
        self.learned.clear();
    }
}
