//! Where Serf's command line says something else of a kvgossip agent than of a Serf agent, and why.
//!
//! `docs/from-serf.md` has the same list in short.

/// Lines that one of both says and the other does not.
pub(crate) struct Difference {
    /// The commands, as [`crate::transcript::Step::name`] has them.
    pub(crate) steps: &'static [&'static str],
    /// Of Serf's agent.
    pub(crate) serf: &'static [&'static str],
    /// Of kvgossip's agent.
    pub(crate) kvgossip: &'static [&'static str],
    pub(crate) why: &'static str,
}

impl Difference {
    pub(crate) fn is_of(&self, step: &str) -> bool {
        self.steps.contains(&step)
    }
}

pub(crate) const DIFFERENCES: &[Difference] = &[];
