//! Peers, as people name them.

use crate::address::{Address, ParseAddressError};
use kvgossip_grants::ReplicaId;
use std::str::FromStr;

/// Default UDP port for sync sessions.
pub const DEFAULT_SYNC_PORT: u16 = 7947;

/// A peer to dial, written `[ID@]HOST:PORT`. Without an id, any admitted replica may answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerTarget {
    /// Listening address. A name is looked up before each round of dials; all its addresses are tried.
    pub address: Address,
    /// Replica id that must answer; `None`: any admitted one.
    pub id: Option<ReplicaId>,
}

/// The error for a text that does not name a peer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParsePeerError {
    /// The part before `@` is not a replica id.
    #[error("{0:?} is not a replica id: 64 hexadecimal digits stand before the @")]
    Id(String),
    /// The part after `@` is not an address.
    #[error(transparent)]
    Address(#[from] ParseAddressError),
}

impl FromStr for PeerTarget {
    type Err = ParsePeerError;

    fn from_str(text: &str) -> Result<Self, ParsePeerError> {
        let (id, address) = match text.split_once('@') {
            Some((id, address)) => (Some(id.parse().map_err(|_| ParsePeerError::Id(id.into()))?), address),
            None => (None, text),
        };
        Ok(Self { address: Address::parse_with_port(address, DEFAULT_SYNC_PORT)?, id })
    }
}
