//! What a check of a store found.

use crate::storage::StorageError;
use kvgossip_grants::Digest;
use std::fmt;

/// How many faults are told; the others are counted.
pub const MAX_FAULTS: usize = 100;

/// What a check of a store found.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// The last batch in the store.
    pub batch: u64,
    /// The last batch that was acknowledged, as far as the file beside the store knows.
    pub last_batch: Option<u64>,
    /// Grants, revocations and floors that were read; without those that wait for a sweep.
    pub authority_facts: u64,
    /// Keys with entries that stand.
    pub keys: u64,
    /// Entries that were read.
    pub entries: u64,
    /// Citations of grants that were read.
    pub citations: u64,
    /// Entries and authority facts that have ended and wait for a sweep, which is no fault.
    pub unswept: u64,
    /// The root digest, computed from the signed facts. `None` if not everything could be read.
    pub root: Option<Digest>,
    /// The first [`MAX_FAULTS`] faults, in the order in which they were found.
    pub faults: Vec<Fault>,
    /// How many faults there are.
    pub fault_count: u64,
    /// What is no fault and worth knowing.
    pub remarks: Vec<String>,
    /// The first failure to read something.
    pub(in super::super) failure: Option<StorageError>,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.fault_count == 0
    }

    pub(super) fn add(&mut self, fault: Fault) {
        self.fault_count += 1;
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(fault);
        }
    }

    pub(in super::super) fn fault(
        &mut self,
        kind: FaultKind,
        place: impl fmt::Display,
        what: impl fmt::Display,
    ) {
        self.add(Fault::new(kind, place, what));
    }

    /// Notes that something does not read.
    pub(in super::super) fn unreadable(&mut self, place: &str, error: StorageError) {
        self.fault(FaultKind::Unreadable, place, &error);
        self.failure.get_or_insert(error);
    }

    /// Whether nothing is wrong, and if not the first thing that is.
    pub(super) fn into_result(self) -> Result<(), StorageError> {
        match (self.failure, self.faults.first()) {
            (Some(failure), _) => Err(failure),
            (None, Some(fault)) => Err(StorageError::Damaged(fault.to_string())),
            (None, None) => Ok(()),
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fault {
    /// What kind of thing.
    pub kind: FaultKind,
    /// Where.
    pub place: String,
    /// What is wrong there.
    pub what: String,
}

impl Fault {
    pub(super) fn new(kind: FaultKind, place: impl fmt::Display, what: impl fmt::Display) -> Self {
        Self { kind, place: place.to_string(), what: what.to_string() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.kind.as_str(), self.place, self.what)
    }
}

/// The kinds of [`Fault`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultKind {
    /// Something cannot be read.
    Unreadable,
    /// Acknowledged batches are gone.
    RolledBack,
    /// A stored fact is not one that may be stored: other bytes, a bad signature, no live chain, superseded.
    Fact,
    /// The index says other than the entries.
    Index,
    /// It is not noted that a key cites a grant, so that a revocation would miss it.
    Citation,
    /// The summary says other than what is there.
    Summary,
}

impl FaultKind {
    /// A stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::RolledBack => "rolled_back",
            Self::Fact => "fact",
            Self::Index => "index",
            Self::Citation => "citation",
            Self::Summary => "summary",
        }
    }
}
