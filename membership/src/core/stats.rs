//! What a member counts.

use super::Event;
use crate::wire::{WireError, msgpack::DecodeError};

/// Datagrams that went one way. TCP exchanges are counted by [`Stats::merges`] and the like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// How many.
    pub packets: u64,
    /// Their bytes, without the headers of UDP and IP.
    pub bytes: u64,
}

impl Traffic {
    pub(super) fn add(&mut self, len: usize) {
        self.packets += 1;
        self.bytes += len as u64;
    }
}

/// Datagrams and streams that were not taken, by what was wrong with them as a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refused {
    /// Of another cluster: the label is another one.
    pub label: u64,
    /// In clear although there is a keyring, or under none of its keys.
    pub key: u64,
    /// Damaged on the way.
    pub checksum: u64,
    /// Damaged or of an unknown algorithm.
    pub compression: u64,
    /// Over a limit: too long, unfolding to too much, nested too deep, too many elements.
    pub too_large: u64,
    /// Not understood.
    pub malformed: u64,
}

impl Refused {
    pub(super) fn add(&mut self, error: &WireError) {
        let counter = match error {
            WireError::Label => &mut self.label,
            WireError::Decrypt => &mut self.key,
            WireError::Checksum => &mut self.checksum,
            WireError::Decompress => &mut self.compression,
            WireError::TooLarge(_) | WireError::Decode(DecodeError::TooLarge(_) | DecodeError::TooDeep) => {
                &mut self.too_large
            }
            WireError::Decode(_) | WireError::Ended => &mut self.malformed,
        };
        *counter += 1;
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.label + self.key + self.checksum + self.compression + self.too_large + self.malformed
    }
}

/// What became of members, as this member saw it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Changes {
    /// They joined, or came back.
    pub joined: u64,
    /// They changed their tags.
    pub updated: u64,
    /// They began to be suspected.
    pub suspected: u64,
    /// They were declared failed.
    pub failed: u64,
    /// They left, or were declared to have left.
    pub left: u64,
    /// They were forgotten.
    pub reaped: u64,
}

/// Counters since the start. None ever goes back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Datagrams that came, those that were refused included.
    pub received: Traffic,
    /// Datagrams that were handed over for sending.
    pub sent: Traffic,
    /// Datagrams and streams that were not taken.
    pub refused: Refused,
    /// Probes that members answered.
    pub answered_probes: u64,
    /// Messages inside datagrams or streams that could not be understood, and answers that nobody asked for.
    pub malformed: u64,
    /// Messages that ask for more than is allowed: jumps of incarnations and clocks, unknown relay targets, full tables,
    /// events and queries that are too long or too many.
    pub rejected: u64,
    /// Announcements of members that were not taken in, for all places are taken by members that live.
    pub full: u64,
    /// Events, queries, intents and news of members that are known already or older than what is known. Gossip repeats
    /// itself, so there are always some; what an attacker records and sends again is among them.
    pub repeated: u64,
    /// What became of other members.
    pub changes: Changes,
    /// Look-ups of members by name.
    pub lookups: u64,
    /// News of members whose address lies in none of the networks that are allowed.
    pub not_allowed: u64,
    /// Changes that were handed to the member state machine.
    pub updates: u64,
    /// Transmissions, events or broadcasts that were thrown away because their queue was full.
    pub dropped: u64,
    /// Errors that the member state machine reported.
    pub internal: u64,
    /// Times this member had to say that it is alive.
    pub refutations: u64,
    /// Probes of this member's that nobody answered.
    pub failed_probes: u64,
    /// Probes that were answered over TCP only.
    pub tcp_acks: u64,
    /// Exchanges of the whole state that were merged.
    pub merges: u64,
    /// Exchanges that this member began and that did not come to an end.
    pub failed_exchanges: u64,
    /// User events that were new, one's own included.
    pub user_events: u64,
    /// Queries that were new and meant for this member, one's own included; those of Serf itself, too.
    pub queries: u64,
    /// Answers and acknowledgements of this member's own queries.
    pub answers: u64,
    /// Times this member gave up its place in the network, because the place had become absurd.
    pub coordinate_resets: u64,
}

/// Why an event or a query is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unwanted {
    /// It is known, or so old that it may be.
    Repeated,
    /// It is too long, or there are too many.
    Excess,
}

impl Stats {
    pub(super) fn unwanted(&mut self, why: Unwanted) {
        match why {
            Unwanted::Repeated => self.repeated += 1,
            Unwanted::Excess => self.rejected += 1,
        }
    }

    /// What an event says has happened.
    pub(super) fn count(&mut self, event: &Event) {
        let counter = match event {
            Event::MemberJoined(_) => &mut self.changes.joined,
            Event::MemberUpdated(_) => &mut self.changes.updated,
            Event::MemberFailed(_) => &mut self.changes.failed,
            Event::MemberLeft(_) => &mut self.changes.left,
            Event::MemberReaped(_) => &mut self.changes.reaped,
            Event::UserEvent { .. } => &mut self.user_events,
            _ => return,
        };
        *counter += 1;
    }
}
