//! The end of a client.

/// Error: the client has been dropped, so its subscriptions no longer change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the client has been dropped: its subscriptions do not change any more")]
pub struct Closed;
