//! The law that was broken.

/// Violation of a law of the simulator, with details as text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Complaint {
    /// The stored facts or their bytes are not the normal form.
    #[error("what is stored is not the normal form of what was taken in: {0}")]
    Stored(String),
    /// A digest of a replica differs from that of the required normal form.
    #[error("a digest is not that of the normal form: {0}")]
    Digest(String),
    /// A reader sees another entry of a key than the definitions require.
    #[error("a reader sees something else: {0}")]
    Shown(String),
    /// The answer to an offered fact is not the required one.
    #[error("an offer was answered wrongly: {0}")]
    Answer(String),
    /// A session did not end, ended wrongly, or took too long.
    #[error("a session went wrong: {0}")]
    Session(String),
    /// Replicas do not become equal although every fact was offered and they had sessions.
    #[error("replicas stay different: {0}")]
    Unequal(String),
    /// The change events of a replica do not add up to its state.
    #[error("the change feed is wrong: {0}")]
    Feed(String),
    /// An index of a replica does not agree with its facts.
    #[error("an index is wrong: {0}")]
    Index(String),
    /// A restart from the store changed a replica's state.
    #[error("a restart changed something: {0}")]
    Restart(String),
}
