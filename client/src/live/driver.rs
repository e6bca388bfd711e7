//! Driver of a live client: moves bytes between the core and one agent at a time, and publishes changes.

mod fetching;
mod loading;
mod losing;

use super::asking::{Asking, Message};
use super::audit::{Audit, Pace, Sign};
use super::core::Core;
use super::interests::{InterestId, What};
use super::places::Places;
use super::publish::publish;
use super::registry::{Kept, Shared};
use super::root::ask_root;
use super::sse::Event;
use super::state::Trouble;
use super::stream::EventStream;
use super::streams::{StreamId, Way};
use super::telling::Reaction;
use crate::agent::AgentClient;
use crate::clock::Clock;
use crate::error::ClientError;
use fetching::Fetching;
use kvgossip_api::{MAX_HEARTBEAT_MS, MIN_HEARTBEAT_MS};
use kvgossip_grants::{Authority, EntryFact, PublicKey, Verifier};
use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Time in which new subscriptions are gathered into one request.
const GATHER: Duration = Duration::from_millis(3);
/// Maximum interval between looks at the clock and at everything that is due at a certain time.
const TICK: Duration = Duration::from_secs(1);
/// Number of heartbeats requested per period of allowed silence.
const HEARTBEAT_SHARE: u32 = 3;
/// Number of consecutive refusals of a further stream after which the client tries another agent.
const MAX_REFUSED_STREAMS: u32 = 3;

/// Settings of a driver.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) grace: Duration,
    pub(crate) silence: Duration,
    pub(crate) backoff: Duration,
    pub(crate) max_backoff: Duration,
    pub(crate) clock: Clock,
    pub(crate) pace: Pace,
}

/// Open stream of the connected agent.
struct Reading {
    id: StreamId,
    stream: EventStream,
}

/// Stream that is being opened at the agent at index `place` of the client's list.
struct Opening {
    id: StreamId,
    way: Way,
    place: usize,
    open: Pin<Box<dyn Future<Output = Result<EventStream, ClientError>> + Send>>,
}

pub(crate) struct Driver {
    pub(super) shared: Arc<Shared>,
    pub(super) settings: Settings,
    pub(super) core: Option<Core>,
    root: Option<PublicKey>,
    verifier: Option<Box<dyn Verifier>>,
    pub(super) places: Places,
    /// Origin of the times passed to `audit`.
    pub(super) began: Instant,
    pub(super) audit: Audit,
    pub(super) asking: Asking,
    known: BTreeSet<InterestId>,
    current: Option<Reading>,
    next: Option<Reading>,
    opening: Option<Opening>,
    fetching: Option<Fetching>,
    /// Number of consecutive agents that did not give the value that is requested.
    fetches_missed: usize,
    /// Deadline for the connected agent to send everything requested; `None` once it has.
    load_until: Option<Instant>,
    /// Number of consecutive agents that missed the deadline `load_until`; each gets twice the time of the
    /// previous one.
    loads_missed: u32,
    last_stream: StreamId,
    gather_until: Option<Instant>,
    tick_at: Instant,
}

enum Heard {
    Events(StreamId, Result<Vec<Event>, ClientError>),
    Opened(Result<EventStream, ClientError>),
    Other(Message),
    Fetched(Result<Option<EntryFact>, ClientError>),
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
        let places = Places::new(agents, settings.backoff, settings.max_backoff);
        Self {
            began: Instant::now(),
            audit: Audit::new(places.count(), settings.pace),
            asking: Asking::new(),
            shared,
            settings,
            core: None,
            root,
            verifier: Some(verifier),
            places,
            known: BTreeSet::new(),
            current: None,
            next: None,
            opening: None,
            fetching: None,
            fetches_missed: 0,
            load_until: None,
            loads_missed: 0,
            last_stream: 0,
            gather_until: None,
            tick_at: Instant::now() + TICK,
        }
    }

    /// Runs until the client is dropped.
    pub(crate) async fn run(mut self) {
        while !self.learn_root().await {
            if *self.shared.closed.borrow() {
                return;
            }
        }
        self.follow_registry();
        loop {
            self.begin_opening();
            self.compare();
            self.begin_fetching();
            if let Some(core) = &mut self.core {
                publish(core, &self.shared);
            }
            match self.wait().await {
                Heard::Closed => return,
                Heard::Woken => self.follow_registry(),
                Heard::Time if self.load_until.is_some_and(|until| Instant::now() >= until) => {
                    self.give_up_loading();
                }
                Heard::Time if Instant::now() >= self.tick_at => self.tick(),
                Heard::Time => self.look_at_clock(),
                Heard::Opened(result) => self.opened(result),
                Heard::Other(message) => self.hear_message(message),
                Heard::Fetched(result) => self.fetched(result),
                Heard::Events(id, Ok(events)) => self.hear(id, &events),
                Heard::Events(_, Err(error)) => self.lose(&error),
            }
        }
    }

    /// Determines the root key, from the agents if the client trusts them. Returns whether it is known now.
    async fn learn_root(&mut self) -> bool {
        let root = match self.root.clone() {
            Some(root) => Some(root),
            None => tokio::select! {
                root = ask_root(&self.shared, &mut self.places) => root,
                () = self.shared.until_closed() => None,
            },
        };
        let Some((root, verifier)) = root.zip(self.verifier.take()) else { return false };
        self.core = Some(Core::new(Authority::new(root), verifier, self.settings.clock.now()));
        true
    }

    async fn wait(&mut self) -> Heard {
        let now = Instant::now();
        let mut wake_at = self.tick_at;
        if let Some(due) = self.core.as_ref().and_then(Core::next_expiry) {
            let left = due.as_micros().saturating_sub(self.settings.clock.now().as_micros());
            wake_at = wake_at.min(now + Duration::from_micros(left).min(TICK));
        }
        if self.opening.is_none() && !self.is_idle() {
            let attempt = match &self.current {
                None => self.places.next_at(),
                Some(_) if self.is_covered() => self.places.better_at(now),
                Some(_) => self.places.at_again(),
            };
            wake_at = attempt.map_or(wake_at, |at| wake_at.min(at.max(self.gather_until.unwrap_or(at))));
        }
        if let Some(until) = self.load_until {
            wake_at = wake_at.min(until);
        }
        if let Some(due) = self.audit.next_at() {
            wake_at = wake_at.min(self.began + due);
        }
        let (shared, current, next) = (&self.shared, &mut self.current, &mut self.next);
        let asking = &mut self.asking;
        let (opening, fetching) = (&mut self.opening, &mut self.fetching);
        tokio::select! {
            () = shared.until_closed() => Heard::Closed,
            result = async { match opening { Some(opening) => (&mut opening.open).await, None => std::future::pending().await } } => {
                Heard::Opened(result)
            }
            result = async { match fetching { Some(fetching) => (&mut fetching.answer).await, None => std::future::pending().await } } => {
                Heard::Fetched(result)
            }
            (id, events) = read(current) => Heard::Events(id, events),
            (id, events) = read(next) => Heard::Events(id, events),
            message = asking.next() => Heard::Other(message),
            () = shared.wake.notified() => Heard::Woken,
            () = tokio::time::sleep_until(wake_at) => Heard::Time,
        }
    }

    fn tick(&mut self) {
        self.tick_at = Instant::now() + TICK;
        self.follow_registry();
        let Some(core) = &mut self.core else { return };
        core.tick(self.settings.clock.now());
        self.report();
    }

    /// Passes the present time to the core, because something expires or an agent can be tried again.
    fn look_at_clock(&mut self) {
        if let Some(core) = &mut self.core {
            core.set_now(self.settings.clock.now());
        }
    }

    fn is_idle(&self) -> bool {
        self.core.as_ref().is_none_or(Core::is_idle)
    }

    fn is_covered(&self) -> bool {
        self.core.as_ref().is_some_and(Core::is_covered)
    }

    /// Passes current interests to the core, and removes those not held for the grace delay.
    fn follow_registry(&mut self) {
        let Some(core) = &mut self.core else { return };
        let (now, grace) = (Instant::now(), self.settings.grace);
        let mut registry = self.shared.registry.lock();
        registry.keys.retain(|_, kept| !kept.is_over(now, grace));
        registry.filters.retain(|kept| !kept.is_over(now, grace));
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

    /// Opens a stream if one is needed: there is none, new interests are not part of it, or its agent is to be
    /// left.
    fn begin_opening(&mut self) {
        if self.is_idle() {
            return self.rest();
        }
        let now = Instant::now();
        if self.opening.is_some() {
            return;
        }
        let (way, place) = if self.current.is_none() {
            (Way::Anew, self.places.next(now))
        } else if !self.is_covered() {
            (Way::Beside, Some(self.places.at()).filter(|_| self.places.is_ready(now)))
        } else {
            (Way::Over, self.places.better(now))
        };
        if way == Way::Over {
            self.gather_until = None;
        } else if now < *self.gather_until.get_or_insert(now + GATHER) {
            return;
        }
        let Some(place) = place else { return };
        self.gather_until = None;
        self.open(way, place);
    }

    /// Disconnects, because nothing is subscribed.
    fn rest(&mut self) {
        self.gather_until = None;
        self.end_questions();
        if self.current.is_some() || self.next.is_some() || self.opening.is_some() {
            self.disconnect();
        }
    }

    fn open(&mut self, way: Way, place: usize) {
        let (Some(core), Some(agent)) = (&mut self.core, self.places.agent(place)) else { return };
        self.last_stream += 1;
        let id = self.last_stream;
        let mut request = core.open(id, &agent.endpoint().to_string(), way);
        let silence = self.settings.silence;
        let heartbeat = u64::try_from((silence / HEARTBEAT_SHARE).as_millis()).unwrap_or(u64::MAX);
        request.heartbeat_ms = Some(heartbeat.clamp(MIN_HEARTBEAT_MS, MAX_HEARTBEAT_MS));
        let open = Box::pin(EventStream::open(agent.http().clone(), request, silence));
        if way == Way::Anew {
            self.places.move_to(place);
        }
        self.next = None;
        self.opening = Some(Opening { id, way, place, open });
    }

    fn opened(&mut self, result: Result<EventStream, ClientError>) {
        let (Some(Opening { id, way, place, .. }), Some(core)) = (self.opening.take(), &mut self.core) else {
            return;
        };
        match result {
            Ok(stream) => {
                core.opened(id);
                if way == Way::Beside {
                    self.next = Some(Reading { id, stream });
                    return;
                }
                self.places.move_to(place);
                self.lose_first();
                (self.current, self.next) = (Some(Reading { id, stream }), None);
                self.begin_loading();
                let name = self.places.agent(place).map(|agent| agent.endpoint().to_string());
                self.shared.connected.send_replace(name);
            }
            Err(error) => {
                core.closed(id);
                let refused_often = self.places.has_others() && self.places.failures() >= MAX_REFUSED_STREAMS;
                if way == Way::Anew || way == Way::Beside && refused_often {
                    return self.lose(&error);
                }
                // The open stream continues.
                self.shared.trouble.send_replace(Some(Trouble::of(self.name(place), &error)));
                self.places.failed(place, Instant::now());
            }
        }
    }

    fn hear(&mut self, id: StreamId, events: &[Event]) {
        let now = self.since();
        let Some(core) = &mut self.core else { return };
        core.set_now(self.settings.clock.now());
        if let Some(current) = self.current.as_ref().filter(|current| current.id == id)
            && (!events.is_empty() || current.stream.is_between_events())
        {
            let up_to = current.stream.told_up_to();
            self.audit.heard(if events.is_empty() { Sign::Idle(up_to) } else { Sign::Told }, now);
        }
        for event in events {
            match core.hear(id, event.id.as_deref(), &event.name, &event.data) {
                Ok(Reaction::Continue) => {}
                Ok(Reaction::Synced) => {
                    if self.next.as_ref().is_some_and(|next| next.id == id) {
                        self.current = self.next.take();
                    }
                    self.places.succeeded();
                    if core.is_in_step() {
                        (self.load_until, self.loads_missed) = (None, 0);
                        self.audit.in_step(self.places.at(), now);
                    }
                    let name = self.places.agent(self.places.at()).map(|agent| agent.endpoint().to_string());
                    self.shared.trouble.send_if_modified(|trouble| {
                        let is_over = |old: &Trouble| {
                            old.code != Trouble::BEHIND || Some(&old.endpoint) == name.as_ref()
                        };
                        trouble.take_if(|trouble| is_over(trouble)).is_some()
                    });
                }
                Ok(Reaction::Reopen) => {
                    self.reopen(id);
                    break;
                }
                Err(error) => {
                    let endpoint = self.places.agent(self.places.at()).map(|agent| agent.endpoint().clone());
                    if let Some(endpoint) = endpoint {
                        self.lose(&ClientError::NotAnAgent { endpoint, reason: error.to_string() });
                    }
                    break;
                }
            }
        }
        self.report();
    }

    /// Publishes new rejections. The agent that caused one is left as soon as another agent answers, because an
    /// honest agent never sends such a fact. Until then its other facts still count.
    pub(super) fn report(&mut self) {
        let Some(core) = &mut self.core else { return };
        if core.rejections.count() > self.shared.rejections.borrow().0 {
            self.shared.rejections.send_replace(core.rejections.list());
            self.places.blame(&core.rejections.take_blamed(), Instant::now());
        }
    }

    pub(super) fn name(&self, place: usize) -> String {
        self.places.agent(place).map(|agent| agent.endpoint().to_string()).unwrap_or_default()
    }
}

async fn read(reading: &mut Option<Reading>) -> (StreamId, Result<Vec<Event>, ClientError>) {
    match reading {
        Some(reading) => (reading.id, reading.stream.next().await),
        None => std::future::pending().await,
    }
}
