//! State that a subscriber sees.

use crate::error::ClientError;
use bytes::Bytes;
use kvgossip_grants::{EntityId, EntryFact, EntryId, FactId, GrantId, Key, Timestamp};

/// Entry that sets its key. Two are equal if they have the same id.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Key that the entry sets.
    pub key: Key,
    /// Id of the entry, a hash of its signed body.
    pub id: EntryId,
    /// Timestamp signed in the entry, in microseconds since 1970 (UTC).
    pub timestamp: Timestamp,
    /// Id of the entity that signed the entry.
    pub signer: EntityId,
    /// Grant that the entry cites; `None` if root signed it.
    pub grant: Option<GrantId>,
    /// The value: any bytes, at most `MAX_VALUE_BYTES` (1 MiB).
    pub value: Bytes,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Entry {}

impl Entry {
    /// Converts a verified fact; `None` for a delete.
    pub(crate) fn of(fact: &EntryFact) -> Option<Self> {
        let (body, value) = (fact.entry(), fact.value()?.clone());
        Some(Self {
            key: body.key.clone(),
            id: fact.id(),
            timestamp: body.timestamp,
            signer: body.signer,
            grant: body.grant,
            value,
        })
    }
}

/// Known value of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Value {
    /// No agent has sent the key yet, or nothing that verifies; it may be set.
    #[default]
    Unknown,
    /// The key is unset.
    Absent,
    /// The key is set.
    Present(Entry),
}

impl Value {
    /// Returns the entry if the key is set.
    pub fn entry(&self) -> Option<&Entry> {
        match self {
            Self::Present(entry) => Some(entry),
            Self::Unknown | Self::Absent => None,
        }
    }
}

/// Reason why a value may not be the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Dirty {
    /// No agent has sent the key or filter completely yet, or the value of the shown entry has not arrived.
    Loading,
    /// No agent is connected; the last known value is shown.
    Disconnected,
    /// The last agent that answered has never been compared with a peer, so it may lack facts and sends none.
    /// The last known value is shown.
    Unsynced,
    /// The connected agent has not sent the entry that is shown here, or it sent one that is known to be ended
    /// or superseded.
    Behind,
    /// The connected agent holds entries that could not be verified, or that it cannot read; the last verified
    /// value is shown.
    Unverified,
}

impl Dirty {
    /// Stable name: `loading`, `disconnected`, `unsynced`, `behind` or `unverified`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Loading => "loading",
            Self::Disconnected => "disconnected",
            Self::Unsynced => "unsynced",
            Self::Behind => "behind",
            Self::Unverified => "unverified",
        }
    }
}

/// Cause of the present value of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// The value was loaded for the first time, or the key was found to be unset.
    Loaded,
    /// The entry with this id is shown; it set the key.
    Written(EntryId),
    /// The entry with this id is shown; it is a delete and unset the key.
    Deleted(EntryId),
    /// The grant with this id was revoked: the one that the revocation itself names. The previous entry cited
    /// this grant or one below it.
    Revoked(GrantId),
    /// The floor with this id ended the previous entry.
    Floored(FactId),
    /// The previous entry cited the grant with this id; that grant or one above it expired.
    Expired(GrantId),
}

impl Cause {
    /// Stable name: `loaded`, `written`, `deleted`, `revoked`, `floored` or `expired`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Loaded => "loaded",
            Self::Written(_) => "written",
            Self::Deleted(_) => "deleted",
            Self::Revoked(_) => "revoked",
            Self::Floored(_) => "floored",
            Self::Expired(_) => "expired",
        }
    }
}

/// State of a subscription to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Value of the key, as far as it is known.
    pub value: Value,
    /// Why the value may not be the latest; `None` while an agent confirms that it is.
    pub dirty: Option<Dirty>,
    /// Cause of this value; `None` while `value` is `Unknown`.
    pub cause: Option<Cause>,
}

impl State {
    pub(crate) const NEW: Self = Self { value: Value::Unknown, dirty: Some(Dirty::Loading), cause: None };
}

/// Statement of an agent that is not accepted: it does not verify, the agent could not read it from its store
/// or holds it back until it is due, or the agent withheld it. Also a value that no agent provides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Endpoint of the agent that made the statement; empty for a value that no agent provides.
    pub endpoint: String,
    /// Key that the statement is about; `None` if it is about a grant, a revocation or a floor.
    pub key: Option<Key>,
    /// Id of the rejected fact; `None` if the fact could not be parsed, or the agent named only its key.
    pub id: Option<FactId>,
    /// Stable code of the reason, such as `fact.bad_signature`.
    pub code: String,
    /// Time of the rejection, by this machine's clock.
    pub at: Timestamp,
}

impl Rejection {
    /// Code of an entry that the agent could not read from its store.
    pub const UNREADABLE: &str = "entry.unreadable";
    /// Code of a key of which the agent holds an entry back until it is due by its clock.
    pub const EARLY: &str = "entry.not_yet";
    /// Code of a fact that another agent sent, and that this one did not send although it says that it holds
    /// it.
    pub const WITHHELD: &str = "agent.withheld";
    /// Code of a shown entry whose value no agent provides: the key is unknown, or an older entry is shown.
    pub const NO_VALUE: &str = "entry.no_value";
}

/// Reason why an agent could not be used, or is no longer used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Endpoint of the agent that the problem is with.
    pub endpoint: String,
    /// Stable code of the problem, such as `agent.unreachable`.
    pub code: String,
    /// Problem as text for people.
    pub message: String,
}

impl Trouble {
    /// Code of an agent that lacked facts of another agent and did not catch up.
    pub const BEHIND: &str = "agent.behind";
    /// Codes of agents that this client may not read from.
    const RIGHTS: [&str; 4] =
        ["http.read_right", "http.wrong_token", "agent.client_certificate", "agent.denied"];

    /// Returns whether the client lacks the right to read from this agent, so that waiting does not help.
    pub fn is_of_rights(&self) -> bool {
        Self::RIGHTS.contains(&self.code.as_str())
    }

    pub(crate) fn of(endpoint: String, error: &ClientError) -> Self {
        Self { endpoint, code: error.code().to_owned(), message: error.to_string() }
    }
}
