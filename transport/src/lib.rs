//! QUIC connections between replicas with raw public keys: admission, limits and accounting.
//!
//! # From a packet to a session
//! 1. A first packet arrives. If many handshakes are pending, the sender must first validate its address; if too
//!    many are, it is refused (`pending`, `acceptor`).
//! 2. TLS 1.3 runs with a raw RSA key on both sides (RFC 7250) and ALPN `kvgossip/2`, without X.509, tickets or 0-RTT.
//!    Each side checks the other's key, then its proof of possession, then calls its [`Admission`]. A stranger
//!    never completes a handshake, unless strangers may read (`verifier`, `config`).
//! 3. The dialled side sends the welcome, the first application message. Until then a refused dialler may believe
//!    that it is connected; [`Endpoint::connect`] waits for the welcome (`welcome`).
//! 4. [`ConnectionTable`] keeps one [`Connection`] per peer; [`keep_connected`] dials again after a loss.
//! 5. A bidirectional stream is a session. One runs at a time per pair of replicas; further ones are rejected with
//!    `session.busy` (`slot`). Frames are a LEB128 length and that many bytes (`frame`).
//! 6. [`run_session`] runs the engine's session on the stream, and passes received facts to a [`SessionHost`].
//!
//! # Invariants
//! - Every limit on a peer is a constant in [`limits`]; every reason for an end is a [`Code`].
//! - A peer is charged only for time in which this side waits for it. The total waiting time of a session is bounded by
//!   the bytes that it moves (`progress`).
//! - A peer that breaks a rule is shut out for a time that doubles with each offence, whichever side dials
//!   (`offenders`).
//! - This crate never judges a fact, and integrity does not depend on who connects.
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
mod shared;
mod slot;
mod stream;
mod table;
mod verifier;
mod welcome;

pub use admission::{Access, Admission, Decision, Direction, Policy, Vouch};
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
