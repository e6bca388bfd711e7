//! Where a session stands: whose turn it is, and how far the two sides have come. Each state holds what it needs, and
//! nothing else.

use super::forest::Phase;
use super::frame::Final;
use super::walk::Walk;
use super::{Outcome, SessionError};
use crate::internal::InternalError;
use bytes::Bytes;

/// Whose turn it is.
#[derive(Debug)]
pub(super) enum Turn {
    /// This side's flight is under way.
    Send {
        /// What follows it.
        then: Then,
    },
    /// The other side's flight is being read.
    Receive(Flight),
    /// The other side's flight is read; facts of it are still being judged.
    Settle {
        /// What was read.
        flight: Flight,
        /// Whether it asks for anything.
        open: bool,
    },
    /// Nothing more comes from either side.
    Done,
}

/// What follows this side's flight.
#[derive(Clone, Copy, Debug)]
pub(super) enum Then {
    Receive,
    Done,
}

/// What has arrived of the other side's flight.
#[derive(Debug, Default)]
pub(super) struct Flight {
    /// Whether anything has.
    pub(super) begun: bool,
    /// Its walk frames, answered when it is settled.
    pub(super) frames: Vec<Bytes>,
    /// What keeping them costs.
    pub(super) bytes: usize,
}

/// How far the two sides have come.
#[derive(Debug)]
pub(super) enum Course {
    /// The hellos are not exchanged yet.
    Greeting,
    /// A round is under way.
    Round(Box<Round>),
    /// Both sides have come to an outcome; what this side still has to send is sent.
    Over {
        /// The outcome.
        outcome: Outcome,
        /// The last round, if there was any.
        last: Option<Box<Round>>,
    },
}

/// One walk through both trees.
#[derive(Debug)]
pub(super) struct Round {
    /// Counts from 1.
    pub(super) number: u8,
    /// The walk of the phase.
    pub(super) walk: Walk,
    /// Flights of this side.
    pub(super) flights: u32,
    /// Our last flight asked for nothing, so theirs ends the phase.
    pub(super) closed: bool,
    /// What this side has come to, once it has said so.
    pub(super) ours: Option<Final>,
    /// The same of the other side.
    pub(super) theirs: Option<Final>,
}

impl Round {
    /// A round at its beginning.
    pub(super) fn new(number: u8, walk: Walk) -> Self {
        Self { number, walk, flights: 0, closed: false, ours: None, theirs: None }
    }

    pub(super) fn phase(&self) -> Phase {
        self.walk.phase
    }
}

impl Course {
    /// The round under way.
    ///
    /// # Errors
    /// When there is none: whoever asks is at fault.
    pub(super) fn round(&mut self) -> Result<&mut Round, SessionError> {
        match self {
            Self::Round(round) => Ok(round),
            Self::Greeting => Err(internal("a step of a round before the hellos")),
            Self::Over { .. } => Err(internal("a step of a round after the outcome")),
        }
    }

    /// The round under way, or the last one.
    pub(super) fn last_round(&self) -> Option<&Round> {
        match self {
            Self::Greeting => None,
            Self::Round(round) => Some(round),
            Self::Over { last, .. } => last.as_deref(),
        }
    }

    /// Its walk, which may still have facts to send.
    pub(super) fn walk(&mut self) -> Option<&mut Walk> {
        match self {
            Self::Greeting => None,
            Self::Round(round) => Some(&mut round.walk),
            Self::Over { last, .. } => last.as_mut().map(|round| &mut round.walk),
        }
    }

    /// Comes to an outcome.
    pub(super) fn finish(&mut self, outcome: Outcome) {
        *self = match std::mem::replace(self, Self::Greeting) {
            Self::Greeting => Self::Over { outcome, last: None },
            Self::Round(round) => Self::Over { outcome, last: Some(round) },
            Self::Over { last, .. } => Self::Over { outcome, last },
        };
    }
}

/// A state that a session cannot have: never the peer's fault.
pub(super) fn internal(what: &'static str) -> SessionError {
    InternalError::Session(what).into()
}
