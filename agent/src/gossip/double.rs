//! The warning that another member announces this replica's id.

use kvgossip_membership::Text;
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::time::Duration;

/// Code of the reason that another member announces this replica's id.
pub(super) const CODE: &str = "gossip.announced_twice";
/// Time for which another member must announce this replica's id before it is reported. It may be an earlier name of
/// this member whose end gossip has not noticed yet.
const PASSING: Duration = Duration::from_secs(20);

#[derive(Debug, Default)]
struct State {
    since: Option<Duration>,
    named: Option<String>,
}

/// State of the warning that another member announces this replica's id.
#[derive(Debug, Default)]
pub(super) struct Double(Mutex<State>);

impl Double {
    /// Records the member that announces this replica's id, with its address; `None`: there is none. Logs a warning
    /// once for as long as there is one.
    pub(super) fn look(&self, double: Option<(Text, SocketAddr)>, now: Duration) {
        let mut state = self.0.lock();
        let Some((name, address)) = double else {
            *state = State::default();
            return;
        };
        let since = *state.since.get_or_insert(now);
        if now < since + PASSING {
            return;
        }
        let text = format!(
            "the member {name:?} at {address} announces the id of this replica, too: its data directory or key was copied, \
             or somebody forges members"
        );
        if state.named.replace(text.clone()).is_none() {
            tracing::warn!(name = name.to_string(), %address, code = CODE, "{text}");
        }
    }

    /// Returns the text of the reason; `None`: no other member announces this replica's id.
    pub(super) fn reason(&self) -> Option<String> {
        self.0.lock().named.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_with_the_own_id_is_named_once_it_is_no_earlier_name_and_until_it_is_gone() {
        let double = Double::default();
        let found = || Some(("copy".into(), SocketAddr::from(([10, 0, 0, 1], 7946))));
        double.look(found(), Duration::ZERO);
        assert_eq!(double.reason(), None);
        double.look(None, Duration::from_secs(10));
        double.look(found(), Duration::from_secs(15));
        double.look(found(), Duration::from_secs(34));
        assert_eq!(double.reason(), None, "it was gone in between");
        double.look(found(), Duration::from_secs(35));
        assert!(
            double.reason().is_some_and(|reason| reason.contains("copy") && reason.contains("10.0.0.1:7946"))
        );
        double.look(None, Duration::from_secs(40));
        assert_eq!(double.reason(), None);
    }
}
