//! Counters of a member.

use super::Event;
use crate::wire::{WireError, msgpack::DecodeError};

/// Counters of datagrams in one direction. TCP exchanges are counted by [`Stats::merges`] and
/// [`Stats::failed_exchanges`].
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

/// Numbers of rejected datagrams and streams, and of their parts over a limit, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refused {
    /// Number with the label of another cluster, with a label although this cluster has none, or without the
    /// label that it has.
    pub label: u64,
    /// Number that were not encrypted although there is a keyring, or that no key of the keyring decrypts.
    pub key: u64,
    /// Number with a wrong checksum.
    pub checksum: u64,
    /// Number with damaged compressed bytes, or an unknown compression algorithm.
    pub compression: u64,
    /// Number over a limit: of size, decompressed size, nesting, or number of elements.
    pub too_large: u64,
    /// Number with an invalid encoding, including streams that ended in the middle of a message.
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

    /// Sum of the counters of all reasons.
    pub fn total(&self) -> u64 {
        self.label + self.key + self.checksum + self.compression + self.too_large + self.malformed
    }
}

/// Numbers of changes of other members, as seen by this one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Changes {
    /// Number of members that joined or came back.
    pub joined: u64,
    /// Number of times a member changed its tags.
    pub updated: u64,
    /// Number of times a member became suspected of having failed.
    pub suspected: u64,
    /// Number of times a member was declared failed.
    pub failed: u64,
    /// Number of times a member left, or was declared to have left.
    pub left: u64,
    /// Number of failed or departed members that were forgotten.
    pub reaped: u64,
}

/// Counters of a member since its start; they never decrease.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Received datagrams, including rejected ones.
    pub received: Traffic,
    /// Datagrams handed to the caller for sending.
    pub sent: Traffic,
    /// Rejected datagrams and streams, by reason.
    pub refused: Refused,
    /// Number of this member's probes that the probed member answered.
    pub answered_probes: u64,
    /// Number of messages, or parts of messages, that could not be decoded or used, and of stream messages of a
    /// kind that the exchange does not expect.
    pub malformed: u64,
    /// Number of messages and connections that exceed a bound: jumps of incarnations and clocks, unknown relay
    /// targets, too many exchanges or relayed pings, too long names, too long or too many events and queries.
    pub rejected: u64,
    /// Number of announced members that were not added, because active members fill the table.
    pub full: u64,
    /// Number of events, queries, intents and news about members that were already known or outdated. Gossip
    /// always repeats some; replayed packets of an attacker are counted here too.
    pub repeated: u64,
    /// Changes of other members, by kind.
    pub changes: Changes,
    /// Number of lookups of other members by name.
    pub lookups: u64,
    /// Number of announcements of members whose address is in none of the allowed networks.
    pub not_allowed: u64,
    /// Number of changes of members passed to foca.
    pub updates: u64,
    /// Number of transmissions, events and broadcasts dropped because their queue was full or they fit into no
    /// datagram.
    pub dropped: u64,
    /// Number of errors of foca, and of messages that could not be encoded.
    pub internal: u64,
    /// Number of times this member had to refute a suspicion or its death.
    pub refutations: u64,
    /// Number of this member's probes that nobody answered.
    pub failed_probes: u64,
    /// Number of this member's probes that were answered over TCP only.
    pub tcp_acks: u64,
    /// Number of states of other members that were merged.
    pub merges: u64,
    /// Number of state exchanges started by this member that did not complete.
    pub failed_exchanges: u64,
    /// Number of new user events, including this member's own.
    pub user_events: u64,
    /// Number of new queries addressed to this member, including its own and Serf's internal ones.
    pub queries: u64,
    /// Number of responses and acknowledgements received for this member's own queries.
    pub answers: u64,
    /// Number of times this member's network coordinate became invalid and was reset.
    pub coordinate_resets: u64,
}

/// Reason why a received event or query is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unwanted {
    /// The event or query is known, or too old to tell whether it is.
    Repeated,
    /// The event is too long, or there are too many events or queries of its Lamport time.
    Excess,
}

impl Stats {
    pub(super) fn unwanted(&mut self, why: Unwanted) {
        match why {
            Unwanted::Repeated => self.repeated += 1,
            Unwanted::Excess => self.rejected += 1,
        }
    }

    /// Counts an event for the application in the counter of its kind; other kinds than member changes and user
    /// events are ignored.
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
