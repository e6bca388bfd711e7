//! Moves bytes between the core and one agent at a time, and passes on what changed.

use super::core::{Core, StreamId};
use super::handles::MatchStatus;
use super::interests::{InterestId, What};
use super::registry::{Kept, MatchSlot, Shared};
use super::stream::EventStream;
use super::telling::Reaction;
use crate::agent::AgentClient;
use crate::clock;
use crate::error::ClientError;
use kvgossip_grants::{Authority, PublicKey, Verifier};
use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Subscriptions that come within this time are asked for together.
const GATHER: Duration = Duration::from_millis(3);
/// The clock and what waits for it are looked at this often at least.
const TICK: Duration = Duration::from_secs(1);
/// The share of the allowed silence after which the agent gives a sign of life.
const HEARTBEAT_SHARE: u32 = 3;

/// How a driver is to behave.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) grace: Duration,
    pub(crate) silence: Duration,
    pub(crate) backoff: Duration,
    pub(crate) max_backoff: Duration,
}

/// An agent, and when it may be tried again.
struct Place {
    agent: AgentClient,
    failures: u32,
    not_before: Instant,
}

type Opening = Pin<Box<dyn Future<Output = Result<Opened, ClientError>> + Send>>;

/// What came of an attempt.
struct Opened {
    stream: EventStream,
}

/// A stream that is read.
struct Reading {
    id: StreamId,
    stream: EventStream,
}

pub(crate) struct Driver {
    shared: Arc<Shared>,
    settings: Settings,
    core: Option<Core>,
    root: Option<PublicKey>,
    verifier: Option<Box<dyn Verifier>>,
    places: Vec<Place>,
    /// The place that is or was connected last.
    place: usize,
    known: BTreeSet<InterestId>,
    current: Option<Reading>,
    next: Option<Reading>,
    opening: Option<(StreamId, bool, Opening)>,
    last_stream: StreamId,
    gather_until: Option<Instant>,
}

enum Heard {
    Events(StreamId, Result<Vec<super::sse::Event>, ClientError>),
    Opened(Result<Opened, ClientError>),
    Woken,
    Time,
    Closed,
}

impl Driver {
    pub(crate) fn new(
        shared: Arc<Shared>,
        settings: Settings,
        agents: Vec<AgentClient>,
        root: Option<PublicKey>,
        verifier: Box<dyn Verifier>,
    ) -> Self {
        let now = Instant::now();
        let places = agents.into_iter().map(|agent| Place { agent, failures: 0, not_before: now }).collect();
        Self {
            shared,
            settings,
            core: None,
            root,
            verifier: Some(verifier),
            places,
            place: 0,
            known: BTreeSet::new(),
            current: None,
            next: None,
            opening: None,
            last_stream: 0,
            gather_until: None,
        }
    }

    /// Runs until the client is gone.
    pub(crate) async fn run(mut self) {
        while !self.learn_root().await {
            if *self.shared.closed.borrow() {
                return;
            }
        }
        loop {
            self.follow_registry();
            self.begin_opening();
            self.publish();
            match self.wait().await {
                Heard::Closed => return,
                Heard::Woken => {}
                Heard::Time => {
                    if let Some(core) = &mut self.core {
                        core.tick(clock::now());
                    }
                }
                Heard::Opened(result) => self.opened(result),
                Heard::Events(id, Ok(events)) => self.hear(id, &events),
                Heard::Events(_, Err(_)) => self.lose(),
            }
        }
    }

    /// Whoever trusts the agents may also learn from them who root is. Gives whether it is known now.
    async fn learn_root(&mut self) -> bool {
        let root = match self.root.clone() {
            Some(root) => root,
            None => {
                let Some(place) = self.places.get(self.place) else { return false };
                let status = tokio::select! {
                    status = place.agent.status() => status,
                    () = self.shared.until_closed() => return false,
                };
                match status.ok().and_then(|status| PublicKey::from_pem(&status.root_pem).ok()) {
                    Some(root) => root,
                    None => {
                        self.failed();
                        let pause = self.next_attempt();
                        tokio::select! {
                            () = tokio::time::sleep_until(pause) => {}
                            () = self.shared.until_closed() => {}
                        }
                        return false;
                    }
                }
            }
        };
        if let Some(verifier) = self.verifier.take() {
            self.core = Some(Core::new(Authority::new(root), verifier, clock::now()));
        }
        true
    }

    async fn wait(&mut self) -> Heard {
        let until_expiry = self.core.as_ref().and_then(Core::next_expiry).map_or(TICK, |due| {
            Duration::from_micros(due.as_micros().saturating_sub(clock::now().as_micros())).min(TICK)
        });
        let mut wake_at = Instant::now() + until_expiry;
        if let Some(gather_until) = self.gather_until {
            wake_at = wake_at.min(gather_until);
        }
        if self.current.is_none() && self.opening.is_none() && !self.is_idle() {
            wake_at = wake_at.min(self.next_attempt());
        }
        let (shared, current, next) = (&self.shared, &mut self.current, &mut self.next);
        let opening = &mut self.opening;
        tokio::select! {
            () = shared.until_closed() => Heard::Closed,
            result = async { match opening { Some((_, _, open)) => open.await, None => std::future::pending().await } } => {
                Heard::Opened(result)
            }
            (id, events) = read(current) => Heard::Events(id, events),
            (id, events) = read(next) => Heard::Events(id, events),
            () = shared.wake.notified() => Heard::Woken,
            () = tokio::time::sleep_until(wake_at) => Heard::Time,
        }
    }

    fn is_idle(&self) -> bool {
        self.core.as_ref().is_none_or(Core::is_idle)
    }

    /// Tells the core what is wanted now, and forgets what nobody has held for the grace delay.
    fn follow_registry(&mut self) {
        let Some(core) = &mut self.core else { return };
        let (now, grace) = (Instant::now(), self.settings.grace);
        let over = |since: Option<Instant>| since.is_some_and(|since| now.duration_since(since) >= grace);
        let mut registry = self.shared.registry();
        registry.keys.retain(|_, kept| !over(kept.idle_since));
        registry.filters.retain(|kept| !over(kept.idle_since));
        let mut wanted = BTreeSet::new();
        for Kept { slot, .. } in registry.keys.values() {
            wanted.insert(slot.id);
            if self.known.insert(slot.id) {
                core.add(slot.id, What::Key(slot.key.clone()));
            }
        }
        for Kept { slot, .. } in &registry.filters {
            wanted.insert(slot.id);
            if self.known.insert(slot.id) {
                core.add(slot.id, What::Matching(slot.filter.clone()));
            }
        }
        drop(registry);
        self.known.retain(|id| {
            let keep = wanted.contains(id);
            if !keep {
                core.remove(*id);
            }
            keep
        });
    }

    /// Opens a stream where one is needed: there is none, or new interests are not part of it.
    fn begin_opening(&mut self) {
        let Some(core) = &mut self.core else { return };
        if core.is_idle() {
            if self.current.is_some() || self.next.is_some() {
                (self.current, self.next, self.opening) = (None, None, None);
                core.disconnected();
                self.shared.connected.send_replace(None);
            }
            return;
        }
        let now = Instant::now();
        if self.opening.is_some() || self.current.is_some() && core.is_covered() {
            self.gather_until = None;
            return;
        }
        if now < *self.gather_until.get_or_insert(now + GATHER) {
            return;
        }
        let fresh = self.current.is_none();
        if fresh {
            let ready = |place: &Place| place.not_before <= now;
            let Some(place) = self
                .places
                .get(self.place)
                .filter(|place| ready(place))
                .map(|_| self.place)
                .or_else(|| self.places.iter().position(ready))
            else {
                return;
            };
            self.place = place;
        }
        self.gather_until = None;
        let Some(place) = self.places.get(self.place) else { return };
        self.last_stream += 1;
        let mut request = core.open(self.last_stream, place.agent.endpoint().to_string(), fresh);
        let silence = self.settings.silence;
        request.heartbeat_ms =
            Some(u64::try_from((silence / HEARTBEAT_SHARE).as_millis()).unwrap_or(u64::MAX));
        let http = place.agent.http().clone();
        let open = async move { Ok(Opened { stream: EventStream::open(http, request, silence).await? }) };
        self.next = None;
        self.opening = Some((self.last_stream, fresh, Box::pin(open)));
    }

    fn opened(&mut self, result: Result<Opened, ClientError>) {
        let (Some((id, fresh, _)), Some(core)) = (self.opening.take(), &mut self.core) else { return };
        match result {
            Ok(Opened { stream }) if fresh => {
                core.opened();
                self.current = Some(Reading { id, stream });
                let name = self.places.get(self.place).map(|place| place.agent.endpoint().to_string());
                self.shared.connected.send_replace(name);
            }
            Ok(Opened { stream }) => self.next = Some(Reading { id, stream }),
            Err(_) => {
                core.closed(id);
                self.lose();
            }
        }
    }

    fn hear(&mut self, id: StreamId, events: &[super::sse::Event]) {
        let Some(core) = &mut self.core else { return };
        core.set_now(clock::now());
        let before = core.rejected();
        for event in events {
            match core.hear(id, &event.name, &event.data) {
                Ok(Reaction::Continue) => {}
                Ok(Reaction::Synced) => {
                    if self.next.as_ref().is_some_and(|next| next.id == id) {
                        self.current = self.next.take();
                    }
                    if let Some(place) = self.places.get_mut(self.place) {
                        place.failures = 0;
                    }
                }
                Ok(Reaction::Reopen) => return self.reopen(id),
                Err(_) => return self.lose(),
            }
        }
        // An honest agent never holds what does not verify: ask another, if there is one.
        if core.rejected() > before {
            self.shared.rejections.send_replace(core.rejections());
            if self.places.len() > 1 {
                self.lose();
            }
        }
    }

    /// After a gap the same agent is asked again at once, and digests are compared.
    fn reopen(&mut self, id: StreamId) {
        let Some(core) = &mut self.core else { return };
        core.closed(id);
        if self.next.as_ref().is_some_and(|next| next.id == id) {
            self.next = None;
        } else {
            (self.current, self.next, self.opening) = (None, None, None);
            core.disconnected();
        }
    }

    /// The agent is given up for now, and the next one is tried.
    fn lose(&mut self) {
        (self.current, self.next, self.opening) = (None, None, None);
        if let Some(core) = &mut self.core {
            core.disconnected();
        }
        self.shared.connected.send_replace(None);
        self.failed();
    }

    fn failed(&mut self) {
        let count = self.places.len().max(1);
        let Settings { backoff, max_backoff, .. } = self.settings;
        if let Some(place) = self.places.get_mut(self.place) {
            let pause = backoff.saturating_mul(1 << place.failures.min(16)).min(max_backoff);
            place.failures = place.failures.saturating_add(1);
            place.not_before = Instant::now() + jittered(pause);
        }
        self.place = (self.place + 1) % count;
    }

    fn next_attempt(&self) -> Instant {
        let first = self.places.iter().map(|place| place.not_before).min();
        first.unwrap_or_else(Instant::now).max(self.gather_until.unwrap_or_else(Instant::now))
    }

    /// Passes on what changed.
    fn publish(&mut self) {
        let Some(core) = &mut self.core else { return };
        let changes = core.take_changes();
        if changes.keys.is_empty() && !changes.dirt {
            return;
        }
        let registry = self.shared.registry();
        let tell = |slot: &super::registry::KeySlot| {
            let state = core.state(slot.id, &slot.key);
            slot.state.send_if_modified(|old| std::mem::replace(old, state.clone()) != state);
        };
        if changes.dirt {
            registry.keys.values().for_each(|kept| tell(&kept.slot));
        } else {
            changes.keys.iter().filter_map(|key| registry.keys.get(key)).for_each(|kept| tell(&kept.slot));
        }
        for Kept { slot, .. } in &registry.filters {
            publish_matching(core, slot, &changes);
        }
        drop(registry);
        core.forget_bare(changes.keys.iter());
    }
}

fn publish_matching(core: &Core, slot: &MatchSlot, changes: &super::core::Changes) {
    let handles = slot.live_handles();
    let mut entries = slot.entries();
    // A filter that came later than its keys finds them here.
    let all: Vec<_> = if changes.dirt { core.keys_of(slot.id) } else { Vec::new() };
    for key in changes.keys.iter().chain(&all).filter(|key| slot.filter.includes(key)) {
        let changed = match core.entry(key) {
            Some(entry) => entries.insert(key.clone(), entry.clone()).is_none_or(|old| old != entry),
            None => entries.remove(key).is_some(),
        };
        if changed {
            handles.iter().for_each(|handle| handle.note(key, core.cause(key)));
        }
    }
    drop(entries);
    let status = MatchStatus { loaded: core.is_loaded(slot.id), dirty: core.dirt_of(slot.id) };
    slot.status.send_if_modified(|old| std::mem::replace(old, status) != status);
}

async fn read(reading: &mut Option<Reading>) -> (StreamId, Result<Vec<super::sse::Event>, ClientError>) {
    match reading {
        Some(reading) => (reading.id, reading.stream.next().await),
        None => std::future::pending().await,
    }
}

/// Between half and all of a pause, so that many clients do not come back together.
fn jittered(pause: Duration) -> Duration {
    let mut byte = [0; 1];
    // Without randomness all wait for the whole of it.
    let share = if getrandom::fill(&mut byte).is_ok() { u32::from(byte[0]) + 256 } else { 511 };
    pause * share / 511
}
