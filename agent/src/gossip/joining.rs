//! Joining of other members: at the start, repeatedly while this one is alone, and on request.

use super::{Gossip, GossipError, JoinTarget, garbled};
use crate::clock::Monotonic;
use futures_util::future::join_all;
use kvgossip_membership::{Membership, driver::some_of};
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;

/// Wait after the first failed attempt to join; it doubles with each failure, up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// Maximum wait between two attempts to join, unless an interval is configured; jitter adds up to half a second.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Interval of the checks whether other members are still there.
pub(super) const LOOK: Duration = Duration::from_secs(2);
/// Minimum interval before a failure to join that differs from the last is logged as a warning; an equal one takes
/// [`SAME_AGAIN`].
const OTHER_AGAIN: Duration = Duration::from_secs(5);
/// Minimum interval before a failure to join that equals the last is logged as a warning again.
const SAME_AGAIN: Duration = Duration::from_secs(60);

/// The last failure to join that was logged as a warning, and its time on a monotonic clock.
#[derive(Debug, Default)]
pub(super) struct Told(Option<(String, Duration)>);

impl Told {
    /// Whether to log this failure to join as a warning at the time `now`.
    pub(super) fn warns(&mut self, failure: &str, now: Duration) -> bool {
        let quiet = self
            .0
            .as_ref()
            .is_some_and(|(last, at)| now < *at + if last == failure { SAME_AGAIN } else { OTHER_AGAIN });
        if !quiet {
            self.0 = Some((failure.to_owned(), now));
        }
        !quiet
    }
}

/// Returns the addresses in `found` that are not in `own`, the addresses of this agent.
fn others(found: Vec<SocketAddr>, own: &[SocketAddr]) -> Vec<SocketAddr> {
    found.into_iter().filter(|address| !own.contains(address)).collect()
}

/// The limits on retrying to join members at the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retry {
    /// Wait between attempts to join; `None`: waits that grow from half a second to 30 s.
    pub interval: Option<Duration>,
    /// Number of rounds without an answer after which the agent gives up, unless it was ever among others; 0: never.
    pub most: u32,
}

impl Retry {
    /// Minimum of [`Retry::interval`].
    pub const MIN_INTERVAL: Duration = Duration::from_secs(1);
    /// Maximum of [`Retry::interval`].
    pub const MAX_INTERVAL: Duration = Duration::from_secs(3600);
}

/// The result of contacting members to join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// Number of targets to join that answered.
    pub answered: usize,
    /// Targets that did not answer, with the reasons. A target at which only this agent itself is found counts neither
    /// as answered nor as failed.
    pub failed: Vec<String>,
}

impl Gossip {
    /// Joins the targets whenever this member is alone, and until all of them have answered, because the first one that
    /// answers may not know the others. Names are looked up at each attempt, since they may resolve differently by
    /// then.
    pub(super) async fn keep_joining(self, targets: Vec<JoinTarget>, retry: Retry) {
        let clock = Monotonic::start();
        let (mut wait, mut told) = (FIRST_WAIT, Told::default());
        let mut in_vain = 0;
        loop {
            let alone = match self.member() {
                Ok(member) => member.alive_count().await.is_ok_and(|alive| alive < 2),
                Err(error) => return tracing::debug!("not joined: {error}"),
            };
            if !alone {
                self.note_members();
            }
            if !alone && self.inner.directory.has_joined() {
                (wait, told) = (FIRST_WAIT, Told::default());
                tokio::time::sleep(LOOK).await;
                continue;
            }
            let joined = self.join_targets(&targets, true).await;
            self.note_joined(joined.as_ref(), alone);
            match joined.map(|joined| joined.answered) {
                Ok(joined) if alone => tracing::info!(members = joined, "joined the gossip"),
                Ok(_) => {}
                Err(error @ (GossipError::Left | GossipError::NameLost(_))) => {
                    return tracing::debug!("not joined: {error}");
                }
                Err(error) => {
                    let error = error.to_string();
                    in_vain += 1;
                    if retry.most > 0 && in_vain >= retry.most && !self.had_members() {
                        return self.give_up(in_vain, error);
                    }
                    if told.warns(&error, Duration::from_micros(clock.now_us())) {
                        tracing::warn!("not joined yet, trying on: {error}");
                    } else {
                        tracing::debug!("still not joined: {error}");
                    }
                }
            }
            let jitter = Duration::from_millis(crate::peers::random() % 500);
            tokio::time::sleep(retry.interval.unwrap_or(wait + jitter)).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    /// Makes the agent end because no target answers. `rounds`: number of failed rounds; `why`: failure of the last
    /// one.
    fn give_up(&self, rounds: u32, why: String) {
        tracing::error!(rounds, "giving up joining: {why}");
        if self.inner.gave_up.set((rounds, why)).is_ok() {
            self.inner.told_to_end.cancel();
        }
    }

    pub(super) fn had_members(&self) -> bool {
        self.inner.had_members.load(Ordering::Relaxed)
    }

    /// Records that other members are present, whether this agent found them or they found it.
    pub(super) fn note_members(&self) {
        *self.inner.unjoined.lock() = None;
        self.inner.had_members.store(true, Ordering::Relaxed);
    }

    /// Records the result of joining, for [`Gossip::shut_out`]. A member among others is not shut out.
    pub(super) fn note_joined(&self, joined: Result<&Joined, &GossipError>, alone: bool) {
        if joined.is_ok() {
            self.note_members();
        }
        let why = joined.err().filter(|_| alone).map(|error| (error.to_string(), Instant::now()));
        *self.inner.unjoined.lock() = why;
        if joined.is_ok_and(|joined| joined.failed.is_empty()) {
            self.inner.directory.set_joined();
        }
    }

    /// Records that discovery found nobody, unless joining has a recent failure, which is more specific.
    pub(super) fn note_unfound(&self, error: &GossipError) {
        self.note_unless_known(|| error.to_string());
    }

    /// Records a failure to join, unless a recent one is recorded.
    fn note_unless_known(&self, why: impl FnOnce() -> String) {
        let (mut unjoined, now) = (self.inner.unjoined.lock(), Instant::now());
        if unjoined.as_ref().is_none_or(|(_, at)| !garbled::is_recent(*at, now)) {
            *unjoined = Some((why(), now));
        }
    }

    /// Records that no remembered member has answered, unless joining has a recent failure, which is more specific.
    pub(super) fn note_unremembered(&self, tried: usize) {
        self.note_unless_known(|| match tried {
            1 => "the one member that this agent remembers does not answer".to_owned(),
            _ => format!("none of the {tried} members that this agent remembers answers"),
        });
    }

    /// Contacts members to learn of all others. Returns how many targets answered, at any of their addresses. User
    /// events from before the join are delivered only if the agent is configured to replay them.
    pub async fn join(&self, targets: &[JoinTarget]) -> Result<Joined, GossipError> {
        self.join_targets(targets, false).await
    }

    /// Contacts targets to join. `of_start`: they are the configured ones, to which an agent with a snapshot rejoins.
    async fn join_targets(&self, targets: &[JoinTarget], of_start: bool) -> Result<Joined, GossipError> {
        let member = self.member()?;
        let comes_back = of_start && member.came_back().await?;
        let ignore_old = !self.inner.replay && !comes_back;
        let own = [member.local_member().await?.addr, self.inner.address];
        let attempts = targets.iter().map(|target| self.join_one(&member, target, &own, ignore_old));
        let (mut answered, mut errors) = (0, Vec::new());
        for attempt in join_all(attempts).await {
            match attempt {
                Ok(true) => answered += 1,
                // Names that all resolve to this agent are not an error.
                Ok(false) => {}
                Err(GossipError::Join(error)) => errors.push(error),
                Err(error) => return Err(error),
            }
        }
        if answered == 0 {
            let why = if errors.is_empty() {
                "only this agent itself is there".to_owned()
            } else {
                some_of(errors.into_iter())
            };
            return Err(GossipError::Join(format!("cannot join: {why}")));
        }
        Ok(Joined { answered, failed: errors })
    }
}

impl Gossip {
    /// Contacts one target; `false`: only this agent itself is found there.
    async fn join_one(
        &self,
        member: &Membership,
        target: &JoinTarget,
        own: &[SocketAddr],
        ignore_old: bool,
    ) -> Result<bool, GossipError> {
        let found = target.resolve(&self.inner.resolver).await;
        let found = found.map_err(|error| GossipError::Join(format!("{target}: {error}")))?;
        let others = others(found, own);
        if others.is_empty() {
            return Ok(false);
        }
        // One answer from its addresses suffices.
        member.join(&others, ignore_old).await?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_failures_are_told_of_too_but_not_each_of_them() {
        let mut told = Told::default();
        let s = Duration::from_secs;
        assert!(told.warns("no such name", s(0)));
        assert!(!told.warns("no such name", s(30)));
        assert!(told.warns("connection refused", s(31)), "something else is news");
        assert!(!told.warns("no such name", s(33)), "but not in turns");
        assert!(told.warns("no such name", s(36)));
        assert!(!told.warns("no such name", s(95)));
        assert!(told.warns("no such name", s(96)), "it goes on");
    }

    /// One log line covers any number of targets, and any number of addresses per target.
    #[test]
    fn a_failure_names_some_and_counts_the_others() {
        let at = |last: u8| SocketAddr::from(([192, 0, 2, last], 7946));
        let of = |count: u8| {
            kvgossip_membership::Error::Join((1..=count).map(|it| (at(it), "refused".into())).collect())
        };
        let named = "192.0.2.1:7946: refused; 192.0.2.2:7946: refused; 192.0.2.3:7946: refused";
        assert_eq!(GossipError::from(of(3)).to_string(), named);
        assert_eq!(GossipError::from(of(64)).to_string(), format!("{named}; and 61 more"));
        let targets: Vec<_> = (1..=64).map(|it| GossipError::from(of(it)).to_string()).collect();
        let told = some_of(targets.into_iter());
        assert!(told.ends_with("; and 61 more") && told.len() < 512, "{told}");
    }

    #[test]
    fn an_agent_does_not_join_itself() {
        let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        assert_eq!(others(vec![at(1), at(2)], &[at(1), at(3)]), [at(2)]);
        assert!(others(vec![at(1)], &[at(1)]).is_empty());
    }
}
