//! Verdicts on offered facts, and the stable codes of their reasons.

use crate::time::Timestamp;
use std::fmt;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $help:literal;)*) => {
        /// A stable reason code. Its text is the same in JSON, metrics, logs and close codes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            /// All codes in the order of their definition.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Returns the stable text of the code, such as `grant.revoked`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// Explains the code to people: what happened and what to do.
            pub const fn help(self) -> &'static str {
                match self { $(Self::$name => $help,)* }
            }
        }
    };
}

codes! {
    /// The bytes are not the canonical record of a fact.
    Malformed = "fact.malformed", "the bytes are not a canonical fact; whoever made them has to make them anew";
    /// The fact was signed in the format of another version.
    Version = "fact.version", "the fact was signed in the format of another version, for another cluster; sign it anew with a program of this version";
    /// The fact exceeds a size limit of the protocol: its value is longer than
    /// [`MAX_VALUE_BYTES`](crate::MAX_VALUE_BYTES), or its record longer than
    /// [`MAX_RECORD_BYTES`](crate::MAX_RECORD_BYTES).
    TooLarge = "fact.too_large", "the fact is over a size limit of the protocol; make it smaller or split it";
    /// The signature of the fact, or that of the grant inside a revocation, is not valid.
    BadSignature = "fact.bad_signature", "the signature does not belong to these bytes, this signer and this cluster";
    /// The fact is stored here already.
    Known = "fact.known", "the fact is already stored here; nothing to do";
    /// The length or hash of the entry's value differs from the signed one.
    ValueMismatch = "entry.value_mismatch", "the value's length or hash differs from what was signed; send the signed value";
    /// The entry's timestamp is more than two minutes ahead of the local clock.
    NotYet = "entry.not_yet", "the timestamp is more than 2 minutes ahead of this replica's clock: one of the clocks is wrong, or the key holds an entry that was written under a clock that was; set the clock (`kvgossip status` tells how far it is off), start the replicas that hold such entries with --forget-future once it is right, or offer it again later";
    /// The signer of an entry is not the grantee of the cited grant.
    WrongSigner = "entry.wrong_signer", "the cited grant was given to another entity; cite a grant of the signer's";
    /// A pattern on the cited grant's chain does not match the entry's key.
    OutOfReach = "entry.out_of_reach", "a pattern on the cited grant's chain does not match the key; cite a grant that covers it";
    /// The entry's timestamp lies outside the window of a grant of the cited chain.
    OutsideWindow = "entry.outside_window", "the timestamp is before a grant of the chain was issued or after it expired; where the grant was given just now or holds still, the writer's clock or the issuer's is wrong: compare them";
    /// A floor has ended entries of this key with this timestamp.
    Floored = "entry.floored", "a floor set by root ended entries of this key that are this old";
    /// A newer entry of the key that root signed, or that cites the same grant or one above it, is in the frontier.
    Dominated = "entry.dominated", "a newer entry of the same or a higher authority is there: read the key, and write again if that is still wanted";
    /// The grant that the fact cites is not known here, or a grant above it is not known or was revoked.
    GrantUnknown = "grant.unknown", "this replica does not know the cited grant, or one above it: send that grant first, or sync with a replica that has it (`kvgossip sync PEER`); if one above it was revoked, it does not come back";
    /// The grant that the fact cites, or the offered grant itself, is revoked. If only a grant further above is
    /// revoked, the code is [`Code::GrantUnknown`].
    GrantRevoked = "grant.revoked", "the cited grant, or one above it, is revoked; ask its issuer for a new one";
    /// A grant of the chain has expired by the local clock.
    GrantExpired = "grant.expired", "a grant of the chain has expired by this clock; ask its issuer for a new one, or set the clock if it is ahead";
    /// A grant of the chain begins more than two minutes after the local time.
    GrantNotYet = "grant.not_yet", "a grant of the chain begins more than 2 minutes from now by this clock; the issuer's clock is ahead, or this one behind: compare them, or wait";
    /// A fact of an entity other than root cites no grant, which only root may do.
    NotRoot = "grant.not_root", "only the cluster's root may sign this without citing a grant";
    /// A fact of root cites a grant, which root must not do.
    RootCites = "grant.root_cites", "root signs in its own right; leave the cited grant out";
    /// The issuer of a grant is not the grantee of the parent grant.
    WrongIssuer = "grant.wrong_issuer", "the parent grant was given to another entity; its grantee must issue the grant";
    /// The parent grant does not allow its grantee to issue grants.
    NoSubgrant = "grant.no_subgrant", "the parent grant does not allow subgrants; ask for one with --subgrant";
    /// The chain of grants would be longer than 16 ([`MAX_DEPTH`](crate::MAX_DEPTH)).
    TooDeep = "grant.too_deep", "the chain of grants would be longer than 16; ask somebody nearer to root";
    /// A revocation of the same grant with the same or a higher precedence is stored.
    RevocationSuperseded = "revocation.superseded", "a revocation of the same grant by a higher or equal authority stands";
    /// Each pattern of the floor is already named by a later floor.
    FloorSuperseded = "floor.superseded", "every pattern of the floor has a later floor already";
    /// A directly put floor would end entries with timestamps in the future of the local clock.
    FloorFuture = "floor.future", "the floor would end entries that are not written yet; give a time that is past";
    /// The fact was read or signed for a cluster other than the one it is offered to.
    ForeignCluster = "fact.foreign_cluster", "the fact was read or signed for another cluster; read it anew with the id of this one";
    /// An entry was offered where only a grant, revocation or floor is accepted.
    NotAuthority = "fact.not_authority", "an entry is no part of the authority; give it to whatever keeps entries";
    /// The value is longer than this agent's own limit for direct puts.
    OverAgentLimit = "value.over_agent_limit", "the value is over this agent's own limit for direct puts";
}

impl Code {
    /// Whether the refusal follows from the body and its cited chain alone, so that every copy of the fact is refused
    /// on every replica for ever.
    ///
    /// Only such a refusal may be remembered by id. An id covers neither the signature nor the value, so anybody can
    /// make a corrupt copy with the same id: remembering its refusal would refuse the genuine fact.
    pub const fn condemns_body(self) -> bool {
        match self {
            Self::WrongSigner
            | Self::OutOfReach
            | Self::OutsideWindow
            | Self::NotRoot
            | Self::RootCites
            | Self::WrongIssuer
            | Self::NoSubgrant
            | Self::TooDeep => true,
            // Depends on the received copy, not on the fact.
            Self::Malformed | Self::Version | Self::TooLarge | Self::BadSignature | Self::ValueMismatch => false,
            // Depends on what this replica holds, on its clock or on its settings.
            Self::Known
            | Self::NotYet
            | Self::Floored
            | Self::Dominated
            | Self::GrantUnknown
            | Self::GrantRevoked
            | Self::GrantExpired
            | Self::GrantNotYet
            | Self::RevocationSuperseded
            | Self::FloorSuperseded
            | Self::FloorFuture
            // Depends on the call.
            | Self::ForeignCluster
            | Self::NotAuthority
            | Self::OverAgentLimit => false,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Result of offering a fact to a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The fact was new and is now part of the normal form of the stored facts.
    Merged,
    /// The fact is acceptable and changes nothing, for this reason.
    Moot(Code),
    /// The entry is early: offer it again at `due`. The sender is not charged.
    NotYet {
        /// Local time from which the entry is accepted.
        due: Timestamp,
    },
    /// The chain that the fact cites is not live here, for this reason. The sender is not charged; the fact can be
    /// offered again when authority changes.
    Unjustified(Code),
    /// The fact is not acceptable, for this reason; the sender is charged.
    Refused(Code),
    /// The fact was not judged because the call is wrong, for example with a fact of another cluster. This is a fault
    /// of the calling program; the sender is not charged.
    Misused(Code),
}

impl Verdict {
    /// Whether the fact was merged or moot and need not be offered again.
    pub const fn is_taken_in(self) -> bool {
        matches!(self, Self::Merged | Self::Moot(_))
    }

    /// Returns the reason code; `None` if the fact was merged.
    pub const fn code(self) -> Option<Code> {
        match self {
            Self::Merged => None,
            Self::NotYet { .. } => Some(Code::NotYet),
            Self::Moot(code) | Self::Unjustified(code) | Self::Refused(code) | Self::Misused(code) => {
                Some(code)
            }
        }
    }

    /// Returns the name of the verdict: `merged`, `moot`, `not_yet`, `unjustified`, `refused` or `misused`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Merged => "merged",
            Self::Moot(_) => "moot",
            Self::NotYet { .. } => "not_yet",
            Self::Unjustified(_) => "unjustified",
            Self::Refused(_) => "refused",
            Self::Misused(_) => "misused",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn codes_are_distinct() {
        let texts: BTreeSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(texts.len(), Code::ALL.len());
    }

    #[test]
    fn a_copy_condemns_no_fact() {
        let condemning = [
            "entry.wrong_signer",
            "entry.out_of_reach",
            "entry.outside_window",
            "grant.not_root",
            "grant.root_cites",
            "grant.wrong_issuer",
            "grant.no_subgrant",
            "grant.too_deep",
        ];
        let found: Vec<_> =
            Code::ALL.iter().filter(|code| code.condemns_body()).map(|code| code.as_str()).collect();
        assert_eq!(found, condemning);
    }
}
