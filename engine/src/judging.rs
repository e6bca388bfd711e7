//! A batch of facts on its way through the checks, where some may stand on grants of the same batch.

use crate::view::View;
use kvgossip_grants::{Authority, Code, Fact, GrantId, Verdict, Verified};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Judges a batch pass by pass: what stands on a grant of the batch is judged once that grant is verified, as if the
/// grant were merged. Each fact is judged once.
///
/// Take passes from [`Judging::next_pass`] until there is none, check and verify their facts in any way, and give what
/// came of them to [`Judging::handle`].
///
/// What is part of the state already, or is moot by it, gets its verdict at once: a replay costs a look, not a
/// signature. An id covers neither signature nor value, so a spoilt copy of such a fact counts as known as well; nothing
/// is made of either.
#[derive(Debug)]
pub struct Judging {
    /// The state's authority, and the grants of the batch that were verified and that others stand on.
    authority: Arc<Authority>,
    waiting: Vec<(usize, Fact)>,
    /// Grants of the batch that are not verified yet, and not known.
    coming: BTreeSet<GrantId>,
    verdicts: Vec<Option<Verdict>>,
    verified: Vec<(usize, Verified)>,
}

/// Facts that can be judged now.
#[derive(Debug)]
pub struct Pass {
    /// What to check them against.
    pub authority: Arc<Authority>,
    /// The facts, each with its place in the batch.
    pub facts: Vec<(usize, Fact)>,
}

/// What came of the checks.
#[derive(Debug)]
pub struct Checked {
    /// For each fact of the batch the verdict, but for those that were verified.
    pub verdicts: Vec<Option<Verdict>>,
    /// The verified facts with their places, in an order in which they can be merged.
    pub verified: Vec<(usize, Verified)>,
}

impl Judging {
    /// Begins to judge a batch against a state.
    pub fn new(view: &View, facts: Vec<Fact>) -> Self {
        // What ends facts may revive what they make moot.
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

    /// The same, where each fact has its signatures verified: whoever has just signed a fact hears that it is spoilt.
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

    /// The next facts to check and verify.
    pub fn next_pass(&mut self) -> Option<Pass> {
        let waiting = std::mem::take(&mut self.waiting);
        let stands_on_coming =
            |fact: &Fact| stands_on(fact).is_some_and(|grant| self.coming.contains(&grant));
        let (later, now): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|(_, fact)| stands_on_coming(fact));
        // A grant names its parent by a hash, so none stands on itself, and the first of those that wait is free.
        let (now, later) = if now.is_empty() { (later, now) } else { (now, later) };
        for (_, fact) in &now {
            if let Fact::Grant(grant) = fact {
                self.coming.remove(&grant.id());
            }
        }
        self.waiting = later;
        (!now.is_empty()).then(|| Pass { authority: self.authority.clone(), facts: now })
    }

    /// Takes what came of a fact of the last pass.
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

    /// What came of all.
    pub fn finish(self) -> Checked {
        Checked { verdicts: self.verdicts, verified: self.verified }
    }
}

/// The grant without which a fact is not taken in.
pub(crate) fn stands_on(fact: &Fact) -> Option<GrantId> {
    match fact {
        Fact::Grant(grant) => grant.body().parent,
        Fact::Revocation(revocation) => revocation.body().grant.body().parent,
        Fact::Entry(entry) => entry.entry().grant,
        Fact::Floor(_) => None,
    }
}
