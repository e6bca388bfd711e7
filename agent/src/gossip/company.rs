//! What is wrong with the members, as the agent's status says it.

use super::{Gossip, double, foreign};
use kvgossip_membership::core::MAX_MEMBERS;
use parking_lot::Mutex;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;

/// Code of the reason that no more members are taken in.
const FULL_CODE: &str = "gossip.full";
/// That there was no place is said for so long.
const FULL_SHOWN: Duration = Duration::from_secs(600);

/// Whether members were not taken in lately, because there was no place.
#[derive(Debug, Default)]
pub(super) struct Full(Mutex<(u64, Option<Instant>)>);

impl Full {
    /// Takes note of how many were not taken in so far; warns of the first of them, and of the next one after a pause.
    pub(super) fn look(&self, refused: u64) {
        let mut state = self.0.lock();
        let (before, at) = *state;
        if refused > before {
            *state = (refused, Some(Instant::now()));
            if at.is_none_or(|at| at.elapsed() >= FULL_SHOWN) {
                tracing::warn!(code = FULL_CODE, "{}", full_text());
            }
        }
    }

    fn reason(&self) -> Option<(&'static str, String)> {
        let (_, at) = *self.0.lock();
        at.filter(|at| at.elapsed() < FULL_SHOWN).map(|_| (FULL_CODE, full_text()))
    }
}

impl Gossip {
    /// How many members are alive, if none of them is a replica of this cluster; 0 where one is, or none is alive.
    pub(crate) fn only_strangers(&self) -> usize {
        let has_replica = self.inner.directory.replicas().values().any(|replica| replica.live);
        if has_replica { 0 } else { self.inner.strangers.load(Ordering::Relaxed) }
    }

    /// What is wrong with the members: a stable code and what happened, each.
    pub(crate) fn reasons(&self) -> Vec<(&'static str, String)> {
        let inner = &self.inner;
        let double = inner.double.reason().map(|text| (double::CODE, text));
        let foreign = inner.foreign.reason().map(|text| (foreign::CODE, text));
        // Whoever has lost its name says that instead.
        let contested = inner.lost.get().map_or_else(|| inner.contested.reasons(), |_| Vec::new());
        double.into_iter().chain(contested).chain(inner.full.reason()).chain(foreign).collect()
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

    #[tokio::test(start_paused = true)]
    async fn that_there_was_no_place_is_said_for_a_while() {
        let full = Full::default();
        full.look(0);
        assert!(full.reason().is_none());
        full.look(3);
        assert!(full.reason().is_some_and(|(code, text)| code == FULL_CODE && text.contains("16384")));
        tokio::time::advance(FULL_SHOWN / 2).await;
        full.look(4);
        tokio::time::advance(FULL_SHOWN / 2).await;
        full.look(4);
        assert!(full.reason().is_some(), "the last one was later");
        tokio::time::advance(FULL_SHOWN / 2).await;
        assert!(full.reason().is_none());
    }
}
