//! Takes in grants, revocations and floors, whichever agent sends them.

use super::MAX_DEAD_GRANTS;
use super::core::Core;
use super::held::Why;
use super::telling::Source;
use kvgossip_api::AuthorityEvent;
use kvgossip_grants::{Code, Fact, FactId, GrantId, Verdict, Verified};

/// Result of taking in the authority facts of an event.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// Ids of all grants, revocations and floors in the event, new or known.
    pub(super) told: Vec<FactId>,
    /// Ids of those revocations and floors in the event that were new to this client.
    pub(super) ends: Vec<FactId>,
    /// Number of those grants in the event that were new to this client.
    grants: usize,
}

impl Taken {
    pub(super) fn is_new(&self) -> bool {
        self.grants > 0 || !self.ends.is_empty()
    }
}

impl Core {
    /// Verifies and merges the grants, revocations and floors of an event.
    pub(super) fn take_authority(&mut self, source: &Source, event: &AuthorityEvent) -> Taken {
        let mut taken = Taken::default();
        for record in &event.records_b64 {
            let Some(fact) = self.parse(source, None, record) else { continue };
            let id = fact.id();
            if !fact.is_authority() {
                self.reject(source, None, Some(id), Code::Malformed);
                continue;
            }
            taken.told.push(id);
            if self.authority.contains(&id) {
                continue;
            }
            let below = match &fact {
                Fact::Grant(grant) => grant.body().parent.map(|parent| (grant.id(), parent)),
                _ => None,
            };
            let ends = matches!(fact, Fact::Revocation(_) | Fact::Floor(_));
            match self.verify(fact) {
                Ok(verified) => match (self.merge_authority(verified), ends) {
                    (true, true) => taken.ends.push(id),
                    (true, false) => taken.grants += 1,
                    (false, _) => {}
                },
                Err(Verdict::Refused(code)) => self.reject(source, None, Some(id), code),
                Err(Verdict::Unjustified(code)) => {
                    if let Some((grant, parent)) = below
                        && (code == Code::GrantRevoked || self.dead.contains(&parent))
                    {
                        self.note_dead(grant);
                    }
                }
                // The fact is already superseded or known.
                Err(_) => {}
            }
        }
        taken
    }

    /// Judges all entries again that wait for a grant.
    pub(super) fn retry_all(&mut self) {
        for key in self.keys.keys().cloned().collect::<Vec<_>>() {
            self.retry(&key);
        }
    }

    /// Remembers a grant that is revoked or below a revoked one, at most `MAX_DEAD_GRANTS` of them, so that
    /// entries below it from a lagging but honest agent count as over rather than unverified.
    fn note_dead(&mut self, grant: GrantId) {
        if self.dead.len() < MAX_DEAD_GRANTS {
            self.dead.insert(grant);
        }
    }

    /// Merges a verified grant, revocation or floor. Returns whether it was new.
    fn merge_authority(&mut self, verified: Verified) -> bool {
        let why = match verified.fact() {
            Fact::Revocation(revocation) => Some(Why::Revoked(revocation.body().grant.id())),
            Fact::Floor(floor) => Some(Why::Floored(floor.id())),
            Fact::Grant(_) | Fact::Entry(_) => None,
        };
        let revoked =
            if let Some(Why::Revoked(id)) = why { self.authority.grant(&id).cloned() } else { None };
        let change = self.authority.merge(verified);
        if change.verdict != Verdict::Merged {
            return false;
        }
        let Some(why) = why else { return true };
        change.dead.iter().for_each(|grant| self.note_dead(*grant));
        let floored = matches!(why, Why::Floored(_));
        let mut hit = Vec::new();
        for (key, held) in &mut self.keys {
            let ended = revoked.as_ref().is_some_and(|grant| held.end_below(grant));
            if ended || floored && held.end_floored(&self.authority, key) {
                hit.push(key.clone());
            }
        }
        for key in hit {
            self.settle(&key, why);
        }
        true
    }
}
