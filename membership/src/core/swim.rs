//! Translation of membership messages for foca, by memberlist's rules of which message overrides which.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use foca::State;

use super::{
    Core, Event,
    allowance::{Allowance, MAX_INCARNATION_JUMP},
    glue::{Id, Info, alive_message},
    suspicion::Suspicion,
    table::{Health, Peer},
    timers::Due,
    types::Status,
};
use crate::wire::{
    Text,
    memberlist::{Alive, Dead, Message, Suspect, VSN, parse_addr},
    serf::decode_tags,
};

/// Distance of an incarnation from the member's base after which the member gets a new generation, because foca
/// counts incarnations in 16 bits.
const REBASE_AFTER: u32 = 60_000;
/// Minimum interval between messages that inform one member that it counts as dead.
const TELL_INTERVAL: Duration = Duration::from_secs(1);
/// Minimum interval between reports that one name is used by two members.
pub(super) const CONFLICT_INTERVAL: Duration = Duration::from_secs(10);

impl Core {
    /// Processes an `alive` message about any member, or an alive member in a push/pull.
    pub(super) fn on_alive(&mut self, now: Duration, alive: Alive) {
        let Some(info) = parse_alive(&alive) else {
            self.stats.malformed += 1;
            return;
        };
        if *info.name == *self.own.info.name {
            return self.on_own_alive(now, &info, alive.incarnation);
        }
        if !self.config.allows(info.addr.ip()) {
            self.stats.not_allowed += 1;
            return;
        }
        let Some(slot) = self.table.slot(&info.name) else {
            return self.insert_peer(now, info, alive.incarnation);
        };
        let Some(peer) = self.table.get(slot) else { return };
        let gone_for = now.saturating_sub(peer.changed_at);
        let reclaimable = !peer.health.is_active() && gone_for >= self.config.timing.dead_reclaim;
        if peer.info.addr != info.addr && !(peer.health == Health::Left || reclaimable) {
            return self.report_conflict(now, slot, &info);
        }
        let moved = peer.info.addr != info.addr;
        if alive.incarnation <= peer.incarnation && !reclaimable && !moved {
            self.stats.repeated += 1;
            if !peer.health.is_active() {
                // It does not know yet that it counts as dead; informing it lets it refute at once.
                self.tell_dead(now, slot, info.addr);
            }
            return;
        }
        if self.jumps(now, slot, alive.incarnation) {
            return;
        }
        self.revive_or_update(now, slot, info, alive.incarnation);
    }

    /// Reports that a second member, `other`, uses a known name; the known member keeps it. At most once per
    /// [`CONFLICT_INTERVAL`].
    fn report_conflict(&mut self, now: Duration, slot: u32, other: &Info) {
        let Some(peer) = self.table.get_mut(slot) else { return };
        if peer.conflict_at.is_none_or(|at| now >= at + CONFLICT_INTERVAL) {
            peer.conflict_at = Some(now);
            let name = peer.info.name.clone();
            self.emit(Event::NameConflict { name, other: other.addr, tags: decode_tags(&other.meta) });
        }
    }

    fn on_own_alive(&mut self, now: Duration, info: &Info, incarnation: u32) {
        if self.is_leaving() {
            return;
        }
        if info.addr != self.own.info.addr {
            return self.own_name_conflict(now, info);
        }
        if incarnation < self.own.incarnation {
            return;
        }
        let same = info.meta == self.own.info.meta && info.vsn == self.own.info.vsn;
        if incarnation > self.own.incarnation || !same {
            self.refute(now, incarnation, None);
        }
    }

    /// Makes room in the table for one more member by forgetting the one gone longest. Returns `false` if the
    /// table is full of active members.
    fn make_place(&mut self, now: Duration) -> bool {
        while self.table.len() >= self.config.max_members {
            let Some(slot) = self.table.longest_gone() else { return false };
            if !self.forget(now, slot) {
                return false;
            }
        }
        true
    }

    fn insert_peer(&mut self, now: Duration, info: Info, incarnation: u32) {
        if incarnation >= u32::MAX - MAX_INCARNATION_JUMP {
            self.stats.rejected += 1;
            return;
        }
        if !self.make_place(now) {
            self.stats.full += 1;
            return;
        }
        let intent = self.intents.take(&info.name);
        let peer = Peer {
            info: Arc::new(Info { base: incarnation, ..info }),
            generation: self.next_generation(),
            incarnation,
            health: Health::Alive,
            changed_at: now,
            from: None,
            status: if intent.is_some_and(|i| i.leave) { Status::Leaving } else { Status::Alive },
            status_ltime: intent.map_or(0, |i| i.ltime),
            suspicion: None,
            suspicion_timer: None,
            allowance: Allowance::new(now),
            told_at: None,
            conflict_at: None,
            rtt: None,
            answered: super::Answered::Never,
            remote: None,
        };
        let member = peer.to_member();
        let slot = self.table.insert(peer);
        self.queue_update(slot, State::Alive);
        self.emit(Event::MemberJoined(member));
    }

    fn revive_or_update(&mut self, now: Duration, slot: u32, info: Info, incarnation: u32) {
        let generation = self.next_generation();
        let Some(peer) = self.table.get_mut(slot) else { return };
        let was_active = peer.health.is_active();
        let changed = peer.info.meta != info.meta;
        let base = peer.info.base;
        if !was_active {
            // foca never takes a member back, so a new generation makes it a new member.
            peer.generation = generation;
            peer.status = Status::Alive;
            (peer.rtt, peer.remote) = (None, None);
        }
        peer.incarnation = incarnation;
        (peer.suspicion, peer.from, peer.told_at) = (None, None, None);
        let base = if was_active { base } else { incarnation };
        self.table.set_info(slot, Info { base, ..info });
        self.table.set_health(slot, Health::Alive, now);
        self.queue_update(slot, State::Alive);
        let Some(member) = self.table.get(slot).map(Peer::to_member) else { return };
        if !was_active {
            self.emit(Event::MemberJoined(member));
        } else if changed {
            self.emit(Event::MemberUpdated(member));
        }
    }

    /// Processes a `suspect` message about any member; `source` is the sender's address, `None` if it cannot be
    /// answered.
    pub(super) fn on_suspect(&mut self, now: Duration, source: Option<SocketAddr>, suspect: &Suspect) {
        if *suspect.node == *self.own.info.name {
            return self.on_own_doubt(now, suspect.incarnation, source);
        }
        let Some(slot) = self.table.slot(&suspect.node) else { return };
        let Some(peer) = self.table.get_mut(slot) else { return };
        if suspect.incarnation < peer.incarnation {
            self.stats.repeated += 1;
            return;
        }
        if let Some(suspicion) = &mut peer.suspicion {
            let name = peer.info.name.clone();
            if suspicion.confirm(&suspect.from) {
                self.schedule_suspicion(slot);
                self.confirm(&name, suspect.clone());
            } else {
                self.stats.repeated += 1;
            }
            return;
        }
        if peer.health != Health::Alive || self.jumps(now, slot, suspect.incarnation) {
            return;
        }
        if let Some(peer) = self.table.get_mut(slot) {
            peer.incarnation = suspect.incarnation;
            peer.from = Some(suspect.from.clone());
        }
        // Queue the update first: it may give the member a new generation, which the suspicion refers to.
        self.queue_update(slot, State::Suspect);
        self.start_suspicion(now, slot, suspect.from.clone());
    }

    pub(super) fn start_suspicion(&mut self, now: Duration, slot: u32, from: Text) {
        let suspicion = Suspicion::new(&self.config.timing, self.cluster_size(), now, from);
        if let Some(peer) = self.table.get_mut(slot) {
            peer.suspicion = Some(suspicion);
        }
        self.table.set_health(slot, Health::Suspect, now);
        self.stats.changes.suspected += 1;
        self.schedule_suspicion(slot);
    }

    fn schedule_suspicion(&mut self, slot: u32) {
        let Some(peer) = self.table.get_mut(slot) else { return };
        let Some(suspicion) = &peer.suspicion else { return };
        let deadline = suspicion.deadline();
        // Suspicions and refutations may be forged at any rate, so the running timer is reused.
        if peer.suspicion_timer.is_none_or(|at| deadline < at) {
            peer.suspicion_timer = Some(deadline);
            self.timers.add(deadline, Due::Suspicion(slot));
        }
    }

    pub(super) fn suspicion_due(&mut self, now: Duration, slot: u32) {
        let Some(peer) = self.table.get_mut(slot) else { return };
        // An earlier timer, or one of a previous member of the slot; the current one is still to come.
        if peer.suspicion_timer.is_none_or(|at| at > now) {
            return;
        }
        peer.suspicion_timer = None;
        let Some(suspicion) = &peer.suspicion else { return };
        if suspicion.deadline() > now {
            return self.schedule_suspicion(slot);
        }
        let (addr, incarnation) = (peer.info.addr, peer.incarnation);
        self.bury(now, slot, incarnation, None);
        // If the member is alive after all, this message lets it refute.
        self.tell_dead(now, slot, addr);
    }

    /// Processes a `dead` message about any member, which also announces a leave; `source` is the sender's
    /// address, `None` if it cannot be answered.
    pub(super) fn on_dead(&mut self, now: Duration, source: Option<SocketAddr>, dead: &Dead) {
        if *dead.node == *self.own.info.name {
            return self.on_own_doubt(now, dead.incarnation, source);
        }
        let Some(slot) = self.table.slot(&dead.node) else { return };
        let Some(peer) = self.table.get(slot) else { return };
        // foca would accept a death at any incarnation, so stale ones must not reach it.
        if dead.incarnation < peer.incarnation || !peer.health.is_active() {
            self.stats.repeated += 1;
            return;
        }
        if self.jumps(now, slot, dead.incarnation) {
            return;
        }
        self.bury(now, slot, dead.incarnation, Some(dead.from.clone()));
    }

    fn bury(&mut self, now: Duration, slot: u32, incarnation: u32, from: Option<Text>) {
        let Some(peer) = self.table.get_mut(slot) else { return };
        let left = from.as_ref() == Some(&peer.info.name);
        peer.incarnation = incarnation;
        peer.suspicion = None;
        peer.from = from;
        peer.status = if left || peer.status == Status::Leaving { Status::Left } else { Status::Failed };
        let gone = peer.status;
        self.table.set_health(slot, if left { Health::Left } else { Health::Dead }, now);
        self.queue_update(slot, State::Down);
        let Some(member) = self.table.get(slot).map(Peer::to_member) else { return };
        self.emit(if gone == Status::Left { Event::MemberLeft(member) } else { Event::MemberFailed(member) });
    }

    /// Handles a message that this member is suspected or dead: refutes it, unless it is outdated or this
    /// member is leaving.
    fn on_own_doubt(&mut self, now: Duration, incarnation: u32, source: Option<SocketAddr>) {
        if self.is_leaving() || incarnation < self.own.incarnation {
            self.stats.repeated += 1;
            return;
        }
        self.refute(now, incarnation, source);
    }

    /// Refutes a message about this member with an incarnation above `incarnation`, and sends the refutation
    /// directly to `source` if that is a member's address.
    pub(super) fn refute(&mut self, now: Duration, incarnation: u32, source: Option<SocketAddr>) {
        if !self.own.allowance.take(now, incarnation.saturating_sub(self.own.incarnation)) {
            self.stats.rejected += 1;
            return;
        }
        self.own.incarnation = self.own.incarnation.max(incarnation).saturating_add(1);
        self.stats.refutations += 1;
        self.probes.worse(1);
        self.announce_self();
        if let Some(source) = source.filter(|addr| self.table.slot_at(*addr).is_some()) {
            let alive = alive_message(&self.own.info, self.own.incarnation);
            self.send_message(source, &Message::Alive(alive));
        }
    }

    /// Broadcasts that this member is alive; foca sends only messages about other members.
    pub(super) fn announce_self(&mut self) {
        let alive = alive_message(&self.own.info, self.own.incarnation);
        self.say(&Message::Alive(alive));
    }

    /// Informs the member of that slot that it counts as dead here, so that it can refute.
    pub(super) fn tell_dead(&mut self, now: Duration, slot: u32, to: SocketAddr) {
        let own = self.own.info.name.clone();
        let Some(peer) = self.table.get_mut(slot) else { return };
        if peer.health.is_active() || peer.told_at.is_some_and(|at| now < at + TELL_INTERVAL) {
            return;
        }
        peer.told_at = Some(now);
        let dead = Dead {
            from: peer.from.as_ref().unwrap_or(&own).clone(),
            incarnation: peer.incarnation,
            node: peer.info.name.clone(),
        };
        self.send_message(to, &Message::Dead(dead));
    }

    /// Returns whether an incarnation is further ahead of the member's known one than the allowance permits.
    fn jumps(&mut self, now: Duration, slot: u32, incarnation: u32) -> bool {
        let Some(peer) = self.table.get_mut(slot) else { return true };
        let raise = incarnation.saturating_sub(peer.incarnation);
        let jumps = !peer.allowance.take(now, raise);
        self.stats.rejected += u64::from(jumps);
        jumps
    }

    fn next_generation(&mut self) -> u64 {
        self.generation += 1;
        self.generation
    }

    /// Queues a change of a member for foca, to be passed to foca at the end of the current call.
    fn queue_update(&mut self, slot: u32, state: State) {
        let generation = self.generation + 1;
        let Some(peer) = self.table.get_mut(slot) else { return };
        if peer.incarnation.saturating_sub(peer.info.base) > REBASE_AFTER || peer.incarnation < peer.info.base
        {
            self.generation = generation;
            peer.generation = generation;
            peer.info = Arc::new(Info { base: peer.incarnation, ..Info::clone(&peer.info) });
        }
        let incarnation = foca_incarnation(peer);
        let id = peer.id(slot);
        // From now on foca sends the messages about it.
        self.queues.forget(&id.info.name);
        self.updates.push(foca::Member::new(id, incarnation, state));
    }

    /// Returns the member of a foca identity; `None` if it is gone or its generation has changed.
    pub(super) fn current(&self, id: &Id) -> Option<&Peer> {
        self.table.get(id.slot).filter(|peer| peer.generation == id.generation)
    }
}

/// Incarnation of a member as counted by foca, relative to the member's base.
pub(super) fn foca_incarnation(peer: &Peer) -> u16 {
    u16::try_from(peer.incarnation.saturating_sub(peer.info.base)).unwrap_or(u16::MAX)
}

fn parse_alive(alive: &Alive) -> Option<Info> {
    let addr = parse_addr(&alive.addr, alive.port)?;
    // Very old agents send no versions.
    let vsn = match &alive.vsn {
        Some(vsn) if vsn.len() >= VSN.len() => <[u8; 6]>::try_from(&vsn[..6]).ok()?,
        _ => [1, 1, 1, 1, 1, 1],
    };
    let valid = !alive.node.is_empty() && vsn[0] != 0 && vsn[0] <= vsn[1];
    valid.then(|| Info {
        name: alive.node.clone(),
        addr,
        meta: alive.meta.clone().unwrap_or_default(),
        vsn,
        base: 0,
    })
}
