//! Checks a batch of facts in which some may depend on grants of the same batch.

use crate::view::View;
use kvgossip_grants::{Authority, Code, Fact, GrantId, Verdict, Verified};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Checks a batch in passes: a fact that depends on a grant of the batch is checked once that grant is verified, as if
/// the grant were merged. Each fact is checked once.
///
/// Take passes from [`Judging::next_pass`] until there is none, check and verify their facts in any order, and report
/// the results to [`Judging::handle`].
///
/// Facts that are part of the state already, or that the state makes moot, get their verdict at once: a replay costs a
/// look-up instead of a signature verification. An id covers neither signature nor value, so a corrupt copy of such a
/// fact counts as known as well; neither copy has an effect.
#[derive(Debug)]
pub struct Judging {
    /// Authority set of the state, with those verified grants of the batch merged on which other facts of the batch may
    /// depend.
    authority: Arc<Authority>,
    waiting: Vec<(usize, Fact)>,
    /// Ids of the batch's grants that the state does not know and that are not verified yet.
    coming: BTreeSet<GrantId>,
    verdicts: Vec<Option<Verdict>>,
    verified: Vec<(usize, Verified)>,
}

/// The facts of a batch that can be checked now, in any order.
#[derive(Debug)]
pub struct Pass {
    /// Authority set to check the facts against.
    pub authority: Arc<Authority>,
    /// Facts to check, each with its index in the batch.
    pub facts: Vec<(usize, Fact)>,
}

/// Results of checking all facts of a batch.
#[derive(Debug)]
pub struct Checked {
    /// Verdict on each fact of the batch; `None` for those that were verified.
    pub verdicts: Vec<Option<Verdict>>,
    /// Verified facts with their index in the batch, in an order in which they can be merged.
    pub verified: Vec<(usize, Verified)>,
}

impl Judging {
    /// Begins to check a batch of facts against the state `view`.
    pub fn new(view: &View, facts: Vec<Fact>) -> Self {
        // A revocation or floor of the batch may end facts that make others moot; then only known facts are recognised
        // at once.
        let ends = |fact: &Fact| matches!(fact, Fact::Revocation(_) | Fact::Floor(_));
        let only_known = facts.iter().any(ends);
        let is_wanted = |verdict: &Verdict| !only_known || *verdict == Verdict::Moot(Code::Known);
        let recognise = |fact: &Fact| {
            let is_ours = fact.cluster() == view.authority.cluster();
            is_ours.then(|| view.recognise(fact)).flatten().filter(is_wanted)
        };
        let verdicts = facts.iter().map(recognise).collect();
        Self::with(view, facts, verdicts)
    }

    /// Begins to check a batch of which every fact has its signatures verified, so that a signer learns that a fact
    /// just signed is corrupt.
    pub fn thorough(view: &View, facts: Vec<Fact>) -> Self {
        let verdicts = vec![None; facts.len()];
        Self::with(view, facts, verdicts)
    }

    fn with(view: &View, facts: Vec<Fact>, verdicts: Vec<Option<Verdict>>) -> Self {
        let authority = view.authority.clone();
        let unknown = |fact: &Fact| match fact {
            Fact::Grant(grant) => Some(grant.id()).filter(|id| authority.grant(id).is_none()),
            _ => None,
        };
        let coming = facts.iter().filter_map(unknown).collect();
        let new = facts.into_iter().enumerate().filter(|(place, _)| verdicts[*place].is_none());
        let waiting = new.collect();
        Self { authority, waiting, coming, verdicts, verified: Vec::new() }
    }

    /// Returns the next facts of the batch to check and verify; `None` after the last pass.
    pub fn next_pass(&mut self) -> Option<Pass> {
        let waiting = std::mem::take(&mut self.waiting);
        let stands_on_coming =
            |fact: &Fact| stands_on(fact).is_some_and(|grant| self.coming.contains(&grant));
        let (later, now): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|(_, fact)| stands_on_coming(fact));
        // A grant names its parent by a hash, so dependencies have no cycle, and the first waiting fact can always be
        // checked.
        let (now, later) = if now.is_empty() { (later, now) } else { (now, later) };
        for (_, fact) in &now {
            if let Fact::Grant(grant) = fact {
                self.coming.remove(&grant.id());
            }
        }
        self.waiting = later;
        (!now.is_empty()).then(|| Pass { authority: self.authority.clone(), facts: now })
    }

    /// Records the result of checking the fact with index `place` in the batch, which was part of the last pass.
    pub fn handle(&mut self, place: usize, result: Result<Verified, Verdict>) {
        match result {
            Ok(verified) => {
                if !self.waiting.is_empty() && matches!(verified.fact(), Fact::Grant(_)) {
                    Arc::make_mut(&mut self.authority).merge(verified.clone());
                }
                self.verified.push((place, verified));
            }
            Err(verdict) => self.verdicts[place] = Some(verdict),
        }
    }

    /// Returns the results for the whole batch, after the last pass.
    pub fn finish(self) -> Checked {
        Checked { verdicts: self.verdicts, verified: self.verified }
    }
}

/// Returns the id of the grant that a fact depends on: the cited grant of an entry, the parent of a grant or of a
/// revoked grant. `None` for floors and for facts that depend on root alone.
pub(crate) fn stands_on(fact: &Fact) -> Option<GrantId> {
    match fact {
        Fact::Grant(grant) => grant.body().parent,
        Fact::Revocation(revocation) => revocation.body().grant.body().parent,
        Fact::Entry(entry) => entry.entry().grant,
        Fact::Floor(_) => None,
    }
}
