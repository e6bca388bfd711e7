//! How far others may raise an incarnation.

use std::time::Duration;

/// Maximum raise of a member's incarnation by one message. Members raise their own by one; a forged message
/// with the greatest number would otherwise make the name permanently unusable.
pub(super) const MAX_INCARNATION_JUMP: u32 = 1 << 20;

/// Maximum total by which other members' messages may raise one member's incarnation at once.
const ALLOWANCE: u32 = 2 * MAX_INCARNATION_JUMP;

/// Amount by which the allowance of a member ([`ALLOWANCE`] at most) recovers per second; forging raises to the
/// end of the range takes two years.
const ALLOWANCE_PER_SECOND: u32 = 64;

/// Remaining amount by which other members' messages may raise one member's incarnation. Many small steps could
/// otherwise also reach the end of the range.
#[derive(Debug, Clone, Copy)]
pub(super) struct Allowance {
    left: u32,
    at: Duration,
}

impl Allowance {
    pub(super) fn new(now: Duration) -> Self {
        Self { left: ALLOWANCE, at: now }
    }

    /// Takes `raise` from the allowance. Returns `false`, and takes nothing, if less is left or `raise` exceeds
    /// [`MAX_INCARNATION_JUMP`].
    pub(super) fn take(&mut self, now: Duration, raise: u32) -> bool {
        let earned = now.saturating_sub(self.at).as_secs_f64() * f64::from(ALLOWANCE_PER_SECOND);
        // A fraction below one is kept for the next time.
        if earned >= 1.0 {
            self.left = self.left.saturating_add(earned.min(f64::from(ALLOWANCE)) as u32).min(ALLOWANCE);
            self.at = now;
        }
        let left = self.left.checked_sub(raise).filter(|_| raise <= MAX_INCARNATION_JUMP);
        self.left = left.unwrap_or(self.left);
        left.is_some()
    }
}
