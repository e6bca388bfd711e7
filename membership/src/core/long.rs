//! Messages of Serf's that no datagram has room for: they go over TCP.
//!
//! memberlist has no way for them. Its queue takes such a broadcast and never sends it: others learn of an event when states are
//! compared, within minutes, and of a query never. Here each member that hears one hands it, in some rounds of gossip, to
//! as many members as a round has, each over a connection of its own; Serf's agents take it from there, too. An event that
//! misses somebody all the same comes with the next comparison of states.

use std::{collections::VecDeque, net::SocketAddr, time::Duration};

use rand::seq::IteratorRandom;

use super::{
    CommandError, Core,
    gossip::user,
    queue::{Class, Origin, QueueDepths},
    sync::Purpose,
};
use crate::wire::{memberlist::Message as Packet, stream::StreamMessage};

/// Most long messages that wait to be handed on.
pub(super) const MAX_LONG: usize = 64;
/// Rounds of gossip in which one is handed on.
pub(super) const ROUNDS: u32 = 3;
/// Most connections at a time that carry them; joins and comparisons have the others.
pub(super) const MAX_CARRIERS: usize = 16;

#[derive(Debug)]
struct Waiting {
    class: Class,
    own: bool,
    /// Without memberlist's kind in front.
    serf_message: Vec<u8>,
    rounds: u32,
}

/// The long messages that wait to be handed on, the next one first.
#[derive(Debug, Default)]
pub(super) struct Long(VecDeque<Waiting>);

impl Long {
    /// Queues a message; says how many others fell for it. What this member itself says does not fall for others' messages.
    fn push(&mut self, class: Class, origin: Origin, serf_message: &[u8]) -> Option<u64> {
        let own = origin == Origin::Own;
        let mut fallen = 0;
        if self.0.len() >= MAX_LONG {
            let oldest = self.0.iter().position(|waiting| !waiting.own)?;
            self.0.remove(oldest);
            fallen = 1;
        }
        self.0.push_back(Waiting { class, own, serf_message: serf_message.to_vec(), rounds: ROUNDS });
        Some(fallen)
    }

    /// Those of a class.
    fn count(&self, class: Class) -> u64 {
        self.0.iter().filter(|waiting| waiting.class == class).count() as u64
    }

    /// Adds what waits here.
    pub(super) fn add_to(&self, depths: QueueDepths) -> QueueDepths {
        QueueDepths {
            queries: depths.queries + self.count(Class::Query),
            events: depths.events + self.count(Class::Event),
            ..depths
        }
    }
}

impl Core {
    /// Sends this member's own message of Serf's to all, however long it is.
    pub(super) fn spread(&mut self, class: Class, serf_message: &[u8]) -> Result<(), CommandError> {
        if self.fits(serf_message) {
            return self.broadcast_own(class, serf_message).map(|_| ());
        }
        self.hand_on(class, Origin::Own, serf_message)
            .then_some(())
            .ok_or(CommandError::Busy("long messages"))
    }

    /// Whether a datagram has room for a message.
    pub(super) fn fits(&self, serf_message: &[u8]) -> bool {
        self.queues.fits(user(serf_message).len())
    }

    /// Queues a long message; false when there is no room.
    pub(super) fn hand_on(&mut self, class: Class, origin: Origin, serf_message: &[u8]) -> bool {
        let queued = self.long.push(class, origin, serf_message);
        self.stats.dropped += queued.unwrap_or(1);
        queued.is_some()
    }

    /// A round of gossip with long messages: as many as there are connections for.
    pub(super) fn long_round(&mut self, now: Duration) {
        let fanout = self.config.timing.gossip_fanout;
        // Those that are handed on now go behind all others.
        for _ in 0..self.long.0.len() {
            let free = MAX_CARRIERS.saturating_sub(self.streams.carriers());
            let living = self.table.iter().filter(|(_, peer)| peer.health.is_active());
            let chosen = living.map(|(_, peer)| peer.info.addr).sample(&mut self.rng, fanout);
            if free < chosen.len().min(MAX_CARRIERS) {
                return;
            }
            let Some(mut waiting) = self.long.0.pop_front() else { return };
            for to in chosen {
                self.carry(now, to, &waiting.serf_message);
            }
            waiting.rounds -= 1;
            if waiting.rounds > 0 {
                self.long.0.push_back(waiting);
            }
        }
    }

    fn carry(&mut self, now: Duration, to: SocketAddr, serf_message: &[u8]) {
        self.start_stream(now, to, Purpose::Carry, StreamMessage::User(serf_message.to_vec()));
    }

    /// Sends a message of Serf's to one address: in a datagram, or, if none has room for it, to a member over TCP.
    pub(super) fn send_user(&mut self, now: Duration, to: SocketAddr, serf_message: Vec<u8>) {
        if !self.fits(&serf_message) && self.table.slot_at(to).is_some() {
            self.carry(now, to, &serf_message);
        } else {
            self.send_message(to, &Packet::User(serf_message));
        }
    }
}
