//! What a subscriber sees.

use crate::error::ClientError;
use bytes::Bytes;
use kvgossip_grants::{EntityId, EntryFact, EntryId, FactId, GrantId, Key, Timestamp};

/// An entry that sets its key. Two are equal if they have the same id.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The key.
    pub key: Key,
    /// The entry's id.
    pub id: EntryId,
    /// When it was written.
    pub timestamp: Timestamp,
    /// Who signed it.
    pub signer: EntityId,
    /// The grant that it cites; none for root.
    pub grant: Option<GrantId>,
    /// The value.
    pub value: Bytes,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Entry {}

impl Entry {
    /// From a fact; `None` for a delete.
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

/// What a key holds, as far as is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Value {
    /// No agent has told it yet, or only what does not verify: it may be set.
    #[default]
    Unknown,
    /// The key is unset.
    Absent,
    /// The key is set.
    Present(Entry),
}

impl Value {
    /// The entry, if the key is set.
    pub fn entry(&self) -> Option<&Entry> {
        match self {
            Self::Present(entry) => Some(entry),
            Self::Unknown | Self::Absent => None,
        }
    }
}

/// Why a value may not be the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Dirty {
    /// An agent is being asked.
    Loading,
    /// No agent is connected. The last known value stands.
    Disconnected,
    /// Whichever agent answered last was never compared with a peer: it may lack what others hold, and does not tell it.
    /// The last known value stands.
    Unsynced,
    /// The agent holds something older than what is shown here; it has yet to catch up.
    Behind,
    /// The agent holds entries that could not be verified, or that it cannot read; the last verified value is shown.
    Unverified,
}

impl Dirty {
    /// A stable text: `loading`, `disconnected`, `unsynced`, `behind` or `unverified`.
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

/// Why a value is what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// It was told for the first time, or the key turned out to be unset.
    Loaded,
    /// This entry set the key.
    Written(EntryId),
    /// This entry unset the key.
    Deleted(EntryId),
    /// The entry before stood on this grant, which was revoked, or one above it.
    Revoked(GrantId),
    /// This floor ended the entry before.
    Floored(FactId),
    /// The grant of the entry before, this one, expired, or one above it.
    Expired(GrantId),
}

impl Cause {
    /// A stable text: `loaded`, `written`, `deleted`, `revoked`, `floored` or `expired`.
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

/// What a subscription to a key shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// The value.
    pub value: Value,
    /// Why it may not be the latest; `None`: an agent says that it is, right now.
    pub dirty: Option<Dirty>,
    /// What led to this value; `None` while it is unknown.
    pub cause: Option<Cause>,
}

impl State {
    pub(crate) const NEW: Self = Self { value: Value::Unknown, dirty: Some(Dirty::Loading), cause: None };
}

/// Something an agent said that does not verify, could not read from its store, keeps until it is due, or withheld; or a value that none gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Which agent; empty if it is all of them.
    pub endpoint: String,
    /// The key of an entry.
    pub key: Option<Key>,
    /// The fact, where it could be read.
    pub id: Option<FactId>,
    /// A stable code, such as `fact.bad_signature`.
    pub code: String,
    /// When, by this machine's clock.
    pub at: Timestamp,
}

impl Rejection {
    /// The code of what an agent could not read from its store.
    pub const UNREADABLE: &str = "entry.unreadable";
    /// The code of a key without a value of which the agent keeps an entry back until it is due by its clock.
    pub const EARLY: &str = "entry.not_yet";
    /// The code of what another agent told, and this one did not although it says that it holds it.
    pub const WITHHELD: &str = "agent.withheld";
    /// The code of an entry that stands and is shown by no agent with its value: the key is unknown, or an older entry shown.
    pub const NO_VALUE: &str = "entry.no_value";
}

/// Why an agent could not be asked, or not any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Which agent.
    pub endpoint: String,
    /// A stable code, such as `agent.unreachable`.
    pub code: String,
    /// The same for people.
    pub message: String,
}

impl Trouble {
    /// The code of an agent that lacked what another told, and did not come to tell it.
    pub const BEHIND: &str = "agent.behind";
    /// The codes of an agent that this client may not ask, whatever it holds.
    const RIGHTS: [&str; 4] =
        ["http.read_right", "http.wrong_token", "agent.client_certificate", "agent.denied"];

    /// Whether the client lacks the right to ask this agent: waiting does not help.
    pub fn is_of_rights(&self) -> bool {
        Self::RIGHTS.contains(&self.code.as_str())
    }

    pub(crate) fn of(endpoint: String, error: &ClientError) -> Self {
        Self { endpoint, code: error.code().to_owned(), message: error.to_string() }
    }
}
