//! The purpose of an exchange over TCP.

/// Purpose of a TCP exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Join, requested by the caller or by rejoining. With `ignore_old`, events from before the join are not
    /// reported.
    Join { ignore_old: bool },
    /// Attempt to reconnect to a failed member.
    Reconnect,
    /// State exchange with a random member, periodic or shortly after a join.
    Compare,
    /// Forwarding of a long Serf message.
    Carry,
    /// Ping with this sequence number, sent because the ping over UDP got no answer.
    Ping(u32),
    /// Exchange started by the other side, whatever it is for.
    Inbound,
}

impl Purpose {
    /// Returns whether this member started the exchange to exchange states: a join, a reconnect or a
    /// comparison.
    pub(super) fn is_exchange(self) -> bool {
        !matches!(self, Self::Ping(_) | Self::Inbound | Self::Carry)
    }
}
