//! Members to join, as people name them.

use crate::address::{Address, ParseAddressError, Resolver};
use std::net::SocketAddr;
use std::str::FromStr;
use std::{fmt, io};

/// Default gossip port, UDP and TCP.
pub const DEFAULT_GOSSIP_PORT: u16 = 7946;

/// A member to join, written `HOST[:PORT]`. A name is looked up at each attempt, and all its addresses are tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinTarget(Address);

/// The error for a text that does not name a member to join.
pub type ParseJoinError = ParseAddressError;

impl FromStr for JoinTarget {
    type Err = ParseJoinError;

    fn from_str(text: &str) -> Result<Self, ParseJoinError> {
        Address::parse(text, DEFAULT_GOSSIP_PORT).map(Self)
    }
}

impl fmt::Display for JoinTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl JoinTarget {
    /// Looks up the addresses of the member to join.
    pub(super) async fn resolve(&self, resolver: &Resolver) -> io::Result<Vec<SocketAddr>> {
        self.0.resolve(resolver).await
    }
}

impl From<SocketAddr> for JoinTarget {
    fn from(address: SocketAddr) -> Self {
        Self(address.into())
    }
}
