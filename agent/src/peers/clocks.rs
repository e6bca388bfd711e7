//! How far the clocks of peers are from this replica's: measured in each session, told to people, asked before signing.

use super::{Connection, Peers};
use crate::clock::{Clock, Monotonic, duration_text};
use kvgossip_engine::clocks::{Clocks, Now, Offset, Reading, Standing, TOLD_FROM_US};
use kvgossip_grants::ReplicaId;
use kvgossip_transport::{Access, SessionReport};
use parking_lot::Mutex;
use std::fmt;
use std::time::Duration;

/// The clocks of the peers, and this replica's two.
pub(super) struct PeerClocks {
    wall: Clock,
    steady: Monotonic,
    machine: Mutex<Clocks>,
}

impl PeerClocks {
    pub(super) fn new(wall: Clock, steady: Monotonic) -> Self {
        Self { wall, steady, machine: Mutex::default() }
    }

    fn now(&self) -> Now {
        Now { wall: self.wall.now(), steady_us: self.steady.now_us() }
    }

    fn offset(&self, peer: &ReplicaId) -> Option<Offset> {
        self.machine.lock().offset(peer, self.now())
    }

    fn standing(&self) -> Standing {
        self.machine.lock().standing(self.now())
    }
}

impl Peers {
    /// Takes what a session told of the peer's clock. Strangers, who only pull, have no say.
    pub(super) fn note_clock(&self, connection: &Connection, report: &SessionReport) {
        let Some(read) = report.their_clock.filter(|_| connection.access() == Access::Full) else { return };
        let clocks = &self.inner.clocks;
        let age_us = micros(read.at.elapsed());
        let came = Now { wall: read.ours, steady_us: clocks.steady.now_us().saturating_sub(age_us) };
        let round_trip_us = micros(read.answered_after.unwrap_or_else(|| connection.rtt()));
        let reading = Reading { theirs: read.theirs, came, round_trip_us };
        let tells = clocks.machine.lock().note(connection.peer(), reading);
        if let Some(ClockReason { code, message }) = self.clock_reason().filter(|_| tells) {
            tracing::warn!(code, "{message}");
        }
    }

    /// How far a peer's clock is ahead of this replica's, in microseconds; less than 0: it is behind. `None`: not known.
    pub fn clock_offset_us(&self, peer: &ReplicaId) -> Option<i64> {
        self.inner.clocks.offset(peer).map(|offset| offset.us)
    }

    /// What this replica's clock is by those of its peers.
    pub fn clock_standing(&self) -> Standing {
        self.inner.clocks.standing()
    }

    /// How far the peers' clocks are ahead of this replica's, by the one in the middle; `None`: not so far that it is told.
    pub(crate) fn behind_us(&self) -> Option<u64> {
        let ahead = self.present_standing().median_us?;
        u64::try_from(ahead).ok().filter(|ahead| *ahead > TOLD_FROM_US)
    }

    /// What people are to be told of the clocks; nothing as long as none is known to be off.
    pub(crate) fn clock_reason(&self) -> Option<ClockReason> {
        let all = self.clock_standing();
        // Nothing is signed then, also where the witnesses have gone.
        reason(&if all.is_contradicted() { all } else { self.present_standing() })
    }

    /// What this replica's clock is by those of peers that are here, or were until a moment ago.
    fn present_standing(&self) -> Standing {
        let connected = self.inner.table.list().iter().map(|it| it.peer()).collect();
        let clocks = &self.inner.clocks;
        clocks.machine.lock().standing_of_present(&connected, clocks.now())
    }
}

/// Why a clock is not well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClockReason {
    /// A stable code.
    pub(crate) code: &'static str,
    /// What that means here, and what to do.
    pub(crate) message: String,
}

impl fmt::Display for ClockReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

fn reason(standing: &Standing) -> Option<ClockReason> {
    if let Some(off) = standing.own_fault_us() {
        let text = format!(
            "this replica's clock is {} those of most of its {} peers: set it",
            offset_text(off.saturating_neg()),
            standing.peers
        );
        return Some(if standing.is_contradicted() {
            let message = format!("{text}; until then nothing is signed with this agent's identity");
            ClockReason { code: "clock.contradicted", message }
        } else {
            ClockReason { code: "clock.differs", message: text }
        });
    }
    let (peer, off) = standing.differing()?;
    let peer = peer.to_string();
    let message = format!(
        "the clock of peer {} is {} this replica's: one of the two is wrong, set it",
        peer.get(..8).unwrap_or_default(),
        offset_text(off)
    );
    Some(ClockReason { code: "clock.differs", message })
}

/// How far a clock is off, for people: `10 min ahead of`; rounded as everywhere.
pub(crate) fn offset_text(off_us: i64) -> String {
    let amount = duration_text(off_us.unsigned_abs());
    format!("{amount} {}", if off_us < 0 { "behind" } else { "ahead of" })
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    #[test]
    fn reasons_say_whose_clock_is_wrong_where_that_is_known() {
        let furthest = Some((ReplicaId([0xab; 32]), 600 * SECOND));
        let standing = |peers, median_us| Standing { peers, median_us: Some(median_us), furthest };
        let first = |standing| reason(&standing).map_or(String::new(), |reason| reason.to_string());
        let one = first(standing(1, 600 * SECOND));
        assert!(
            one.starts_with("clock.differs: the clock of peer abababab is 10 min ahead of this"),
            "{one}"
        );
        let most = first(standing(3, 31 * SECOND));
        assert!(
            most.starts_with("clock.differs: this replica's clock is 31.0 s behind those of most"),
            "{most}"
        );
        let refused = first(standing(4, -121 * SECOND));
        assert!(
            refused.starts_with("clock.contradicted: this replica's clock is 2 min ahead of"),
            "{refused}"
        );
        assert_eq!(reason(&Standing::default()), None);
    }

    #[test]
    fn offsets_are_told_in_units_that_people_use() {
        let told = [
            (5, "5.0 s ahead of"),
            (-600, "10 min behind"),
            (86_400, "24 h ahead of"),
            (-864_000, "10 d behind"),
        ];
        assert!(told.iter().all(|(seconds, text)| offset_text(seconds * SECOND) == *text));
    }
}
