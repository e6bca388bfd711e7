//! The end of a client.

/// The client has been dropped, so nothing changes any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the client has been dropped: its subscriptions do not change any more")]
pub struct Closed;
