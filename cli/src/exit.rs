//! Exit codes.

use std::process::ExitCode;

/// The exit code of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Exit {
    /// Success.
    Ok = 0,
    /// Any other error.
    Error = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The requested thing does not exist.
    NotFound = 3,
    /// The operation is not permitted.
    NotAuthorised = 4,
    /// No agent answers.
    Unreachable = 5,
    /// The key was changed by somebody else, or something exists already.
    Conflict = 6,
    /// The time is over, or replicas still differ.
    TimedOut = 7,
    /// Data does not match its id, signature or checksum.
    Integrity = 8,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
