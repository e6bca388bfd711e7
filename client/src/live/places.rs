//! Agents of a client: when each may be tried again, and which to prefer.

use super::BLAME;
use crate::agent::AgentClient;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::Instant;

/// Agent of a client, with its failures and the time when it may be tried again.
struct AgentState {
    agent: AgentClient,
    failures: u32,
    not_before: Instant,
    /// End of the time for which the agent is used only if no other answers, because it sent what no honest
    /// agent sends, withheld something, or stayed behind.
    blamed_until: Option<Instant>,
}

impl AgentState {
    fn is_blamed(&self, now: Instant) -> bool {
        self.blamed_until.is_some_and(|until| now < until)
    }
}

/// All agents, in the order in which they were added.
pub(super) struct Places {
    all: Vec<AgentState>,
    /// Index in `all` of the current agent: the one that is connected, was connected last, or is to be tried
    /// next.
    at: usize,
    backoff: Duration,
    max_backoff: Duration,
}

impl Places {
    pub(super) fn new(agents: Vec<AgentClient>, backoff: Duration, max_backoff: Duration) -> Self {
        let now = Instant::now();
        let place = |agent| AgentState { agent, failures: 0, not_before: now, blamed_until: None };
        Self { all: agents.into_iter().map(place).collect(), at: 0, backoff, max_backoff }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn move_to(&mut self, place: usize) {
        self.at = place;
    }

    pub(super) fn agent(&self, place: usize) -> Option<&AgentClient> {
        self.all.get(place).map(|place| &place.agent)
    }

    /// Returns whether there is more than one agent.
    pub(super) fn has_others(&self) -> bool {
        self.all.len() > 1
    }

    /// Number of consecutive failures of the current agent; 0 after it was in step.
    pub(super) fn failures(&self) -> u32 {
        self.all.get(self.at).map_or(0, |place| place.failures)
    }

    /// Records that the current agent is in step.
    pub(super) fn succeeded(&mut self) {
        if let Some(place) = self.all.get_mut(self.at) {
            place.failures = 0;
        }
    }

    /// Records a failure of the agent at index `place`: it is not tried before a pause, which doubles with each
    /// consecutive failure up to `max_backoff`.
    pub(super) fn failed(&mut self, place: usize, now: Instant) {
        if let Some(place) = self.all.get_mut(place) {
            let pause = self.backoff.saturating_mul(1 << place.failures.min(16)).min(self.max_backoff);
            place.failures = place.failures.saturating_add(1);
            place.not_before = now + jittered(pause);
        }
    }

    /// Sets the time before which the agent at index `place` is not tried, without counting a failure.
    pub(super) fn rest(&mut self, place: usize, until: Instant) {
        if let Some(place) = self.all.get_mut(place) {
            place.not_before = until;
        }
    }

    /// Makes the next agent in the client's list the current one.
    pub(super) fn advance(&mut self) {
        self.at = (self.at + 1) % self.all.len().max(1);
    }

    /// Blames the agents at these endpoints for `BLAME`, because something that they sent does not verify.
    pub(super) fn blame(&mut self, endpoints: &BTreeSet<String>, now: Instant) {
        for place in
            self.all.iter_mut().filter(|place| endpoints.contains(&place.agent.endpoint().to_string()))
        {
            place.blamed_until = Some(now + BLAME);
        }
    }

    /// Avoids the agent at index `place` until this time: it is used only if no other answers.
    pub(super) fn avoid(&mut self, place: usize, until: Instant) {
        if let Some(place) = self.all.get_mut(place) {
            // An earlier, longer blame stays in force.
            place.blamed_until = Some(place.blamed_until.map_or(until, |before| before.max(until)));
        }
    }

    /// Number of agents of the client.
    pub(super) fn count(&self) -> usize {
        self.all.len()
    }

    /// Returns whether the current agent may be tried now.
    pub(super) fn is_ready(&self, now: Instant) -> bool {
        self.all.get(self.at).is_some_and(|place| place.not_before <= now)
    }

    /// Index of the next agent to connect to, starting from the current one: preferably one that is not blamed.
    /// `None` if no agent may be tried now.
    pub(super) fn next(&self, now: Instant) -> Option<usize> {
        let ready = self.in_turn().filter(|place| self.all[*place].not_before <= now);
        // The first of the best, because `false` orders before `true`.
        ready.min_by_key(|place| self.all[*place].is_blamed(now))
    }

    /// Index of an agent to replace the current, blamed one; `None` if none may be tried now.
    pub(super) fn better(&self, now: Instant) -> Option<usize> {
        self.better_ones(now).find(|place| self.all[*place].not_before <= now)
    }

    /// Time when the next agent may be tried.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.all.iter().map(|place| place.not_before).min()
    }

    /// Earliest time when the current agent may be asked for another stream; it may have passed.
    pub(super) fn at_again(&self) -> Option<Instant> {
        self.all.get(self.at).map(|place| place.not_before)
    }

    /// Time when an agent to replace the current, blamed one may be tried.
    pub(super) fn better_at(&self, now: Instant) -> Option<Instant> {
        self.better_ones(now).map(|place| self.all[place].not_before).min()
    }

    fn better_ones(&self, now: Instant) -> impl Iterator<Item = usize> {
        let leave = self.all.get(self.at).is_some_and(|place| place.is_blamed(now));
        self.in_turn().filter(move |place| leave && !self.all[*place].is_blamed(now))
    }

    /// Indexes of all agents, starting with the current one.
    fn in_turn(&self) -> impl Iterator<Item = usize> {
        let (at, count) = (self.at, self.all.len());
        (0..count).map(move |step| (at + step) % count)
    }
}

/// Returns between half and all of a pause, at random, so that many clients do not reconnect at once.
fn jittered(pause: Duration) -> Duration {
    let mut byte = [0; 1];
    // Without randomness every client waits for the full pause.
    let share = if getrandom::fill(&mut byte).is_ok() { u32::from(byte[0]) + 256 } else { 511 };
    pause * share / 511
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: usize) -> String {
        format!("http://127.0.0.1:{}", 1000 + number)
    }

    fn places(count: usize) -> Places {
        let agents = (0..count).map(|n| AgentClient::new(name(n).parse().expect("an endpoint"))).collect();
        Places::new(agents, Duration::from_secs(1), Duration::from_secs(4))
    }

    fn lose(places: &mut Places, now: Instant) {
        places.failed(places.at(), now);
        places.advance();
    }

    #[test]
    fn they_are_tried_in_turn_and_each_waits_longer_every_time() {
        let (mut places, now) = (places(2), Instant::now());
        assert_eq!(places.next(now), Some(0));
        lose(&mut places, now);
        assert_eq!(places.next(now), Some(1));
        lose(&mut places, now);
        assert_eq!(places.next(now), None);
        let first = places.next_at().expect("some time");
        assert!(first >= now + Duration::from_millis(499) && first <= now + Duration::from_secs(1));
        assert_eq!(places.next(first + Duration::from_secs(1)), Some(0));
        for _ in 0..40 {
            places.failed(0, now);
        }
        places.move_to(0);
        assert!(
            !places.is_ready(now + Duration::from_millis(1900))
                && places.is_ready(now + Duration::from_secs(4))
        );
    }

    #[test]
    fn one_that_is_blamed_is_left_for_another_and_asked_while_there_is_none() {
        let (mut places, now) = (places(3), Instant::now());
        assert_eq!(places.better(now), None, "nothing is wrong with it");
        places.blame(&[name(0), name(1)].into(), now);
        assert_eq!((places.better(now), places.next(now)), (Some(2), Some(2)));
        // The good agent does not answer: the present one is kept, and the good one is tried again after its
        // pause.
        places.failed(2, now);
        assert_eq!((places.better(now), places.next(now)), (None, Some(0)));
        assert!(places.better_at(now).is_some_and(|at| at > now));
        // All agents are blamed, so none is better.
        places.blame(&[name(2)].into(), now);
        assert_eq!(places.better_at(now), None);
        // Blame ends.
        let later = now + BLAME;
        assert_eq!((places.better(later), places.next(later)), (None, Some(0)));
    }
}
