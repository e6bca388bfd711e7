//! Comparison of this machine's clock with the agent's. Entries are stamped with the agent's clock; if it is ahead,
//! other replicas delay them, and nothing else would show it to the user.

use crate::codes;
use crate::error::{Failure, Result};
use crate::output::say;
use crate::time;
use kvgossip_grants::{Code, MAX_AHEAD_MICROS, Timestamp};

/// Difference from which on a warning is shown, in microseconds.
const TOLD_FROM_US: u64 = 30 * 1_000_000;
/// Difference above which nothing is signed without the option `--ignore-clock`, in microseconds.
const MAX_APART_US: u64 = MAX_AHEAD_MICROS;

/// The start of a request whose answer contains the agent's time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    at: Timestamp,
}

/// Difference of an agent's clock from this machine's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Apart {
    /// No difference can be measured.
    Not,
    /// The agent's clock is ahead by at least this many microseconds.
    Ahead(u64),
    /// The agent's clock is behind by at least this many microseconds.
    Behind(u64),
}

impl Asked {
    /// Records that the request is sent now.
    pub(crate) fn now() -> Self {
        Self { at: time::now() }
    }

    /// Computes the difference when the answer has arrived: the agent's clock showed `theirs_us` at some moment since
    /// the request.
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
    /// Warns of a difference of more than 30 seconds; fails on one of more than 2 minutes, unless `ignored`.
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

/// Checks the timestamp that an agent whose clock shows `now_us` proposes for a new entry. If the key holds an entry
/// from the future, the timestamp is later than that, and no replica would merge the new entry.
///
/// # Errors
/// `entry.not_yet` if the timestamp is too far ahead of `now_us`.
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

/// Formats how far a peer's clock is ahead of the agent's: `+1.5 s`, or `-10 min` if it is behind.
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
