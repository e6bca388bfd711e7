//! The end of a round: both sides say what they have come to, and draw the same conclusion.

use super::course::Course;
use super::forest::Phase;
use super::frame::Final;
use super::{MAX_ROUNDS, Obstacles, Outcome, Session, SessionError, Step};
use crate::tree::root_digest;
use crate::view::View;
use kvgossip_grants::Digest;

/// What this side had when the walks of a round began: all of it was compared, and none of what was written since.
#[derive(Clone, Copy, Debug)]
pub(super) struct Walked {
    phase: Phase,
    authority_root: Digest,
    entries_root: Digest,
}

impl Walked {
    /// After another walk began.
    pub(super) fn after(before: Option<Self>, phase: Phase, view: &View) -> Self {
        // Entries are walked after the authority of the same round, or alone.
        let authority = before.filter(|it| phase == Phase::Entries && it.phase == Phase::Authority);
        let authority_root = authority.map_or_else(|| view.authority_root(), |it| it.authority_root);
        Self { phase, authority_root, entries_root: view.entries_root() }
    }
}

impl Session {
    /// The root over all that this side had compared in the last round, where the two sides still differ: the other
    /// side was told of it, and has of it whatever it takes. `None` if a limit cut the session short, or if it was
    /// confined to a prefix.
    pub fn told_root(&self) -> Option<Digest> {
        let Some(Outcome::Unsettled(obstacles)) = self.outcome() else { return None };
        let walked = self.walked.filter(|_| self.config.scope.is_root() && !obstacles.truncated)?;
        Some(root_digest(&walked.authority_root, &walked.entries_root))
    }

    pub(super) fn write_final(&mut self, view: &View) -> Result<(), SessionError> {
        let ours = Final {
            authority_root: view.authority_root(),
            entries_root: view.digest(&self.config.scope),
            changed: self.intake.take_changed(),
            obstacles: self.current_obstacles().bits(),
        };
        self.steps.push_back(Step::Final(ours));
        let round = self.course.round()?;
        round.ours = Some(ours);
        let Some(theirs) = round.theirs else { return self.end_flight(false) };
        if !self.conclude(&ours, &theirs, view)? {
            self.open_walk(view)?;
            self.end_flight(true)?;
        }
        Ok(())
    }

    /// Comes to an outcome once both finals are known, or begins another round: then false.
    pub(super) fn conclude(
        &mut self,
        ours: &Final,
        theirs: &Final,
        view: &View,
    ) -> Result<bool, SessionError> {
        let number = self.course.round()?.number;
        match self.compare(ours, theirs, number) {
            Some(outcome) => self.finish(outcome),
            None => self.begin_round(number + 1, phase_for(ours, theirs), view),
        }
        Ok(matches!(self.course, Course::Over { .. }))
    }

    /// Both sides come to the same conclusion from the same two finals; `None`: another round.
    fn compare(&self, ours: &Final, theirs: &Final, round: u8) -> Option<Outcome> {
        if (ours.authority_root, ours.entries_root) == (theirs.authority_root, theirs.entries_root) {
            return Some(Outcome::Equal);
        }
        if (ours.changed || theirs.changed) && round < MAX_ROUNDS {
            return None;
        }
        let obstacles = self.current_obstacles().with_bits(theirs.obstacles);
        Some(Outcome::Unsettled(obstacles))
    }

    pub(super) fn current_obstacles(&self) -> Obstacles {
        Obstacles {
            not_yet: self.obstacles.not_yet || self.intake.not_yet > 0,
            refused: self.obstacles.refused || self.intake.refused > 0,
            unjustified: self.intake.unjustified_total > 0,
            ..self.obstacles
        }
    }
}

/// Which phase a further round begins with.
fn phase_for(ours: &Final, theirs: &Final) -> Phase {
    if ours.authority_root == theirs.authority_root { Phase::Entries } else { Phase::Authority }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvgossip_grants::{MockKey, Signer};

    /// What was written between the walk of the authority and that of the entries was not compared.
    #[test]
    fn the_authority_that_was_walked_is_that_of_the_walk_and_not_of_what_came_since() {
        let mut view = View::new(MockKey::new(0).public().clone());
        let walked = |before, phase, view: &View| {
            let walked = Walked::after(before, phase, view);
            assert_eq!(walked.entries_root, view.entries_root(), "entries are walked last");
            walked
        };
        let mut first = walked(None, Phase::Authority, &view);
        let empty = first.authority_root;
        view.authority_tree.insert(b"0", Digest([1; 32]));
        assert_ne!(view.authority_root(), empty);
        let entries = walked(Some(first), Phase::Entries, &view);
        assert_eq!(entries.authority_root, empty, "of the same round");
        let next_round = walked(Some(entries), Phase::Entries, &view);
        assert_eq!(next_round.authority_root, view.authority_root(), "it was found equal as the round began");
        first = walked(Some(first), Phase::Authority, &view);
        assert_eq!(first.authority_root, view.authority_root(), "it was walked again");
        assert_eq!(walked(None, Phase::Entries, &view).authority_root, view.authority_root());
    }
}
