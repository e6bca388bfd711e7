//! A running kvgossip replica, embeddable: engine, storage, transport, gossip and HTTP API.
//!
//! [`Agent::start`] takes a [`Config`] and a store and runs until [`Agent::stop`]. Every fact enters through
//! [`intake`]: it is checked, verified, merged and made durable, then visible to readers and passed on by [`peers`].

mod address;
mod agent;
mod authority_order;
mod bucket;
mod clients;
mod clock;
pub mod committer;
mod condition;
mod config;
mod disk;
mod error;
pub mod files;
mod forgetting;
pub mod gossip;
pub mod http;
pub mod intake;
mod interface;
pub mod metrics;
mod opening;
mod origin;
pub mod peers;
mod readiness;
mod refusals;
mod report;
mod rights;
mod serving;
mod tls;
mod unfinished;
mod waiting;
pub mod watch;

pub use address::{Address, MAX_ADDRESSES, ParseAddressError, Resolve, Resolver};
pub use agent::{Agent, STOP_LIMIT};
pub use clock::{Clock, duration_text, now};
pub use condition::{Precondition, TagsError, Unmet, entity_tag};
pub use config::Config;
pub use error::{StartError, WriteError};
pub use forgetting::{Forgotten, forget_future};
pub use interface::{InterfaceError, NetworkInterface};
pub use opening::{Opened, Recovery, SYNC_STATE_NAME, open_store};
pub use peers::{DEFAULT_SYNC_PORT, ParsePeerError, PeerTarget};
pub use readiness::{DEFAULT_READY_AFTER, FirstSync};
pub use refusals::{MAX_REFUSALS, Refusals};
pub use rights::{Rights, Shown};
