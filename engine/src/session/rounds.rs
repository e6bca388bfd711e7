//! The end of a round: both sides say what they have come to, and draw the same conclusion.

use super::forest::Phase;
use super::frame::Final;
use super::{MAX_ROUNDS, Obstacles, Outcome, Session, Step};
use crate::view::View;

impl Session {
    pub(super) fn write_final(&mut self, view: &View) {
        let ours = Final {
            authority_root: view.authority_root(),
            entries_root: view.digest(&self.config.scope),
            changed: self.intake.take_changed(),
            obstacles: self.current_obstacles().bits(),
        };
        self.steps.push_back(Step::Final(ours));
        self.our_final = Some(ours);
        let Some(theirs) = self.their_final else { return self.end_flight(false) };
        match self.compare(&ours, &theirs) {
            Some(outcome) => self.finish(outcome),
            None => {
                self.next_round();
                self.walk = Some(self.new_walk(phase_for(&ours, &theirs), view));
                self.open_walk(view);
                self.end_flight(true);
            }
        }
    }

    /// Both sides come to the same conclusion from the same two finals; `None`: another round.
    pub(super) fn compare(&mut self, ours: &Final, theirs: &Final) -> Option<Outcome> {
        if (ours.authority_root, ours.entries_root) == (theirs.authority_root, theirs.entries_root) {
            return Some(Outcome::Equal);
        }
        if (ours.changed || theirs.changed) && self.round < MAX_ROUNDS {
            return None;
        }
        let obstacles = self.current_obstacles().with_bits(theirs.obstacles);
        Some(Outcome::Unsettled(obstacles))
    }

    pub(super) fn current_obstacles(&self) -> Obstacles {
        Obstacles {
            not_yet: self.intake.not_yet > 0,
            refused: self.intake.refused > 0,
            unjustified: self.intake.unjustified_total > 0,
            ..self.obstacles
        }
    }

    pub(super) fn next_round(&mut self) {
        self.round += 1;
        self.our_final = None;
        self.their_final = None;
        self.closed = false;
        self.flights_in_round = 0;
    }
}

/// Which phase a further round begins with.
pub(super) fn phase_for(ours: &Final, theirs: &Final) -> Phase {
    if ours.authority_root == theirs.authority_root { Phase::Entries } else { Phase::Authority }
}
