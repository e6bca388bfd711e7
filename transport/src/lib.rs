//! QUIC between replicas with raw public keys: admission, limits, accounting.
//!
//! # From a packet to a session
//! 1. A first packet arrives. When many handshakes are pending, its sender must first show that its address
//!    is its own; when too many are, it is turned away (`pending`, `acceptor`).
//! 2. TLS 1.3 with a raw RSA key on both sides (RFC 7250), ALPN `kvgossip/2`; no X.509, tickets or 0-RTT.
//!    Each side checks the other's key, then its proof of having it, then asks its [`Admission`]: a stranger
//!    never finishes a handshake, unless strangers may pull (`verifier`, `config`).
//! 3. The dialled side sends the welcome, the first application message. Until then a dialler that was
//!    refused may believe that it is connected; [`Endpoint::connect`] waits for it (`welcome`).
//! 4. [`ConnectionTable`] keeps one [`Connection`] for each peer, [`keep_connected`] dials again.
//! 5. A bidirectional stream is a session, one at a time for each pair of replicas; others are answered
//!    `session.busy` (`slot`). Frames are LEB128 lengths and bytes (`frame`).
//! 6. [`run_session`] lets the engine's session use it, and hands received facts to a [`SessionHost`].
//!
//! # What holds throughout
//! - Every number that bounds a peer stands in [`limits`]; every reason for an end in [`Code`].
//! - A peer's clock runs only while this side waits for that peer, and what it may wait in all grows with the bytes
//!   that the session moves (`progress`).
//! - Whoever breaks a rule is not talked with for a time that doubles with each offence, whoever dials (`offenders`).
//! - Nothing here judges a fact, and integrity never depends on who connects.
//! - Randomness for back-off and session nonces is passed in; QUIC and TLS draw their own.

mod acceptor;
mod admission;
mod allow_list;
mod backoff;
mod candidates;
mod clones;
mod code;
mod conduct;
mod config;
mod connection;
mod dialer;
mod endpoint;
mod error;
mod failures;
mod frame;
mod instance;
mod key;
pub mod limits;
mod link;
mod log_limit;
mod offenders;
mod pending;
mod progress;
mod refused;
mod session;
mod slot;
mod stream;
mod table;
mod verifier;
mod welcome;

pub use admission::{Access, Admission, Direction, Policy, Verdict, Vouch};
pub use allow_list::{AllowList, AllowListError, MAX_ALLOW_LIST_LEN, MAX_ALLOWED_PEERS};
pub use backoff::{Backoff, FIRST_RETRY, MAX_RETRY};
pub use candidates::{Candidates, MAX_CANDIDATES};
pub use clones::CLONE_SHOWN;
pub use code::Code;
pub use config::ALPN;
pub use connection::{Connection, HandshakeCost};
pub use dialer::{NEXT_DIAL, Target, Whereabouts, keep_connected};
pub use endpoint::{Endpoint, EndpointStats};
pub use error::TransportError;
pub use frame::{FrameDecoder, FrameError, frame_header};
pub use instance::Instance;
pub use key::{KeyError, MAX_KEY_FILE_LEN, ReplicaKey};
pub use limits::Limits;
pub use link::LinkFilter;
pub use offenders::{FIRST_SHUT_OUT, FORGIVE_AFTER, MAX_OFFENDERS, MAX_SHUT_OUT, ShutOut};
pub use refused::{MAX_REFUSED, MAX_REFUSED_PER_ADDRESS, REFUSED_FOR, RefusedPeer};
pub use session::{
    ClockReading, SessionFailure, SessionHost, SessionOptions, SessionReport, run_comparison, run_session,
};
pub use stream::{FrameReader, FrameWriter, SessionStream, SessionWatch, StreamBytes};
pub use table::ConnectionTable;
