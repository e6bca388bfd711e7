//! Commands and queries of the caller.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use super::{
    Answered, CommandError, Coordinate, Core, Event, LamportTimes, Member, Snapshot, Stats, Status, StreamId,
    config::check_tags,
    glue::Info,
    purpose::Purpose,
    queue::{BroadcastId, Class},
    timers::Due,
};
use crate::wire::{
    Framing, Text,
    memberlist::{Dead, Message},
    serf::{self, Leave, Tags, decode_tags},
};

/// Progress of this member's leaving the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LeavePhase {
    Staying,
    /// Serf's leave intent of this member is being broadcast, until this time at the latest; the id is `None`
    /// if there was no room to queue it.
    Intent(Duration, Option<BroadcastId>),
    /// memberlist's dead message of this member about itself is being broadcast, until this time at the latest;
    /// the id is `None` if there was no room to queue it.
    Dead(Duration, Option<BroadcastId>),
    /// The leave intent and the dead message are sent; this member still answers until this time.
    Lingering(Duration),
    Left,
}

impl Core {
    /// Contacts a member to learn about all others. Ends with [`Event::JoinFinished`]. With `ignore_old`,
    /// events from before the join are not reported. The exception is a member that comes back: it is alone now
    /// and was among others before, in this run or an earlier one, so it receives what was sent meanwhile.
    pub fn join(
        &mut self,
        now: Duration,
        addr: SocketAddr,
        ignore_old: bool,
    ) -> Result<StreamId, CommandError> {
        self.check_staying()?;
        let ignore_old = ignore_old && !self.comes_back();
        self.push_pull(now, addr, Purpose::Join { ignore_old }).ok_or(CommandError::Busy("TCP exchanges"))
    }

    /// Leaves the cluster, so that other members do not count this one as failed. Ends with
    /// [`Event::LeaveFinished`]; the core keeps answering until it is dropped.
    pub fn leave(&mut self, now: Duration) {
        if self.leave != LeavePhase::Staying {
            return;
        }
        let ltime = self.clocks.member.tick();
        self.own.status_ltime = ltime;
        let leave = Leave { ltime, node: self.own.info.name.clone(), prune: false };
        // Without room for the intent, memberlist's message alone is enough.
        let intent = self.broadcast_own(Class::Intent, &serf::Message::Leave(leave).encode()).ok();
        self.leave = LeavePhase::Intent(now + self.config.timing.broadcast_timeout, intent);
        self.gossip_now(now);
        self.leave_due(now);
    }

    pub(super) fn leave_due(&mut self, now: Duration) {
        match self.leave {
            LeavePhase::Staying | LeavePhase::Left => return,
            LeavePhase::Intent(until, intent) => {
                if self.is_told(intent) || now >= until {
                    let name = self.own.info.name.clone();
                    let incarnation = self.own.incarnation;
                    let dead = self.say(&Message::Dead(Dead { from: name.clone(), incarnation, node: name }));
                    self.leave = LeavePhase::Dead(now + self.config.timing.broadcast_timeout, dead);
                    self.gossip_now(now);
                }
            }
            LeavePhase::Dead(until, dead) => {
                if self.is_told(dead) || now >= until {
                    let delay = self.config.timing.leave_propagate_delay;
                    let until = if self.table.active == 0 { now } else { now + delay };
                    self.leave = LeavePhase::Lingering(until);
                }
            }
            LeavePhase::Lingering(until) => {
                if now >= until {
                    self.leave = LeavePhase::Left;
                    return self.emit(Event::LeaveFinished);
                }
            }
        }
        self.timers.add(now + self.config.timing.gossip_interval, Due::Leave);
    }

    /// Returns whether a broadcast is complete: it was sent as often as required, it was never queued (`None`),
    /// or no other member is active.
    fn is_told(&self, broadcast: Option<BroadcastId>) -> bool {
        self.table.active == 0 || !broadcast.is_some_and(|id| self.queues.holds(id))
    }

    /// Declares that a failed member has left, so that no member tries to reconnect to it. With `prune`, every
    /// member also forgets it at once. If the named member is alive, it refutes this.
    pub fn force_leave(
        &mut self,
        now: Duration,
        name: impl AsRef<[u8]>,
        prune: bool,
    ) -> Result<(), CommandError> {
        self.check_staying()?;
        let node = Text::from(name.as_ref());
        if self.table.by_name(&node).is_none() {
            return Err(CommandError::UnknownMember(node));
        }
        let leave = Leave { ltime: self.clocks.member.time(), node, prune };
        // Nothing after this can fail.
        self.broadcast_own(Class::Intent, &serf::Message::Leave(leave.clone()).encode())?;
        self.clocks.member.tick();
        self.on_leave(now, &leave);
        self.flush_updates(now);
        Ok(())
    }

    /// Replaces all tags of this member. Fails if the encoded tags exceed 512 bytes.
    pub fn set_tags(&mut self, tags: Tags) -> Result<(), CommandError> {
        self.check_staying()?;
        let meta = check_tags(&tags)?;
        self.own.info = Arc::new(Info { meta, ..Info::clone(&self.own.info) });
        self.own.tags = tags;
        self.own.incarnation = self.own.incarnation.saturating_add(1);
        self.announce_self();
        self.emit(Event::TagsChanged);
        // As in Serf's agents, this is reported like any other member's update.
        self.emit(Event::MemberUpdated(self.local_member()));
        Ok(())
    }

    /// Sets some of this member's tags, deletes those named in `delete`, and keeps the remaining ones.
    pub fn update_tags(&mut self, set: Tags, delete: &[Text]) -> Result<(), CommandError> {
        let mut tags = self.own.tags.clone();
        tags.retain(|name, _| !delete.contains(name));
        tags.extend(set);
        self.set_tags(tags)
    }

    /// Returns this member's properties as other members see them.
    pub fn local_member(&self) -> Member {
        Member {
            name: self.own.info.name.clone(),
            addr: self.own.info.addr,
            tags: decode_tags(&self.own.info.meta),
            status: match self.leave {
                LeavePhase::Staying => Status::Alive,
                LeavePhase::Left => Status::Left,
                _ => Status::Leaving,
            },
            suspect: false,
            incarnation: self.own.incarnation,
            versions: self.own.info.vsn,
            rtt: None,
            answered: Answered::Yes,
        }
    }

    /// Returns all known members except this one, in no particular order, including failed and departed ones.
    pub fn members(&self) -> impl Iterator<Item = Member> + '_ {
        self.table.iter().map(|(_, peer)| peer.to_member())
    }

    /// Returns a member other than this one by its name; `None` if it is unknown.
    pub fn member(&self, name: impl AsRef<[u8]>) -> Option<Member> {
        self.table.by_name(name.as_ref()).map(super::table::Peer::to_member)
    }

    /// Network coordinate of this member.
    pub fn coordinate(&self) -> Coordinate {
        self.vivaldi.own
    }

    /// Network coordinate of a member, this one included; `None` until that member has answered a probe of this
    /// one.
    pub fn coordinate_of(&self, name: impl AsRef<[u8]>) -> Option<Coordinate> {
        if *name.as_ref() == *self.own.info.name {
            return Some(self.vivaldi.own);
        }
        Some(self.table.by_name(name.as_ref())?.remote.as_ref()?.place)
    }

    /// Estimated round-trip time to another member, from the coordinates of both; `None` until that member has
    /// answered a probe of this one.
    pub fn estimated_rtt(&self, name: impl AsRef<[u8]>) -> Option<Duration> {
        let remote = self.table.by_name(name.as_ref())?.remote.as_ref()?;
        Some(self.vivaldi.own.distance(&remote.place))
    }

    /// Number of members that are alive or suspected, this one included.
    pub fn alive_count(&self) -> usize {
        self.cluster_size()
    }

    /// Counters since the start.
    pub fn stats(&self) -> Stats {
        let coordinate_resets = self.vivaldi.resets;
        Stats { lookups: self.table.lookups, coordinate_resets, ..self.stats.clone() }
    }

    /// Lifeguard's local health score, from 0 (healthy) to 7.
    pub fn health_score(&self) -> u32 {
        self.probes.score()
    }

    /// Current framing: label, keys and compression, including changes by key queries.
    pub fn framing(&self) -> &Framing {
        &self.config.framing
    }

    /// Returns the state that a later run of this member needs. Its clocks of events and queries cover only
    /// messages that this run has received; a time that other members have merely mentioned does not advance
    /// them.
    pub fn snapshot(&self) -> Snapshot {
        let left_behind = self.left_behind();
        Snapshot {
            left: self.is_leaving() || left_behind.is_some(),
            alive: left_behind.map_or_else(|| self.rejoinable(), <[_]>::to_vec),
            clock: self.clocks.member.time() - 1,
            event_clock: self.user_events.heard_up_to(),
            query_clock: self.queries.heard_up_to(),
        }
    }

    /// Lamport times that the next join or leave, user event and query of this member will have.
    pub fn lamport_times(&self) -> LamportTimes {
        let clocks = &self.clocks;
        LamportTimes { member: clocks.member.time(), event: clocks.event.time(), query: clocks.query.time() }
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.leave != LeavePhase::Staying
    }

    pub(super) fn check_staying(&self) -> Result<(), CommandError> {
        if self.is_leaving() { Err(CommandError::Leaving) } else { Ok(()) }
    }
}
