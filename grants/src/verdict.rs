//! What comes of offering a fact, and the stable codes that say why.

use crate::time::Timestamp;
use std::fmt;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $help:literal;)*) => {
        /// A stable reason; its text is the same in JSON, metrics, logs and close codes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            /// Every code, in order of their definition.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The stable text, such as `grant.revoked`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// What happened and what to do, for people.
            pub const fn help(self) -> &'static str {
                match self { $(Self::$name => $help,)* }
            }
        }
    };
}

codes! {
    /// Bytes that are no fact.
    Malformed = "fact.malformed", "the bytes are not a canonical fact; whoever made them has to make them anew";
    /// A fact of another version.
    Version = "fact.version", "the fact was signed in the format of another version, for another cluster; sign it anew with a program of this version";
    /// A size above the protocol's.
    TooLarge = "fact.too_large", "the fact is over a size limit of the protocol; make it smaller or split it";
    /// The signature does not verify.
    BadSignature = "fact.bad_signature", "the signature does not belong to these bytes, this signer and this cluster";
    /// The very same fact is stored already.
    Known = "fact.known", "the fact is already stored here; nothing to do";
    /// The value is not the one that was signed.
    ValueMismatch = "entry.value_mismatch", "the value's length or hash differs from what was signed; send the signed value";
    /// The entry's timestamp lies ahead of the local clock.
    NotYet = "entry.not_yet", "the timestamp is more than 2 minutes ahead of this replica's clock: one of the clocks is wrong, or the key holds an entry that was written under a clock that was; set the clock (`kvgossip status` tells how far it is off), start the replicas that hold such entries with --forget-future once it is right, or offer it again later";
    /// The signer is not who the cited grant was given to.
    WrongSigner = "entry.wrong_signer", "the cited grant was given to another entity; cite a grant of the signer's";
    /// A pattern on the chain does not match the key.
    OutOfReach = "entry.out_of_reach", "a pattern on the cited grant's chain does not match the key; cite a grant that covers it";
    /// The timestamp lies outside the time of a grant on the chain.
    OutsideWindow = "entry.outside_window", "the timestamp is before a grant of the chain was issued or after it expired; where the grant was given just now or holds still, the writer's clock or the issuer's is wrong: compare them";
    /// A floor took back entries this old.
    Floored = "entry.floored", "a floor set by root ended entries of this key that are this old";
    /// A newer entry of the same authority stands.
    Dominated = "entry.dominated", "a newer entry of the same or a higher authority stands";
    /// The cited grant, or one above it, has never been seen here.
    GrantUnknown = "grant.unknown", "this replica does not know the cited grant, or one above it: send that grant first, or sync with a replica that has it (`kvgossip sync PEER`); if one above it was revoked, it does not come back";
    /// The cited grant, or one above it, is revoked.
    GrantRevoked = "grant.revoked", "the cited grant, or one above it, is revoked; ask its issuer for a new one";
    /// A grant of the chain has expired.
    GrantExpired = "grant.expired", "a grant of the chain has expired by this clock; ask its issuer for a new one, or set the clock if it is ahead";
    /// A grant of the chain begins only later.
    GrantNotYet = "grant.not_yet", "a grant of the chain begins more than 2 minutes from now by this clock; the issuer's clock is ahead, or this one behind: compare them, or wait";
    /// Only root may do this.
    NotRoot = "grant.not_root", "only the cluster's root may sign this without citing a grant";
    /// Root cites a grant, which it never does.
    RootCites = "grant.root_cites", "root signs in its own right; leave the cited grant out";
    /// The issuer is not who the parent was given to.
    WrongIssuer = "grant.wrong_issuer", "the parent grant was given to another entity; its grantee must issue the grant";
    /// The parent does not allow passing on.
    NoSubgrant = "grant.no_subgrant", "the parent grant does not allow subgrants; ask for one with --subgrant";
    /// The chain would be too long.
    TooDeep = "grant.too_deep", "the chain of grants would be longer than 16; ask somebody nearer to root";
    /// A better revocation of the same grant stands.
    RevocationSuperseded = "revocation.superseded", "a revocation of the same grant by a higher or equal authority stands";
    /// Each of its patterns has a later floor.
    FloorSuperseded = "floor.superseded", "every pattern of the floor has a later floor already";
    /// A direct floor reaches into the future.
    FloorFuture = "floor.future", "the floor would end entries that are not written yet; give a time that is past";
    /// The fact was read or signed for another cluster than it is offered to.
    ForeignCluster = "fact.foreign_cluster", "the fact was read or signed for another cluster; read it anew with the id of this one";
    /// An entry where only a grant, revocation or floor has a place.
    NotAuthority = "fact.not_authority", "an entry is no part of the authority; give it to whatever keeps entries";
    /// Above the limit that this agent sets for direct puts.
    OverAgentLimit = "value.over_agent_limit", "the value is over this agent's own limit for direct puts";
}

impl Code {
    /// Whether the body alone brings this refusal about, with the chain that it cites: every copy of the fact is then
    /// refused, here and everywhere, for ever.
    ///
    /// Only such a refusal may be remembered by id. An id covers neither the signature nor the value, so anybody can
    /// make a copy with the same id that is spoilt in these: whoever remembered that would refuse the true one.
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
            // Of the copy that came, not of the fact.
            Self::Malformed | Self::Version | Self::TooLarge | Self::BadSignature | Self::ValueMismatch => false,
            // Of what this replica holds, of its clock or of its settings.
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
            // Of the call.
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

/// What came of offering a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// New, and now part of the normal form.
    Merged,
    /// Fine, and nothing to do: it changes nothing.
    Moot(Code),
    /// An entry from the future: offer it again at `due`. Nobody is blamed.
    NotYet {
        /// From when on it is accepted.
        due: Timestamp,
    },
    /// Its chain is not live here. Nobody is blamed; offered again when authority changes.
    Unjustified(Code),
    /// Never acceptable; who sent it is charged.
    Refused(Code),
    /// Not judged: the call is wrong, such as one with a fact of another cluster. It is a fault of the program that
    /// calls, and whoever sent the fact is not charged.
    Misused(Code),
}

impl Verdict {
    /// Merged or moot: the fact is part of what this replica has seen, and need not be offered again.
    pub const fn is_taken_in(self) -> bool {
        matches!(self, Self::Merged | Self::Moot(_))
    }

    /// The reason, unless it was merged.
    pub const fn code(self) -> Option<Code> {
        match self {
            Self::Merged => None,
            Self::NotYet { .. } => Some(Code::NotYet),
            Self::Moot(code) | Self::Unjustified(code) | Self::Refused(code) | Self::Misused(code) => {
                Some(code)
            }
        }
    }

    /// `merged`, `moot`, `not_yet`, `unjustified`, `refused` or `misused`.
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
