//! Serf-compatible SWIM membership: foca inside, Serf's bytes outside.
//!
//! A member of this crate and a [Serf](https://www.serf.io) agent are members of one cluster: they find
//! each other, watch each other, and pass on tags, events and queries. What they mean is the application's
//! business; this crate only carries them.
//!
//! * [`Membership`] is the member on sockets, for tokio.
//! * [`core`] is the same member without sockets, clock or randomness, for simulators and other runtimes.
//! * [`wire`] has the codecs of memberlist's and Serf's messages.
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
//! Names, tags, events and queries are bytes, as in Go: [`Text`] holds them, and shows them so that nothing of them drives a
//! terminal or writes lines into a log.
//!
//! # Security
//!
//! Without a keyring ([`wire::Framing::keyring`]) whoever reaches the port can forge members, events and
//! queries: listen on loopback or private addresses only. Even encrypted, gossip can be replayed, and every
//! member can speak in the name of any other: never let the truth of anything depend on it.

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
