//! Counters of a member.

use super::Event;
use crate::wire::{WireError, msgpack::DecodeError};

/// Datagrams in one direction. TCP exchanges are counted by [`Stats::merges`] and others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Number of datagrams.
    pub packets: u64,
    /// Total size in bytes, without UDP and IP headers.
    pub bytes: u64,
}

impl Traffic {
    pub(super) fn add(&mut self, len: usize) {
        self.packets += 1;
        self.bytes += len as u64;
    }
}

/// Rejected datagrams and streams, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refused {
    /// The label is another cluster's.
    pub label: u64,
    /// Not encrypted although there is a keyring, or with none of its keys.
    pub key: u64,
    /// Checksum mismatch.
    pub checksum: u64,
    /// Damaged compression, or an unknown algorithm.
    pub compression: u64,
    /// A limit is exceeded: size, decompressed size, nesting, or number of elements.
    pub too_large: u64,
    /// Invalid encoding.
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

    /// Total of all reasons.
    pub fn total(&self) -> u64 {
        self.label + self.key + self.checksum + self.compression + self.too_large + self.malformed
    }
}

/// Changes of other members, as seen by this one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Changes {
    /// Members that joined or came back.
    pub joined: u64,
    /// Members that changed their tags.
    pub updated: u64,
    /// Members that became suspected.
    pub suspected: u64,
    /// Members that were declared failed.
    pub failed: u64,
    /// Members that left, or were declared to have left.
    pub left: u64,
    /// Members that were forgotten.
    pub reaped: u64,
}

/// Counters since the start; they never decrease.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Received datagrams, including rejected ones.
    pub received: Traffic,
    /// Datagrams passed on for sending.
    pub sent: Traffic,
    /// Rejected datagrams and streams.
    pub refused: Refused,
    /// Probes answered by members.
    pub answered_probes: u64,
    /// Messages in datagrams or streams that could not be decoded, and responses that nobody asked for.
    pub malformed: u64,
    /// Messages that exceed a bound: jumps of incarnations and clocks, unknown relay targets, full tables, too
    /// long or too many events and queries.
    pub rejected: u64,
    /// Announced members that were not added, because live members fill the table.
    pub full: u64,
    /// Events, queries, intents and news about members that are already known or outdated. Gossip always
    /// repeats some; replayed packets of an attacker are counted here too.
    pub repeated: u64,
    /// Changes of other members.
    pub changes: Changes,
    /// Lookups of members by name.
    pub lookups: u64,
    /// News about members whose address is in none of the allowed networks.
    pub not_allowed: u64,
    /// Changes passed to foca.
    pub updates: u64,
    /// Transmissions, events or broadcasts dropped because their queue was full.
    pub dropped: u64,
    /// Errors reported by foca.
    pub internal: u64,
    /// Number of times this member had to refute a suspicion or its death.
    pub refutations: u64,
    /// Probes of this member that nobody answered.
    pub failed_probes: u64,
    /// Probes answered over TCP only.
    pub tcp_acks: u64,
    /// State exchanges that were merged.
    pub merges: u64,
    /// Exchanges started by this member that did not complete.
    pub failed_exchanges: u64,
    /// New user events, including this member's own.
    pub user_events: u64,
    /// New queries addressed to this member, including its own and Serf's internal ones.
    pub queries: u64,
    /// Responses and acknowledgements to this member's own queries.
    pub answers: u64,
    /// Number of times this member's network coordinate became invalid and was reset.
    pub coordinate_resets: u64,
}

/// Reason why an event or a query is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unwanted {
    /// It is known, or too old to tell.
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

    /// Counts an event.
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
