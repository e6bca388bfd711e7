//! Answers of an agent that cannot be parsed.

use crate::error::{Failure, Result};
use kvgossip_grants::Timestamp;

/// Returns the failure for an answer that an agent of this version would not give.
pub(crate) fn unexpected(what: &str) -> Failure {
    Failure::new(
        "agent.unexpected",
        format!("the agent's answer has {what}; check --agent and the agent's version"),
    )
}

/// Parses a time in an agent's answer, in microseconds since 1970.
pub(crate) fn agent_time(micros: u64) -> Result<Timestamp> {
    Timestamp::from_micros(micros).map_err(|_| unexpected("a time that is none"))
}
