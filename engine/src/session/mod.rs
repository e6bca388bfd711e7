//! A sync session between two replicas, as a state machine without I/O.
//!
//! The two sides take turns: a *flight* is everything that one side sends until the other may speak. The
//! initiator's first flight is a [`Hello`]; the responder's is its own, and the first questions of the walk if
//! the roots differ. The last frame of each later flight says whether it asks for anything. See
//! `docs/protocol.md` for the bytes.
//!
//! # Driving a session
//! - [`Session::poll_frame`] gives the next frame to send, as long as it is this side's turn.
//! - [`Session::handle_frame`] takes a received frame.
//! - [`Session::poll_offer`] gives received facts, to be checked, verified and merged in any order;
//!   [`Session::handle_verdict`] takes what came of each. The session goes on once all are answered.
//! - [`Session::outcome`] says how it ended; then send what [`Session::poll_frame`] still has, and close.
//!
//! # Modules
//! - `walk` and `replies` find out what the other side lacks; `Walk::sends` collects it, `cut` and `forest` divide the trees.
//! - `flow` and `course` say whose turn it is, and make flights of what was found.
//! - `facts` writes records into frames, without what the other side declines and what is no longer live, and reads them.
//! - `frame`, `hello`, `wire`, `reply` and `region` are the bytes; `tally` counts them.
//! - `intake` holds received facts until they are judged; `rounds` decides whether another round follows.
//!
//! [`Driver`] drives a session within the bounds that a replica needs; its caller bounds the time. The session itself bounds
//! memory and rounds.

mod compare;
mod course;
#[cfg(test)]
pub(crate) mod crowd;
mod cut;
mod declines;
mod driver;
mod facts;
mod flow;
mod forest;
mod frame;
mod hello;
mod intake;
mod newcomer;
#[cfg(test)]
mod pair;
mod region;
mod replies;
mod reply;
mod rounds;
mod salt;
#[cfg(test)]
mod state_tests;
mod tally;
mod tell;
mod walk;
mod wire;

pub use compare::{COMPARE_EXTENSION, Differences, MAX_NAMED, Named};
pub use declines::MAX_DECLINES;
pub use driver::{
    Action, Driver, DriverLimits, JUDGE_BATCH, JUDGE_BATCH_BYTES, JobId, MAX_JUDGED_BYTES, MAX_JUDGED_FACTS,
    WRITE_AHEAD, Wait,
};
pub use frame::{
    CLOCK_EXTENSION, Hello, MAX_CODE_BYTES, MAX_EXTENSION_BYTES, MAX_EXTENSIONS, MAX_LIST_IDS, MAX_PARTS,
    MAX_REGION_BYTES, MAX_TELLS, PROTOCOL_VERSION,
};
pub use intake::{MAX_CHARGES, MAX_WAITING_BYTES, Ticket};
pub use newcomer::{MAX_OTHERS, Newcomer, OTHERS_EXTENSION, SHORT_REPLICA_ID_BYTES, ShortReplicaId};
pub use tally::{Tally, Traffic};
pub use walk::{MAX_ASKED_BYTES, MAX_FLIGHT_BYTES};

use crate::internal::{Failure, InternalError};
use crate::storage::StorageError;
use course::{Course, Turn};
use declines::Declines;
use facts::Record;
use forest::Leaf;
use frame::Final;
use intake::Intake;
use kvgossip_grants::{ClusterId, Code, Digest, PathPrefix, Timestamp};
use rounds::Walked;
use std::collections::VecDeque;
use wire::BadFrame;

/// The largest frame, in bytes: the largest fact has room.
pub const MAX_FRAME_BYTES: usize = (1 << 20) + (4 << 10);
/// How often a session walks at most.
pub const MAX_ROUNDS: u8 = 3;
/// How many flights one side makes in a round at most. Where every node has more than 16 children, the two sides go
/// down one level a flight, in turns; the name of an entry has at most 1,089 bytes.
pub const MAX_FLIGHTS: u32 = 1024;

/// Who began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Sends the first hello, and decides the scope.
    Initiator,
    /// Answers it.
    Responder,
}

/// How a session is to be run.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which side this is.
    pub role: Role,
    /// Confines the entries to a path prefix; only the initiator's counts.
    pub scope: PathPrefix,
    /// Eight bytes of a cryptographic generator.
    pub nonce: [u8; 8],
    /// Whether this side takes facts in; one that only hands out says no.
    pub takes_facts: bool,
    /// What the peer is told if this side has yet to end its first comparison with anybody.
    pub newcomer: Option<Newcomer>,
}

/// Why a session could not go on. What was taken in before stays.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The peer sent what no correct implementation sends.
    #[error("the peer broke the protocol: {0}")]
    Protocol(&'static str),
    /// The peer speaks another version.
    #[error("the peer speaks version {0} of the session protocol, this replica version {PROTOCOL_VERSION}")]
    Version(u8),
    /// The peer belongs to another cluster.
    #[error("the peer belongs to cluster {0}; check the root key on both sides")]
    ForeignCluster(ClusterId),
    /// The peer sent too many facts that can never be accepted.
    #[error("the peer sent {MAX_CHARGES} facts that can never be accepted, the last one for {0}")]
    Misbehaved(Code),
    /// The peer ended the session.
    #[error("the peer ended the session: {0}")]
    Bye(String),
    /// This replica's own store failed.
    #[error("this replica's store failed: {0}")]
    Storage(#[from] StorageError),
    /// This program is at fault.
    #[error(transparent)]
    Internal(#[from] InternalError),
    /// This replica is being stopped.
    #[error("this replica is shutting down")]
    ShuttingDown,
}

impl SessionError {
    /// A stable code, also sent to the peer.
    pub fn code(&self) -> &str {
        match self {
            Self::Protocol(_) => "session.protocol",
            Self::Version(_) => "session.version",
            Self::ForeignCluster(_) => "peer.foreign_cluster",
            Self::Misbehaved(_) => "peer.misbehaved",
            Self::Bye(code) => code,
            Self::Storage(error) => error.code(),
            Self::Internal(error) => error.code(),
            Self::ShuttingDown => Failure::ShuttingDown.code(),
        }
    }

    /// Whether the peer is to blame.
    pub fn blames_peer(&self) -> bool {
        matches!(self, Self::Protocol(_) | Self::Misbehaved(_))
    }
}

impl From<Failure> for SessionError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Storage(error) => Self::Storage(error),
            Failure::Internal(error) => Self::Internal(error),
            Failure::ShuttingDown => Self::ShuttingDown,
        }
    }
}

impl From<BadFrame> for SessionError {
    fn from(_: BadFrame) -> Self {
        Self::Protocol("a frame does not decode")
    }
}

/// What kept two sides from becoming equal; both sides' together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Obstacles {
    /// Entries from the future: they are accepted when their time comes.
    pub not_yet: bool,
    /// Facts that one side refuses for good.
    pub refused: bool,
    /// Facts whose chain is not live on one side.
    pub unjustified: bool,
    /// There was more than a flight may carry.
    pub truncated: bool,
    /// One side takes no facts.
    pub read_only: bool,
    /// One side's store cannot read a fact that the side holds.
    pub unreadable: bool,
    /// One side's store has reached its limit.
    pub quota: bool,
}

impl Obstacles {
    fn bits(self) -> u8 {
        let flags = [
            self.not_yet,
            self.refused,
            self.unjustified,
            self.truncated,
            self.read_only,
            self.unreadable,
            self.quota,
        ];
        (0..).zip(flags).map(|(at, flag)| u8::from(flag) << at).sum()
    }

    fn with_bits(self, bits: u8) -> Self {
        Self {
            not_yet: self.not_yet || bits & 1 != 0,
            refused: self.refused || bits & 2 != 0,
            unjustified: self.unjustified || bits & 4 != 0,
            truncated: self.truncated || bits & 8 != 0,
            read_only: self.read_only || bits & 16 != 0,
            unreadable: self.unreadable || bits & 32 != 0,
            quota: self.quota || bits & 64 != 0,
        }
    }
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Both sides hold the same.
    Equal,
    /// They still differ. Without any obstacle, something was written meanwhile.
    Unsettled(Obstacles),
}

/// What is left to send of this side's flight.
#[derive(Debug)]
enum Step {
    /// This side's hello. Its time is written into it when it is sent.
    Hello(Box<Hello>),
    Frame(Vec<u8>),
    /// A fact that was held back until the walk of its phase was over.
    Held(Leaf),
    /// A fact that had no room in the frame before.
    Record(Record),
    /// Everything that the walk found to be lacking on the other side.
    Sends,
    /// The end of the round. What stands in the way is written into it when it is sent: what is sent before it may
    /// add to that.
    Final(Final),
}

/// One side of a session. See the [module](self).
#[derive(Debug)]
pub struct Session {
    config: Config,
    /// Whether this side's store has reached its limit, so that it takes only what frees room.
    is_full: bool,
    turn: Turn,
    our_hello: Option<Hello>,
    their_hello: Option<Hello>,
    /// The two roots that the peer said last.
    their_roots: Option<(Digest, Digest)>,
    course: Course,
    /// Authority facts to send, kept until the walk of the phase is over.
    held: Vec<Leaf>,
    intake: Intake,
    steps: VecDeque<Step>,
    obstacles: Obstacles,
    tally: Tally,
    /// What was found, in a session that compares and moves nothing.
    differences: Option<Differences>,
    declines: Declines,
    walked: Option<Walked>,
    /// What this side's clock says, as far as it was told.
    time: Option<Timestamp>,
}
