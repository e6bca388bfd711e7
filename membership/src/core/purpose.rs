//! The purpose of an exchange over TCP.

/// Purpose of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Join, requested by the caller.
    Join { ignore_old: bool },
    /// Attempt to reconnect to a failed member.
    Reconnect,
    /// Periodic state exchange.
    Compare,
    /// Forwarding of a long Serf message.
    Carry,
    /// Ping with this sequence number.
    Ping(u32),
    /// Started by the other side.
    Inbound,
}

impl Purpose {
    /// Returns whether this member started it to exchange states.
    pub(super) fn is_exchange(self) -> bool {
        !matches!(self, Self::Ping(_) | Self::Inbound | Self::Carry)
    }
}
