//! SWIM membership that is compatible with Serf: foca as the protocol engine, Serf's format on the wire.
//!
//! A member of this crate and a [Serf](https://www.serf.io) agent can be members of one cluster: they discover
//! and probe each other, and pass on tags, events and queries. This crate only carries these; the application
//! gives them a meaning.
//!
//! * [`Membership`] is a member on sockets, for tokio.
//! * [`core`] is the same member without sockets, clock or randomness, for simulators and other runtimes.
//! * [`wire`] contains the codecs of memberlist's and Serf's messages.
//! * [`rpc`] is the protocol of Serf's command line; [`driver::rpc::Server`] serves it for a [`Membership`].
//!
//! ```
//! use kvgossip_membership::{Event, Membership, Options, driver::Answer};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let loopback = "127.0.0.1:0".parse()?;
//! let (first, _events) = Membership::start(Options::new("first", loopback)).await?;
//! let (second, mut events) = Membership::start(Options::new("second", loopback)).await?;
//! second.join(&[first.local_addr()], false).await?;
//!
//! let mut answers = first.query("uptime", b"", Default::default()).await?;
//! while let Some(event) = events.recv().await {
//!     if let Event::Query(query) = event {
//!         second.respond(&query, b"three days").await?;
//!         break;
//!     }
//! }
//! let answer = answers.next().await;
//! assert_eq!(answer, Some(Answer::Response { from: "second".into(), payload: b"three days".into() }));
//! second.leave().await?;
//! # Ok(())
//! # }
//! ```
//!
//! Names, tags, events and queries are arbitrary bytes, as in Go. [`Text`] holds them, and escapes them for
//! display, so that they cannot control a terminal or add lines to a log.
//!
//! # Security
//!
//! Without a keyring ([`wire::Framing::keyring`]) anyone who reaches the port can forge members, events and
//! queries, so listen on loopback or private addresses only. Even encrypted gossip can be replayed, and every
//! member can impersonate any other. Never rely on gossip for correctness.

pub mod core;
pub mod driver;
pub mod fuzz;
pub mod rpc;
pub mod wire;

pub use ipnet::IpNet;

pub use crate::{
    core::{Event, Limits, Member, Query, QueryParams, Status, Timing},
    driver::{Error, Membership, Options},
    wire::{
        Framing,
        crypto::{Key, Keyring},
        serf::Tags,
        text::Text,
    },
};
