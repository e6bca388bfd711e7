//! How facts came to this replica.

/// The origin of offered facts, which selects the rules that apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From a peer or a file. Any fact that one replica holds must be acceptable to every other.
    Relayed,
    /// From the writer itself, just signed. [`Authority::check_direct`] is applied first.
    ///
    /// [`Authority::check_direct`]: kvgossip_grants::Authority::check_direct
    Direct {
        /// Maximum size of an entry's value, in bytes.
        max_value_bytes: usize,
    },
}
