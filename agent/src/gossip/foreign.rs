//! The warning that members of another cluster are in this gossip, because two clusters were joined by mistake.

use kvgossip_membership::Text;
use parking_lot::Mutex;
use std::collections::BTreeSet;

/// Code of the reason that members of another cluster are present.
pub(super) const CODE: &str = "gossip.other_cluster";
/// Maximum number of members of another cluster that the reason names.
const MAX_NAMED: usize = 4;
/// Maximum number of members of another cluster named in the log, each once per run, so that forged members cannot fill
/// it.
const MAX_TOLD: usize = 64;

#[derive(Debug, Default)]
struct State {
    present: Vec<Text>,
    told: BTreeSet<Text>,
}

/// The members that announce a cluster with another root.
#[derive(Debug, Default)]
pub(super) struct Foreign(Mutex<State>);

impl Foreign {
    /// Records the names of the live members of another cluster. Logs a warning of each of them once.
    pub(super) fn look(&self, present: Vec<Text>) {
        for name in self.news(present) {
            tracing::warn!(
                name = name.to_string(),
                code = CODE,
                "a member belongs to another cluster, its --root is another one: nothing is synced with it"
            );
        }
    }

    /// Returns those of the members in `present` that no warning has named yet.
    fn news(&self, present: Vec<Text>) -> Vec<Text> {
        let mut state = self.0.lock();
        let room = MAX_TOLD.saturating_sub(state.told.len());
        let unknown = present.iter().filter(|name| !state.told.contains(*name));
        let news: Vec<Text> = unknown.take(room).cloned().collect();
        state.told.extend(news.iter().cloned());
        state.present = present;
        news
    }

    /// Returns the text of the reason; `None`: no member of another cluster is present.
    pub(super) fn reason(&self) -> Option<String> {
        let present = &self.0.lock().present;
        let named: Vec<String> = present.iter().take(MAX_NAMED).map(|name| format!("{name:?}")).collect();
        let more = present.len() - named.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        (!named.is_empty()).then(|| {
            format!(
                "members of another cluster, whose --root is another one, are in this gossip: {}{more}; nothing is synced \
                 with them",
                named.join(", ")
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<Text> {
        names.iter().map(|name| (*name).into()).collect()
    }

    #[test]
    fn each_is_told_of_once_and_named_while_it_is_there() {
        let foreign = Foreign::default();
        assert_eq!(foreign.reason(), None);
        assert_eq!(foreign.news(names(&["a", "b"])), ["a", "b"]);
        assert_eq!(foreign.news(names(&["a", "b", "c"])), ["c"]);
        assert_eq!(foreign.news(Vec::new()), [""; 0]);
        assert_eq!(foreign.reason(), None, "they are gone");
        assert_eq!(foreign.news(names(&["a"])), [""; 0], "one that is back is no news");
        assert!(foreign.reason().is_some_and(|reason| reason.contains("gossip: \"a\"; nothing")));
    }

    #[test]
    fn forged_ones_fill_neither_the_log_nor_the_reason() {
        let foreign = Foreign::default();
        let many: Vec<Text> = (0..1000).map(|n| n.to_string().into()).collect();
        assert_eq!(foreign.news(many.clone()).len(), MAX_TOLD);
        assert_eq!(foreign.news(many), [""; 0]);
        assert!(foreign.reason().is_some_and(|reason| reason.contains("and 996 more")));
    }
}
