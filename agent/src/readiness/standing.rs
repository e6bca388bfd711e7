//! The readiness of a running agent, persisted in a file.

use super::{Brought, Gap, LastEqual, Readiness, Remembered, Start};
use crate::clock::{self, Monotonic};
use crate::files::{read_own, replace_own};
use kvgossip_engine::session::{Newcomer, ShortReplicaId};
use kvgossip_grants::{ReplicaId, Timestamp};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Maximum size of the sync state file, in bytes.
const MAX_FILE_BYTES: usize = 4096;
/// Maximum size of the gossip snapshot that is read, in bytes.
const MAX_SNAPSHOT_BYTES: usize = 4 << 20;

/// The content of the sync state file, as JSON. Unknown fields are ignored.
#[derive(Serialize, Deserialize)]
struct Row {
    compared: bool,
    #[serde(default)]
    began_first: bool,
    #[serde(default)]
    last_equal_us: Option<u64>,
}

/// Files and settings that decide at the start whether this replica is ready.
#[derive(Clone, Debug)]
pub(crate) struct ReadinessConfig {
    /// The file that remembers whether this replica was ever compared with a peer; `None`: nothing is remembered.
    pub(crate) file: Option<PathBuf>,
    /// The file in which gossip remembers its members; `None`: there is none.
    pub(crate) members_file: Option<PathBuf>,
    /// Whether the operator named other replicas, or said that some exist.
    pub(crate) told_of_others: bool,
    /// Whether the replica is ready without having been compared with a peer.
    pub(crate) alone_is_fine: bool,
    /// How long a replica that was compared in an earlier run waits for a new comparison before it is ready.
    pub(crate) ready_after: Duration,
}

/// The readiness of a running agent, shared by its tasks, with the file that remembers it.
#[derive(Debug)]
pub(crate) struct Standing {
    readiness: Mutex<Readiness>,
    /// Path of the sync state file; `None`: nothing is remembered. The lock also serialises writes.
    file: Option<Mutex<PathBuf>>,
    clock: Monotonic,
}

impl Standing {
    pub(crate) fn new(config: ReadinessConfig) -> Self {
        let clock = Monotonic::start();
        let start = Start {
            remembered: config.file.as_deref().and_then(remembered),
            told_of_others: config.told_of_others,
            met_members: config.members_file.as_deref().is_some_and(has_met_members),
            alone_is_fine: config.alone_is_fine,
            ready_after: config.ready_after,
            now_us: clock.now_us(),
        };
        let file = config.file.map(Mutex::new);
        let this = Self { readiness: Mutex::new(Readiness::new(start)), file, clock };
        this.save(false);
        this
    }

    /// Returns why this replica may lack facts that others hold; `None`: it was compared, or needs no comparison.
    pub(crate) fn gap(&self) -> Option<Gap> {
        self.readiness.lock().gap(self.clock.now_us())
    }

    /// Whether this replica knows of others and was never compared with one.
    pub(crate) fn is_newcomer(&self) -> bool {
        self.gap() == Some(Gap::First)
    }

    /// Returns when this replica and a peer were last known to hold the same facts; `None`: never.
    pub(crate) fn last_equal(&self) -> Option<LastEqual> {
        self.readiness.lock().last_equal(clock::now())
    }

    /// Whether a replica is a newcomer that this one was compared with; see [`Readiness::knows_newcomer`].
    pub(crate) fn is_known_newcomer(&self, peer: &ReplicaId) -> bool {
        self.readiness.lock().knows_newcomer(peer)
    }

    /// Returns the replicas known to the newcomers that this one was compared with, except those newcomers themselves.
    pub(crate) fn told_of(&self) -> BTreeSet<ShortReplicaId> {
        self.readiness.lock().told_of()
    }

    /// Records the end of a full session with a peer; see [`Readiness::session_ended`].
    pub(crate) fn session_ended(
        &self,
        peer: ReplicaId,
        newcomer: Option<Newcomer>,
        brought: Brought,
        others: impl FnOnce() -> Option<BTreeSet<ShortReplicaId>>,
    ) {
        let was_newcomer = self.is_newcomer();
        self.readiness.lock().session_ended(peer, newcomer, brought, others);
        if was_newcomer && !self.is_newcomer() {
            tracing::info!(%peer, "the first comparison has ended: this replica knows what the others know");
        }
    }

    /// Records that this replica and a peer held the same facts at the time `at`.
    pub(crate) fn note_equal(&self, at: Timestamp) {
        self.readiness.lock().note_equal(at, clock::now());
    }

    /// Writes the state of comparisons to the sync state file, if it has changed enough; `at_end`: if it has changed at
    /// all.
    pub(crate) fn save(&self, at_end: bool) {
        let Some(file) = &self.file else { return };
        let path = file.lock();
        let Some(now) = self.readiness.lock().take_unsaved(at_end) else { return };
        if let Err(error) = write(&path, now) {
            tracing::warn!(path = %path.display(), %error, "what is known of comparisons cannot be kept");
        }
    }
}

/// Whether an earlier run met gossip members, replicas of this cluster or not.
fn has_met_members(file: &Path) -> bool {
    let bytes = read_own(file, MAX_SNAPSHOT_BYTES).unwrap_or_default();
    bytes.split(|byte| *byte == b'\n').any(|line| line.starts_with(b"alive: "))
}

/// Reads the sync state file; `None`: it does not exist. An unreadable or damaged file counts as "never compared", so
/// the next comparison is the first.
fn remembered(path: &Path) -> Option<Remembered> {
    let bytes = match read_own(path, MAX_FILE_BYTES) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "it is not known whether this replica was ever compared");
            return Some(Remembered::default());
        }
    };
    let Ok(row) = serde_json::from_slice::<Row>(&bytes) else {
        tracing::warn!(path = %path.display(), "the file is damaged: it is not known whether this replica was ever compared");
        return Some(Remembered::default());
    };
    let last_equal = row.last_equal_us.and_then(|us| Timestamp::from_micros(us).ok());
    Some(Remembered { compared: row.compared, began_first: row.began_first, last_equal })
}

/// Replaces the sync state file atomically and durably.
fn write(path: &Path, now: Remembered) -> io::Result<()> {
    let Remembered { compared, began_first, last_equal } = now;
    let row = Row { compared, began_first, last_equal_us: last_equal.map(Timestamp::as_micros) };
    let mut bytes = serde_json::to_vec(&row)?;
    bytes.push(b'\n');
    replace_own(path, &bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_outlives_the_process_and_damage_counts_as_ignorance() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("sync-state");
        assert_eq!(remembered(&path), None);
        let last_equal = Timestamp::from_micros(1_790_000_000_000_000).ok();
        let kept = Remembered { compared: true, began_first: true, last_equal };
        write(&path, kept).expect("written");
        assert_eq!(remembered(&path), Some(kept));
        // The format of earlier versions.
        std::fs::write(&path, b"{\"compared\":true,\"last_equal_us\":null}\n").expect("written");
        assert_eq!(remembered(&path), Some(Remembered { compared: true, ..Remembered::default() }));
        for bytes in [&b""[..], b"{\"compared\":", b"\xff", &[b' '; MAX_FILE_BYTES + 1]] {
            std::fs::write(&path, bytes).expect("written");
            assert_eq!(remembered(&path), Some(Remembered::default()));
        }
        // Symbolic links are not followed.
        let other = dir.path().join("other");
        std::fs::rename(&path, &other).expect("renamed");
        std::os::unix::fs::symlink(&other, &path).expect("a link");
        let before = std::fs::read(&other).expect("read");
        assert_eq!(remembered(&path), Some(Remembered::default()));
        write(&path, kept).expect_err("a link");
        assert_eq!(std::fs::read(&other).expect("read"), before);
    }
}
