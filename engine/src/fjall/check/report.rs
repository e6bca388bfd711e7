//! Report of a check of a store.

use crate::storage::StorageError;
use kvgossip_grants::Digest;
use std::fmt;

/// Maximum number of faults that are listed; further ones are only counted.
pub const MAX_FAULTS: usize = 100;

/// Result of a check of a store: the numbers of rows read, the faults and the root digest.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// Number of the last batch in the store; 0 if the summary cannot be read.
    pub batch: u64,
    /// Number of the last acknowledged batch according to the file `last-batch`; `None` if the file is missing or
    /// incomplete.
    pub last_batch: Option<u64>,
    /// Number of grants, revocations and floors read, without those that wait for a sweep.
    pub authority_facts: u64,
    /// Number of keys with entries.
    pub keys: u64,
    /// Number of records of entries read.
    pub entries: u64,
    /// Number of rows read that record that a key has an entry citing a grant.
    pub citations: u64,
    /// Number of ended entries and authority facts that wait for a sweep, which is no fault.
    pub unswept: u64,
    /// Root digest, computed from the signed facts. `None` if not everything could be read.
    pub root: Option<Digest>,
    /// First [`MAX_FAULTS`] faults in the order in which they were found.
    pub faults: Vec<Fault>,
    /// Number of all faults, including those above [`MAX_FAULTS`] that are not listed.
    pub fault_count: u64,
    /// Remarks for the operator that are not faults.
    pub remarks: Vec<String>,
    /// First error of a read of the store; `None` if all reads succeeded.
    pub(in super::super) failure: Option<StorageError>,
}

impl Report {
    /// Whether the check found no fault.
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

    /// Adds the fault that a place (a table or a file) cannot be read, and keeps the first such error.
    pub(in super::super) fn unreadable(&mut self, place: &str, error: StorageError) {
        self.fault(FaultKind::Unreadable, place, &error);
        self.failure.get_or_insert(error);
    }

    /// Returns the failure of the first read as an error, else the first fault; `Ok` if there is neither.
    pub(super) fn into_result(self) -> Result<(), StorageError> {
        match (self.failure, self.faults.first()) {
            (Some(failure), _) => Err(failure),
            (None, Some(fault)) => Err(StorageError::Damaged(fault.to_string())),
            (None, None) => Ok(()),
        }
    }
}

/// One fault that a check found in a store.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fault {
    /// Kind of the fault.
    pub kind: FaultKind,
    /// Place of the fault: a fact, a key, a table or a file.
    pub place: String,
    /// Description of what is wrong there.
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

/// Kind of a fault that a check found in a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultKind {
    /// A row, table or file cannot be read.
    Unreadable,
    /// Acknowledged batches are missing from the end of the store.
    RolledBack,
    /// A stored fact is not valid: altered bytes, a bad signature, no live chain, or superseded by another stored fact.
    Fact,
    /// The table `index` and the records of the entries differ.
    Index,
    /// The row that records that a key cites a grant is missing, so that a revocation would miss the key.
    Citation,
    /// The stored summary differs from the contents of the store.
    Summary,
}

impl FaultKind {
    /// Returns the stable name of the kind.
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
