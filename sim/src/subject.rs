//! What is judged: anything that takes facts in, and the real replica as one such thing.

use crate::audit::audit;
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

/// Which law was broken, and how.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Complaint {
    /// Other facts are stored than those of the normal form, or other bytes.
    #[error("what is stored is not the normal form of what was taken in: {0}")]
    Stored(String),
    /// A digest is not that of the normal form.
    #[error("a digest is not that of the normal form: {0}")]
    Digest(String),
    /// A reader is shown something else.
    #[error("a reader sees something else: {0}")]
    Shown(String),
    /// An offer was answered otherwise than the law says.
    #[error("an offer was answered wrongly: {0}")]
    Answer(String),
    /// A session did not end, not as it must, or took too long.
    #[error("a session went wrong: {0}")]
    Session(String),
    /// Replicas do not become equal.
    #[error("replicas stay different: {0}")]
    Unequal(String),
    /// The changes that readers were told do not add up to the state.
    #[error("the change feed is wrong: {0}")]
    Feed(String),
    /// An index does not agree with the facts.
    #[error("an index is wrong: {0}")]
    Index(String),
    /// A restart changed something.
    #[error("a restart changed something: {0}")]
    Restart(String),
}

/// What a session came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Met {
    /// Whether both sides hold the same within the session's scope; `None` if the wire was cut.
    pub equal: Option<bool>,
    /// Rounds that were begun.
    pub rounds: u32,
    /// Changes of direction.
    pub flights: u32,
    /// Whether it took another round although nothing was cut, nothing came meanwhile, and all could be taken in.
    pub needless_round: bool,
    /// Whether it found less than there was, for two short hashes that were alike.
    pub misled: bool,
    /// Facts that were sent before what they stand on, as far as that can be seen.
    pub early: u64,
    /// Facts that went over the wire.
    pub moved: u64,
    /// Facts among them that were fine and changed nothing.
    pub moot: u64,
}

/// Something that takes facts in.
pub trait Subject: Sized {
    /// Its clock.
    fn clock(&self) -> Timestamp;
    /// Sets its clock.
    fn set_clock(&mut self, now: Timestamp);
    /// Judges all facts at one moment, then takes in those that can be, together.
    fn offer(&mut self, batch: &[Fact]) -> Vec<Answer>;
    /// Runs a session with another one, and complains if it does not go as a session must.
    fn meet(&mut self, other: &mut Self, link: &Link) -> Result<Met, Complaint>;
    /// Starts again from what is stored.
    fn restart(&mut self) -> Result<(), Complaint>;
    /// Everything that was taken in so far.
    fn taken(&self) -> &Facts;
    /// Everything that is stored.
    fn stored(&self) -> BTreeMap<FactId, Bytes>;
    /// The digest over everything.
    fn root(&self) -> Digest;
    /// The entry that a reader sees.
    fn shown(&self, key: &Key, now: Timestamp) -> Option<EntryId>;
    /// Looks at everything else that must agree with the normal form.
    fn audit(&self, world: &World, normal: &Facts) -> Result<(), Complaint>;
}

/// A verdict without its reason.
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

/// A session in one of these small worlds takes at most so many flights a round: measured, with some room.
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

/// The complaint that equal short hashes excuse.
const UNSETTLED: &str = "unsettled for no good reason";

/// What any session between two honest replicas keeps.
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
        // They may have been equal once, or never.
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
