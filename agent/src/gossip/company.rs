//! Problems with the members, as the agent's status reports them.

use super::{Gossip, GossipError, double, foreign};
use kvgossip_membership::core::MAX_MEMBERS;
use parking_lot::Mutex;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;

/// Code of the reason that no more members are accepted.
const FULL_CODE: &str = "gossip.full";
/// Code of the reason that this agent has left the gossip.
pub(crate) const LEFT_CODE: &str = "gossip.left";
/// Text for an agent whose earlier run left the gossip, and which looks for nobody.
pub(super) const LEFT_BEFORE: &str = "this agent had left the gossip when it ended, so it looks for none of the members that \
                                      it remembers: start it with --rejoin to try them, or with --join";
/// Time for which it is reported that no more members are accepted, after a member was last rejected.
const FULL_SHOWN: Duration = Duration::from_secs(600);

/// Number of members rejected because the maximum number is known, and the time of the last rejection.
#[derive(Debug, Default)]
pub(super) struct Full(Mutex<(u64, Option<Instant>)>);

impl Full {
    /// Records the total number of members rejected so far. Logs a warning at the first rejection, and at one that
    /// follows [`FULL_SHOWN`] or more after the previous one.
    pub(super) fn look(&self, refused: u64, now: Instant) {
        let mut state = self.0.lock();
        let (before, at) = *state;
        if refused > before {
            *state = (refused, Some(now));
            if at.is_none_or(|at| now.saturating_duration_since(at) >= FULL_SHOWN) {
                tracing::warn!(code = FULL_CODE, "{}", full_text());
            }
        }
    }

    fn reason(&self, now: Instant) -> Option<(&'static str, String)> {
        let (_, at) = *self.0.lock();
        at.filter(|at| now.saturating_duration_since(*at) < FULL_SHOWN).map(|_| (FULL_CODE, full_text()))
    }
}

impl Gossip {
    /// Returns the number of live members if none is a replica of this cluster; otherwise 0.
    pub(crate) fn only_strangers(&self) -> usize {
        let has_replica = self.inner.directory.replicas().values().any(|replica| replica.live);
        if has_replica { 0 } else { self.inner.strangers.load(Ordering::Relaxed) }
    }

    /// Returns a text if this agent has left the gossip, in this run, or in an earlier one after which it does not
    /// rejoin.
    fn left(&self) -> Option<String> {
        match self.member() {
            Err(error @ GossipError::Left) => Some(error.to_string()),
            Ok(_) if self.inner.left_before && !self.had_members() => Some(LEFT_BEFORE.to_owned()),
            _ => None,
        }
    }

    /// Returns the problems with gossip, each as a stable code and a text: this agent has left, its replica id is
    /// announced twice, names are contested, no more members are accepted, or members of another cluster are present.
    pub(crate) fn reasons(&self) -> Vec<(&'static str, String)> {
        let inner = &self.inner;
        let double = inner.double.reason().map(|text| (double::CODE, text));
        let foreign = inner.foreign.reason().map(|text| (foreign::CODE, text));
        let left = self.left().map(|text| (LEFT_CODE, text));
        // The loss of the own name is reported by its own reason.
        let contested = inner.lost.get().map_or_else(|| inner.contested.reasons(), |_| Vec::new());
        left.into_iter()
            .chain(double)
            .chain(contested)
            .chain(inner.full.reason(Instant::now()))
            .chain(foreign)
            .collect()
    }
}

fn full_text() -> String {
    format!(
        "{MAX_MEMBERS} other members are known and alive, and no more are taken in: newcomers are not met. If there are not \
         so many, somebody forges members: change the gossip keys"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn that_there_was_no_place_is_said_for_a_while() {
        let (full, start) = (Full::default(), Instant::now());
        let (half, whole) = (start + FULL_SHOWN / 2, start + FULL_SHOWN);
        full.look(0, start);
        assert!(full.reason(start).is_none());
        full.look(3, start);
        let said = full.reason(start);
        assert!(said.is_some_and(|(code, text)| code == FULL_CODE && text.contains("16384")));
        full.look(4, half);
        full.look(4, whole);
        assert!(full.reason(whole).is_some(), "the last one was later");
        assert!(full.reason(half + FULL_SHOWN).is_none());
    }
}
