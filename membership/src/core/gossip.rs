//! Sending: which messages go to which member in which datagram, and which wait for room.

use std::{net::SocketAddr, time::Duration};

use rand::seq::IteratorRandom;

use super::{
    CommandError, Config, Core, PACKET_SIZE, Transmit,
    queue::{BroadcastId, Class, Origin, Packet, QueueDepths, Unqueued},
    suspicion,
};
use crate::wire::{
    Text,
    memberlist::{self, Message, Suspect},
    packet,
};

/// First version of memberlist's protocol whose members understand checksums.
pub(super) const CRC_SINCE: u8 = 5;

/// Number of bytes of a packet available for messages and their lengths.
pub(super) fn packet_budget(config: &Config) -> usize {
    PACKET_SIZE.saturating_sub(config.framing.overhead())
}

/// Wraps a Serf message as a memberlist user message.
pub(super) fn user(serf_message: &[u8]) -> Vec<u8> {
    [&[memberlist::kind::USER], serf_message].concat()
}

impl Class {
    /// Name of the queue's messages in error texts.
    fn name(self) -> &'static str {
        match self {
            Self::Membership => "changes of members",
            Self::Intent => "joins and leaves",
            Self::Query => "queries",
            Self::Event => "events",
        }
    }
}

impl Core {
    /// Sends encoded messages, each with its type byte, in one packet; with a checksum if the receiver
    /// understands it.
    fn send_messages(&mut self, to: SocketAddr, messages: &[Vec<u8>]) {
        if messages.is_empty() {
            return;
        }
        let crc = self
            .table
            .slot_at(to)
            .and_then(|slot| self.table.get(slot))
            .is_some_and(|peer| peer.info.vsn[1] >= CRC_SINCE);
        match packet::encode(&self.config.framing, messages, crc, &mut self.rng) {
            Ok(payload) => self.transmit(Transmit::Udp { to, payload }),
            Err(_) => self.stats.internal += 1,
        }
    }

    pub(super) fn send_message(&mut self, to: SocketAddr, message: &Message) {
        self.send_messages(to, &[message.encode()]);
    }

    /// Sends a message. If the receiver is an active member, the packet is filled up with broadcasts.
    pub(super) fn send_along(&mut self, to: SocketAddr, message: &Message) {
        let slot = self.table.slot_at(to);
        if slot.and_then(|slot| self.table.get(slot)).is_some_and(|peer| peer.health.is_active()) {
            self.send_filled(to, vec![message.encode()]);
        } else {
            self.send_message(to, message);
        }
    }

    /// Sends encoded messages to a member in one packet, and fills it up with broadcasts.
    pub(super) fn send_filled(&mut self, to: SocketAddr, messages: Vec<Vec<u8>>) {
        let mut packet = Packet::new(messages, packet_budget(&self.config), packet::MAX_COMPOUND);
        // Serf counts all known members, including those that are gone.
        let limit = suspicion::transmissions(&self.config.timing, self.table.len() + 1);
        self.queues.fill(&mut packet, usize::from(limit));
        self.send_messages(to, &packet.into_messages());
    }

    /// Runs a gossip round. `foca_spoke`: foca has already sent its updates, with broadcasts in the remaining
    /// room.
    pub(super) fn gossip_round(&mut self, foca_spoke: bool) {
        // Membership messages that foca left no room for are sent now; a refutation would otherwise come too
        // late.
        if self.queues.is_empty() || foca_spoke && !self.queues.has_unsaid() {
            return;
        }
        let living = self.table.iter().filter(|(_, peer)| peer.health.is_active());
        let fanout = self.config.timing.gossip_fanout;
        let chosen = living.map(|(_, peer)| peer.info.addr).sample(&mut self.rng, fanout);
        for to in chosen {
            if self.queues.is_empty() {
                return;
            }
            self.send_filled(to, Vec::new());
        }
    }

    /// Runs a gossip round at once, in addition to the regular ones.
    pub(super) fn gossip_now(&mut self, now: Duration) {
        self.foca_spoke = false;
        self.drive(now, |foca, outbox| foca.gossip(outbox));
        self.gossip_round(self.foca_spoke);
    }

    /// Queues a Serf message of this member as a broadcast. Fails if it is too long for a datagram or the queue
    /// is full.
    pub(super) fn broadcast_own(
        &mut self,
        class: Class,
        serf_message: &[u8],
    ) -> Result<BroadcastId, CommandError> {
        let bytes = user(serf_message);
        let len = bytes.len();
        match self.queues.push(class, Origin::Own, None, bytes) {
            Ok((id, fallen)) => {
                self.stats.dropped += fallen;
                Ok(id)
            }
            Err(why) => {
                self.stats.dropped += 1;
                Err(self.unqueued(class, len, why))
            }
        }
    }

    fn unqueued(&self, class: Class, len: usize, why: Unqueued) -> CommandError {
        match why {
            Unqueued::Full => CommandError::Busy(class.name()),
            Unqueued::TooLong => {
                CommandError::TooLarge { what: "the message", len, limit: packet_budget(&self.config) }
            }
        }
    }

    /// Passes on another member's Serf message: as a broadcast, or over TCP if it does not fit into a datagram.
    pub(super) fn relay(&mut self, class: Class, serf_message: &[u8]) {
        if !self.fits(serf_message) {
            self.hand_on(class, Origin::Relayed, serf_message);
            return;
        }
        match self.queues.push(class, Origin::Relayed, None, user(serf_message)) {
            Ok((_, fallen)) => self.stats.dropped += fallen,
            Err(_) => self.stats.dropped += 1,
        }
    }

    /// Broadcasts a message about this member itself, which replaces waiting messages about it. Returns `None`
    /// if it was not queued.
    pub(super) fn say(&mut self, message: &Message) -> Option<BroadcastId> {
        let name = self.own.info.name.clone();
        self.queues.forget(&name);
        self.tell(Origin::Own, &name, message)
    }

    /// Passes on the suspicion of a member by a second or later member; foca passes on only the first
    /// suspicion.
    pub(super) fn confirm(&mut self, about: &Text, suspect: Suspect) {
        self.tell(Origin::Relayed, about, &Message::Suspect(suspect));
    }

    fn tell(&mut self, origin: Origin, about: &Text, message: &Message) -> Option<BroadcastId> {
        let queued = self.queues.push(Class::Membership, origin, Some(about), message.encode());
        self.stats.dropped += queued.map_or(1, |(_, fallen)| fallen);
        queued.ok().map(|(id, _)| id)
    }

    /// Number of broadcasts and long messages that wait to be sent, by kind, including the changes that foca
    /// broadcasts.
    pub fn queue_depths(&self) -> QueueDepths {
        let own = self.long.add_to(self.queues.depths());
        QueueDepths { membership: own.membership + self.foca.updates_backlog() as u64, ..own }
    }
}
