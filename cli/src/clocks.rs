//! This machine's clock and the agent's. An entry is stamped by the agent's clock; under one that is ahead, other replicas
//! keep it waiting, and nobody would hear of that.

use crate::codes;
use crate::error::{Failure, Result};
use crate::output::say;
use crate::time;
use kvgossip_grants::{Code, MAX_AHEAD_MICROS, Timestamp};

/// From this difference on, in microseconds, people are told of it.
const TOLD_FROM_US: u64 = 30 * 1_000_000;
/// Beyond this difference, in microseconds, nothing is signed unless the command line says so.
const MAX_APART_US: u64 = MAX_AHEAD_MICROS;

/// A question to an agent whose answer says what its clock says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    at: Timestamp,
}

/// How far an agent's clock is from this machine's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Apart {
    /// Not at all, as far as can be told.
    Not,
    /// It is ahead by so many microseconds at least.
    Ahead(u64),
    /// It is behind by so many microseconds at least.
    Behind(u64),
}

impl Asked {
    /// The question goes out now.
    pub(crate) fn now() -> Self {
        Self { at: time::now() }
    }

    /// The answer has come: the agent's clock said `theirs` at some moment since the question.
    pub(crate) fn answered(self, theirs_us: u64) -> Apart {
        apart(self.at.as_micros(), time::now().as_micros(), theirs_us)
    }
}

fn apart(asked_us: u64, answered_us: u64, theirs_us: u64) -> Apart {
    if theirs_us > answered_us {
        Apart::Ahead(theirs_us - answered_us)
    } else if theirs_us < asked_us {
        Apart::Behind(asked_us - theirs_us)
    } else {
        Apart::Not
    }
}

impl Apart {
    /// Warns of a difference, or refuses to sign under a greater one unless that is `ignored`.
    pub(crate) fn check(self, ignored: bool) -> Result<()> {
        let (by_us, side) = match self {
            Self::Not => return Ok(()),
            Self::Ahead(by_us) => (by_us, "ahead of"),
            Self::Behind(by_us) => (by_us, "behind"),
        };
        if by_us <= TOLD_FROM_US {
            return Ok(());
        }
        let text = format!("the agent's clock is {} {side} this machine's", time::show_duration(by_us));
        if by_us > MAX_APART_US && !ignored {
            let text = format!("{text}: nothing was signed; set the one that is wrong");
            return Err(Failure::new(codes::CLOCK_SKEW, text).note(
                "  `kvgossip status` shows how peers see the agent's clock; --ignore-clock signs anyway, by the \
                 agent's clock",
            ));
        }
        say(&format!("warning: {text}; set the one that is wrong"));
        Ok(())
    }
}

/// Takes a stamp that an agent whose clock says `now_us` gives out for a new entry. Where the key holds an entry from the
/// future, the stamp lies behind that, and no replica would take the new one in.
///
/// # Errors
/// `entry.not_yet` then.
pub(crate) fn stamp(stamp_us: u64, now_us: u64) -> Result<Timestamp> {
    let stamp = Timestamp::from_micros(stamp_us).ok();
    stamp.filter(|_| stamp_us <= now_us.saturating_add(MAX_AHEAD_MICROS)).ok_or_else(|| {
        let text = format!(
            "the key holds an entry of {}, more than 2 minutes ahead of the agent's clock, and nothing written before that \
             would replace it: nothing was signed",
            time::show(stamp_us.saturating_sub(1))
        );
        Failure::new(Code::NotYet.as_str(), text).note(
            "  if the agent's clock is right, restart the agents that hold the entry with --forget-future; else set the clock",
        )
    })
}

/// How far a peer's clock is ahead of the agent's, for people: `+1.5 s`, or `-10 min` for one that is behind.
pub(crate) fn show_offset(ahead_us: i64) -> String {
    format!("{}{}", if ahead_us < 0 { '-' } else { '+' }, time::show_duration(ahead_us.unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    #[test]
    fn only_what_the_time_of_the_question_does_not_explain_counts() {
        assert_eq!(apart(100, 200, 100), Apart::Not);
        assert_eq!(apart(100, 200, 200), Apart::Not);
        assert_eq!(apart(100, 200, 230), Apart::Ahead(30));
        assert_eq!(apart(100, 200, 70), Apart::Behind(30));
        assert_eq!(apart(100, 200, u64::MAX), Apart::Ahead(u64::MAX - 200));
    }

    #[test]
    fn beyond_two_minutes_nothing_is_signed_unless_the_command_line_says_so() {
        for apart in [Apart::Ahead, Apart::Behind] {
            assert!(apart(120 * SECOND).check(false).is_ok());
            let refused = apart(121 * SECOND).check(false).expect_err("too far apart");
            assert_eq!(refused.code(), codes::CLOCK_SKEW);
            assert!(apart(86_400 * SECOND).check(true).is_ok());
        }
    }

    #[test]
    fn a_stamp_behind_an_entry_from_the_future_is_named_as_that() {
        let now = 1_000 * SECOND;
        assert!(stamp(now + MAX_AHEAD_MICROS, now).is_ok());
        let refused = stamp(now + MAX_AHEAD_MICROS + 1, now).expect_err("early everywhere");
        assert_eq!(refused.code(), Code::NotYet.as_str());
        assert!(stamp(u64::MAX, u64::MAX).is_err(), "no time");
    }
}
