//! The law that was broken.

/// The violated law, with details.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Complaint {
    /// The stored facts or their bytes are not the normal form.
    #[error("what is stored is not the normal form of what was taken in: {0}")]
    Stored(String),
    /// A digest is not that of the normal form.
    #[error("a digest is not that of the normal form: {0}")]
    Digest(String),
    /// A reader sees another entry than required.
    #[error("a reader sees something else: {0}")]
    Shown(String),
    /// The answer to an offer is not the required one.
    #[error("an offer was answered wrongly: {0}")]
    Answer(String),
    /// A session did not end, ended wrongly, or took too long.
    #[error("a session went wrong: {0}")]
    Session(String),
    /// Replicas do not become equal.
    #[error("replicas stay different: {0}")]
    Unequal(String),
    /// The change events do not add up to the state.
    #[error("the change feed is wrong: {0}")]
    Feed(String),
    /// An index does not agree with the facts.
    #[error("an index is wrong: {0}")]
    Index(String),
    /// A restart changed something.
    #[error("a restart changed something: {0}")]
    Restart(String),
}
