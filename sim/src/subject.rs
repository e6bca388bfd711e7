//! The interface of things that are judged: anything that takes facts in; the real replica implements it.

use crate::audit::audit;
pub use crate::complaint::Complaint;
use crate::drive::drive;
use crate::hint::is_misled;
use crate::naive::{Answer, Facts};
use crate::pair::{Ended, Link, sync};
use crate::replica::SimReplica;
use crate::world::World;
use bytes::Bytes;
use kvgossip_engine::session::{MAX_ROUNDS, Outcome};
use kvgossip_grants::{Digest, EntryId, Fact, FactId, Key, Timestamp, Verdict};
use std::collections::BTreeMap;

/// Result of a session between two subjects.
#[derive(Clone, Copy, Debug, Default)]
pub struct Met {
    /// Whether both sides hold the same facts within the session's scope; `None` if the connection was cut.
    pub equal: Option<bool>,
    /// Number of rounds that the session began.
    pub rounds: u32,
    /// Number of flights of the session, that is, of changes of direction.
    pub flights: u32,
    /// Whether the session took another round although nothing was cut, no fact came from elsewhere, and all facts
    /// could be taken in.
    pub needless_round: bool,
    /// Whether the session missed differences because of a collision of two short hashes.
    pub misled: bool,
    /// Number of facts that were sent before the facts on which they depend, as far as that can be observed.
    pub early: u64,
    /// Number of facts that the session transferred.
    pub moved: u64,
    /// Number of transferred facts that were moot.
    pub moot: u64,
}

/// Something that takes facts in and that the judge can check, such as a replica.
pub trait Subject: Sized {
    /// Returns the time of the subject's clock.
    fn clock(&self) -> Timestamp;
    /// Sets the subject's clock.
    fn set_clock(&mut self, now: Timestamp);
    /// Checks all facts at one moment, then merges the acceptable ones together.
    fn offer(&mut self, batch: &[Fact]) -> Vec<Answer>;
    /// Runs a session with another subject over the connection `link`, and reports violations of the session's rules.
    fn meet(&mut self, other: &mut Self, link: &Link) -> Result<Met, Complaint>;
    /// Restarts the subject from its store.
    fn restart(&mut self) -> Result<(), Complaint>;
    /// Returns all facts that the subject has taken in so far, from any source.
    fn taken(&self) -> &Facts;
    /// Returns all records in the subject's store, by the ids of their facts.
    fn stored(&self) -> BTreeMap<FactId, Bytes>;
    /// Returns the root digest of the subject's state.
    fn root(&self) -> Digest;
    /// Returns the id of the entry of `key` that a reader sees at `now`; `None` if the key is unset.
    fn shown(&self, key: &Key, now: Timestamp) -> Option<EntryId>;
    /// Checks everything else in the subject that must agree with the normal form, such as indexes and change events.
    fn audit(&self, world: &World, normal: &Facts) -> Result<(), Complaint>;
}

/// Converts a verdict to an [`Answer`], which has no reason.
pub fn answer(verdict: Verdict) -> Answer {
    match verdict {
        Verdict::Merged => Answer::Merged,
        Verdict::Moot(_) => Answer::Moot,
        Verdict::NotYet { .. } => Answer::NotYet,
        Verdict::Unjustified(_) => Answer::Unjustified,
        Verdict::Refused(_) => Answer::Refused,
        Verdict::Misused(code) => panic!("the simulator offers facts of one cluster alone: {code}"),
    }
}

/// Maximum number of flights per round of a session between replicas of these small worlds: measured, with a margin.
const MAX_FLIGHTS: u32 = 16;

impl Subject for SimReplica {
    fn clock(&self) -> Timestamp {
        self.now
    }

    fn set_clock(&mut self, now: Timestamp) {
        self.now = now;
    }

    fn offer(&mut self, batch: &[Fact]) -> Vec<Answer> {
        let checked: Vec<_> = batch.iter().map(|fact| self.check(fact.clone())).collect();
        let good = checked.iter().filter_map(|checked| checked.clone().ok()).collect();
        let mut applied = self.apply(good).into_iter();
        let verdict = |checked: Result<_, Verdict>| match checked {
            Ok(_) => applied.next().unwrap_or(Verdict::Merged),
            Err(verdict) => verdict,
        };
        checked.into_iter().map(verdict).map(answer).collect()
    }

    fn meet(&mut self, other: &mut Self, link: &Link) -> Result<Met, Complaint> {
        let ended = match &link.drive {
            None => sync(self, other, link),
            Some(how) => {
                let driven = drive(self, other, link, how);
                if driven.stalled.is_some() {
                    return Err(Complaint::Session(format!(
                        "a side waits for what does not come: {how:?} {driven:?}"
                    )));
                }
                driven.ended
            }
        };
        let mut misled = false;
        if let Err(what) = check_session(&ended, link, self, other) {
            misled = what == UNSETTLED && is_misled(self, other, link.seed, ended.tally.rounds);
            if !misled {
                return Err(Complaint::Session(format!("{what}: {ended:?}")));
            }
        }
        let (ours, theirs) = (ended.tally, ended.responder_tally);
        let moved = [ours, theirs].map(|tally| tally.received.authority_facts + tally.received.entry_facts);
        Ok(Met {
            equal: ended.outcome.map(|outcome| outcome == Outcome::Equal),
            rounds: ours.rounds,
            flights: ours.flights,
            needless_round: ours.rounds > 1 && link.is_plain() && ours.not_yet + theirs.not_yet == 0,
            misled,
            early: if link.is_plain() && link.batch == 1 { ended.early } else { 0 },
            moved: moved.iter().sum(),
            moot: ours.moot + theirs.moot,
        })
    }

    fn restart(&mut self) -> Result<(), Complaint> {
        let before = (self.view().root(), self.view().batch());
        SimReplica::restart(self).map_err(|error| Complaint::Restart(error.to_string()))?;
        let after = (self.view().root(), self.view().batch());
        if before == after { Ok(()) } else { Err(Complaint::Restart(format!("{before:?} became {after:?}"))) }
    }

    fn taken(&self) -> &Facts {
        static NOTHING: Facts = Facts::new();
        SimReplica::taken(self).unwrap_or(&NOTHING)
    }

    fn stored(&self) -> BTreeMap<FactId, Bytes> {
        self.storage().records().clone()
    }

    fn root(&self) -> Digest {
        self.view().root()
    }

    fn shown(&self, key: &Key, now: Timestamp) -> Option<EntryId> {
        self.view().shown(key, now).map(|entry| entry.id)
    }

    fn audit(&self, world: &World, normal: &Facts) -> Result<(), Complaint> {
        audit(self, world, normal)
    }
}

/// Text of the complaint about a session that ended unsettled, which a collision of short hashes excuses.
const UNSETTLED: &str = "unsettled for no good reason";

/// Checks the rules that every session between two honest replicas must keep.
fn check_session(ended: &Ended, link: &Link, a: &SimReplica, b: &SimReplica) -> Result<(), &'static str> {
    if ended.error.is_some() {
        return Err("an error between honest replicas");
    }
    if ended.tally.rounds > u32::from(MAX_ROUNDS)
        || ended.tally.flights > 2 + MAX_FLIGHTS * ended.tally.rounds.max(1)
    {
        return Err("too many rounds or flights");
    }
    if ended.tally.refused + ended.responder_tally.refused > 0 {
        return Err("an honest replica sent what can never be accepted");
    }
    if link.cut.is_some() && (ended.outcome.is_none() || ended.responder_outcome.is_none()) {
        return Ok(());
    }
    let (Some(outcome), Some(theirs)) = (ended.outcome, ended.responder_outcome) else {
        return Err("it did not end");
    };
    if outcome != theirs {
        return Err("the two sides disagree about how it ended");
    }
    if !link.meanwhile.is_empty() {
        // The two sides may have been equal at some moment, or never.
        return Ok(());
    }
    let same_authority = a.view().authority_root() == b.view().authority_root();
    let same = same_authority && a.view().digest(&link.scope) == b.view().digest(&link.scope);
    if same != (outcome == Outcome::Equal) {
        return Err("it ended otherwise than the two sides stand");
    }
    if let Outcome::Unsettled(why) = outcome {
        let read_only = !(link.takes_facts.0 && link.takes_facts.1);
        if why.read_only != read_only || !(why.not_yet || why.read_only) || why.truncated {
            return Err(UNSETTLED);
        }
    }
    Ok(())
}
