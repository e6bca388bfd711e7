//! One running kvgossip replica, embeddable: engine, storage, transport and HTTP API.
//!
//! [`Agent::start`] takes a [`Config`] and a store and runs until [`Agent::stop`]. The way of a fact, from wherever
//! it comes, is [`intake`]: judged, verified, merged and durable, then seen by readers and passed on by [`peers`].

mod agent;
mod clock;
pub mod committer;
mod config;
mod disk;
mod error;
pub mod gossip;
pub mod http;
pub mod intake;
pub mod metrics;
mod opening;
pub mod peers;
mod refusals;
mod report;
pub mod watch;

pub use agent::Agent;
pub use clock::now;
pub use config::{Config, ParsePeerError, PeerTarget};
pub use error::{StartError, WriteError};
pub use opening::{Opened, Recovery, guard_engine, open_store};
pub use refusals::{MAX_REFUSALS, Refusals};
