//! Serf messages that fit into no datagram: they are sent over TCP.
//!
//! memberlist does not support these. It queues such a broadcast but never sends it: others receive an event
//! with the next state exchange, within minutes, and a query never. Here each member that receives one forwards
//! it, in several gossip rounds, to as many members as a round has, over one connection each. Serf's agents
//! accept it in this form. A member that is missed still receives an event with the next state exchange.

use std::{collections::VecDeque, net::SocketAddr, time::Duration};

use rand::seq::IteratorRandom;

use super::{
    CommandError, Core,
    gossip::user,
    purpose::Purpose,
    queue::{Class, Origin, QueueDepths},
};
use crate::wire::{memberlist::Message as Packet, stream::StreamMessage};

/// Maximum number of long messages that wait to be forwarded.
pub(super) const MAX_LONG: usize = 64;
/// Number of gossip rounds in which each long message is forwarded.
pub(super) const ROUNDS: u32 = 3;
/// Maximum number of concurrent connections that carry long messages; the remaining ones are left for joins and
/// state exchanges.
pub(super) const MAX_CARRIERS: usize = 16;

#[derive(Debug)]
struct Waiting {
    class: Class,
    own: bool,
    /// Serf message without memberlist's type byte.
    serf_message: Vec<u8>,
    rounds: u32,
}

/// Long messages that wait to be forwarded, the one to forward next first.
#[derive(Debug, Default)]
pub(super) struct Long(VecDeque<Waiting>);

impl Long {
    /// Queues a long message. In a full queue it replaces the oldest message of another member. Returns the
    /// number of messages dropped; `None` if the queue is full of this member's own, so that the new one is not
    /// queued.
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

    /// Number of waiting long messages of a class.
    fn count(&self, class: Class) -> u64 {
        self.0.iter().filter(|waiting| waiting.class == class).count() as u64
    }

    /// Adds the numbers of waiting long queries and events to `depths`.
    pub(super) fn add_to(&self, depths: QueueDepths) -> QueueDepths {
        QueueDepths {
            queries: depths.queries + self.count(Class::Query),
            events: depths.events + self.count(Class::Event),
            ..depths
        }
    }
}

impl Core {
    /// Sends this member's own Serf message to all members, whatever its size.
    pub(super) fn spread(&mut self, class: Class, serf_message: &[u8]) -> Result<(), CommandError> {
        if self.fits(serf_message) {
            return self.broadcast_own(class, serf_message).map(|_| ());
        }
        self.hand_on(class, Origin::Own, serf_message)
            .then_some(())
            .ok_or(CommandError::Busy("long messages"))
    }

    /// Returns whether a Serf message fits into a datagram, with its type byte.
    pub(super) fn fits(&self, serf_message: &[u8]) -> bool {
        self.queues.fits(user(serf_message).len())
    }

    /// Queues a long message for forwarding. Returns `false` if the queue is full of this member's own
    /// messages.
    pub(super) fn hand_on(&mut self, class: Class, origin: Origin, serf_message: &[u8]) -> bool {
        let queued = self.long.push(class, origin, serf_message);
        self.stats.dropped += queued.unwrap_or(1);
        queued.is_some()
    }

    /// Runs a gossip round for long messages: sends each to random active members over TCP, until connections
    /// run out.
    pub(super) fn long_round(&mut self, now: Duration) {
        let fanout = self.config.timing.gossip_fanout;
        // Messages sent in this round go to the end of the queue.
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

    /// Sends a Serf message to one address: in a datagram, or over TCP if it does not fit and the address is a
    /// member's.
    pub(super) fn send_user(&mut self, now: Duration, to: SocketAddr, serf_message: Vec<u8>) {
        if !self.fits(&serf_message) && self.table.slot_at(to).is_some() {
            self.carry(now, to, &serf_message);
        } else {
            self.send_message(to, &Packet::User(serf_message));
        }
    }
}
