//! Serf's view of the members: Lamport clocks, and announced joins and leaves.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use rand::RngExt;

use super::{
    Core, Event,
    purpose::Purpose,
    query::ANCIENT,
    queue::Class,
    table::{Health, Peer},
    timers::Due,
    types::Status,
};
use crate::wire::{
    Text,
    memberlist::MAX_NAME_LEN,
    serf::{self, Join, Leave, Message, PushPull},
};

/// Maximum number of unknown members whose latest intent is remembered.
pub(super) const MAX_RECENT_INTENTS: usize = 4096;
/// Time for which the intent of an unknown member is remembered.
const RECENT_INTENT_TIMEOUT: Duration = Duration::from_secs(300);
/// Maximum amount by which one message advances a Lamport clock. A forged time near the end of the range would
/// otherwise stop the clock permanently.
const MAX_CLOCK_JUMP: u64 = 1 << 40;

/// Maximum size of a received Serf message, in bytes: the largest event that agents can be configured to, 9
/// KiB, plus its encoding.
pub(super) const MAX_USER_MESSAGE: usize = 10 * 1024;

/// Lamport clock; it holds the time of the next message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Clock(u64);

impl Clock {
    pub(super) fn at(time: u64) -> Self {
        Self(time)
    }

    /// Lamport time of the next message.
    pub(super) fn time(self) -> u64 {
        self.0
    }

    /// Returns the Lamport time for a new message, and advances the clock by one.
    pub(super) fn tick(&mut self) -> u64 {
        let time = self.0;
        self.0 += 1;
        time
    }

    /// Advances past the time of a received message. Returns `false`, without a change, if that time is more
    /// than [`MAX_CLOCK_JUMP`] ahead or in the upper half of the range.
    pub(super) fn witness(&mut self, time: u64) -> bool {
        if time.saturating_sub(self.0) > MAX_CLOCK_JUMP || time > u64::MAX / 2 {
            return false;
        }
        self.0 = self.0.max(time + 1);
        true
    }
}

/// Serf's three Lamport clocks: of joins and leaves, of events, of queries. All start at one, because zero
/// means "never".
#[derive(Debug)]
pub(super) struct Clocks {
    pub(super) member: Clock,
    pub(super) event: Clock,
    pub(super) query: Clock,
}

impl Default for Clocks {
    fn default() -> Self {
        Self { member: Clock::at(1), event: Clock::at(1), query: Clock::at(1) }
    }
}

/// Announced join or leave of a member that is not in the table yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Intent {
    pub(super) leave: bool,
    pub(super) ltime: u64,
    at: Duration,
}

#[derive(Debug, Default)]
pub(super) struct RecentIntents(HashMap<Text, Intent>);

impl RecentIntents {
    pub(super) fn take(&mut self, name: &Text) -> Option<Intent> {
        self.0.remove(name.as_bytes())
    }

    /// Records the intent of an unknown member. Returns `false` if one of that name is at least as new, or if
    /// [`MAX_RECENT_INTENTS`] members already have one.
    fn put(&mut self, now: Duration, name: &Text, leave: bool, ltime: u64) -> bool {
        let full = self.0.len() >= MAX_RECENT_INTENTS;
        match self.0.get_mut(name.as_bytes()) {
            Some(known) if known.ltime >= ltime => false,
            Some(known) => {
                *known = Intent { leave, ltime, at: now };
                true
            }
            None if full => false,
            None => {
                self.0.insert(name.clone(), Intent { leave, ltime, at: now });
                true
            }
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    fn expire(&mut self, now: Duration) {
        self.0.retain(|_, intent| now.saturating_sub(intent.at) < RECENT_INTENT_TIMEOUT);
    }
}

impl Core {
    /// Restores the Lamport clocks from the snapshot of an earlier run, if there is one; older events and
    /// queries are ignored.
    pub(super) fn restore(&mut self) {
        let Some(snapshot) = &self.config.restore else { return };
        // Everything sent up to those times is old.
        let [member, event, query] =
            [snapshot.clock, snapshot.event_clock, snapshot.query_clock].map(|time| time.min(u64::MAX / 4));
        self.clocks.member = Clock::at(member + 1);
        self.clocks.event = Clock::at(event + 1);
        self.clocks.query = Clock::at(query + 1);
        self.user_events.ignore_before(event + 1);
        self.queries.ignore_before(query + 1);
    }

    /// Processes a memberlist user message, which carries a Serf message, and passes it on if it is new.
    pub(super) fn on_user(&mut self, now: Duration, bytes: &[u8]) {
        // A message over TCP may have megabytes, but one that is passed on may not.
        if bytes.len() > MAX_USER_MESSAGE {
            self.stats.refused.too_large += 1;
            return;
        }
        let Ok(message) = Message::decode(bytes) else {
            self.stats.malformed += 1;
            return;
        };
        let (class, pass_on) = match message {
            Message::Leave(leave) => {
                let news = self.on_leave(now, &leave);
                (Class::Intent, self.is_news(news))
            }
            Message::Join(join) => {
                let news = self.on_join(now, &join);
                (Class::Intent, self.is_news(news))
            }
            Message::UserEvent(event) => (Class::Event, self.on_user_event(event)),
            Message::Query(query) => (Class::Query, self.on_query(now, query)),
            Message::QueryResponse(response) => return self.on_query_response(now, response),
            Message::Relay(header, inner) => return self.on_relay(now, &header, inner),
        };
        if pass_on {
            self.relay(class, bytes);
        }
    }

    /// Counts an announced join or leave as a repetition if it is not new. Returns `news` unchanged.
    fn is_news(&mut self, news: bool) -> bool {
        self.stats.repeated += u64::from(!news);
        news
    }

    /// Processes a leave intent. Returns whether it is new, and so is passed on.
    pub(super) fn on_leave(&mut self, now: Duration, leave: &Leave) -> bool {
        if leave.node.len() > MAX_NAME_LEN || !self.clocks.member.witness(leave.ltime) {
            self.stats.rejected += 1;
            return false;
        }
        if *leave.node == *self.own.info.name {
            return self.on_own_leave(leave);
        }
        let Some(slot) = self.table.slot(&leave.node) else {
            return self.intents.put(now, &leave.node, true, leave.ltime);
        };
        let Some(peer) = self.table.get_mut(slot).filter(|peer| leave.ltime > peer.status_ltime) else {
            return false;
        };
        peer.status_ltime = leave.ltime;
        let before = peer.status;
        peer.status = match before {
            Status::Alive | Status::Leaving => Status::Leaving,
            Status::Failed | Status::Left => Status::Left,
        };
        let member = peer.to_member();
        if before == Status::Failed {
            self.emit(Event::MemberLeft(member));
        }
        if leave.prune && matches!(before, Status::Failed | Status::Left) {
            self.forget(now, slot);
        }
        true
    }

    fn on_own_leave(&mut self, leave: &Leave) -> bool {
        if self.is_leaving() {
            let news = leave.ltime > self.own.status_ltime;
            self.own.status_ltime = self.own.status_ltime.max(leave.ltime);
            return news;
        }
        // Another member announced that this one is leaving, which is wrong. At the time of its own join, too: whoever has not
        // heard of that takes the leave for newer.
        if leave.ltime >= self.own.status_ltime {
            self.broadcast_join();
        }
        false
    }

    pub(super) fn on_join(&mut self, now: Duration, join: &Join) -> bool {
        if join.node.len() > MAX_NAME_LEN || !self.clocks.member.witness(join.ltime) {
            self.stats.rejected += 1;
            return false;
        }
        if *join.node == *self.own.info.name {
            let news = join.ltime > self.own.status_ltime;
            if news {
                self.own.status_ltime = join.ltime;
                // Somebody holds a later time of this member than it ever announced: of an earlier run, or of a leave that it
                // did not hear of and that this member would never be seen to have refuted.
                if !self.is_leaving() {
                    self.broadcast_join();
                }
            }
            return news;
        }
        let Some(slot) = self.table.slot(&join.node) else {
            return self.intents.put(now, &join.node, false, join.ltime);
        };
        let Some(peer) = self.table.get_mut(slot).filter(|peer| join.ltime > peer.status_ltime) else {
            return false;
        };
        peer.status_ltime = join.ltime;
        if peer.status == Status::Leaving {
            peer.status = Status::Alive;
        }
        true
    }

    /// Broadcasts a Serf join of this member with a new Lamport time.
    pub(super) fn broadcast_join(&mut self) {
        let ltime = self.clocks.member.tick();
        self.own.status_ltime = ltime;
        let join = Message::Join(Join { ltime, node: self.own.info.name.clone() });
        // A failure does no harm, because the next state exchange carries it too.
        let _ = self.broadcast_own(Class::Intent, &join.encode());
    }

    /// Builds Serf's part of this member's state for a push/pull.
    pub(super) fn serf_state(&self) -> PushPull {
        let mut state = PushPull {
            event_ltime: self.clocks.event.time(),
            events: self.user_events.to_wire(),
            ltime: self.clocks.member.time(),
            left_members: Vec::new().into(),
            query_ltime: self.clocks.query.time(),
            ..PushPull::default()
        };
        state.status_ltimes.insert(self.own.info.name.clone(), self.own.status_ltime);
        let mut left = Vec::new();
        for (_, peer) in self.table.iter() {
            state.status_ltimes.insert(peer.info.name.clone(), peer.status_ltime);
            if peer.status == Status::Left {
                left.push(peer.info.name.clone());
            }
        }
        state.left_members = left.into();
        state
    }

    pub(super) fn merge_serf(&mut self, now: Duration, state: &PushPull, ignore_old: bool) {
        // These are the times of the next messages, so subtract one.
        let times = [state.ltime, state.event_ltime, state.query_ltime].map(|time| time.saturating_sub(1));
        let clocks = [&mut self.clocks.member, &mut self.clocks.event, &mut self.clocks.query];
        let mut sane = [true; 3];
        for ((clock, time), sane) in clocks.into_iter().zip(times).zip(&mut sane) {
            // An absurd time is skipped; it does not affect the rest.
            *sane = time == 0 || clock.witness(time);
            self.stats.rejected += u64::from(!*sane);
        }
        let left: HashSet<&Text> = state.left_members.as_slice().iter().collect();
        for name in state.left_members.as_slice() {
            // Only the time of the join is known, so the leave is at least one later.
            let ltime = state.status_ltimes.get(name).copied().unwrap_or_default().saturating_add(1);
            self.on_leave(now, &Leave { ltime, node: name.clone(), prune: false });
        }
        for (name, ltime) in state.status_ltimes.iter().filter(|(name, _)| !left.contains(name)) {
            self.on_join(now, &Join { ltime: *ltime, node: name.clone() });
        }
        if ignore_old && sane[1] {
            self.user_events.ignore_before(state.event_ltime);
        }
        for slot in state.events.as_slice().iter().take(serf::MAX_EVENT_SLOTS).flatten() {
            for event in slot.events.as_slice() {
                self.on_user_event(serf::UserEvent {
                    coalesce: false,
                    ltime: slot.ltime,
                    name: event.name.clone(),
                    payload: event.payload.clone(),
                });
            }
        }
    }

    /// Tries to reconnect to a random failed member, with a probability at which all members together try each
    /// failed one about once per interval. This heals partitions.
    pub(super) fn reconnect_due(&mut self, now: Duration) {
        self.timers.add(now + self.config.timing.reconnect_interval, Due::Reconnect);
        if self.is_leaving() {
            return;
        }
        let failed: Vec<_> =
            self.table.iter().filter(|(_, p)| p.status == Status::Failed).map(|(_, p)| p.info.addr).collect();
        if failed.is_empty() {
            return;
        }
        // All members together try each failed one about once per interval.
        let odds = failed.len() as f64 / self.table.active.max(1) as f64;
        if self.rng.random::<f64>() > odds {
            return;
        }
        let addr = failed[self.rng.random_range(0..failed.len())];
        self.push_pull(now, addr, Purpose::Reconnect);
    }

    /// Forgets members that have failed or left longer ago than their timeout, and expired intents.
    pub(super) fn reap_due(&mut self, now: Duration) {
        self.timers.add(now + self.config.timing.reap_interval, Due::Reap);
        self.intents.expire(now);
        let timing = &self.config.timing;
        let over = |peer: &Peer| {
            let timeout = match peer.status {
                Status::Failed => timing.reconnect_timeout,
                Status::Left => timing.tombstone_timeout,
                Status::Alive | Status::Leaving => ANCIENT,
            };
            now.saturating_sub(peer.changed_at) >= timeout
        };
        let gone: Vec<_> = self.table.iter().filter(|(_, peer)| over(peer)).map(|(slot, _)| slot).collect();
        for slot in gone {
            self.forget(now, slot);
        }
    }

    /// Removes a dead or departed member from the table. Returns `false`, without a change, if the member is
    /// active or unknown.
    pub(super) fn forget(&mut self, now: Duration, slot: u32) -> bool {
        // foca must know that the member is down before it can forget it.
        self.flush_updates(now);
        if self.table.get(slot).is_none_or(|peer| !matches!(peer.health, Health::Dead | Health::Left)) {
            return false;
        }
        let Some(peer) = self.table.remove(slot) else { return false };
        let id = peer.id(slot);
        self.drive(now, |foca, outbox| foca.handle_timer(foca::Timer::RemoveDown(id), outbox));
        self.emit(Event::MemberReaped(peer.to_member()));
        true
    }
}
