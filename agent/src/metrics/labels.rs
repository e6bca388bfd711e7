//! Sets of labels. Every value is one of few that this program knows.

use kvgossip_api::SyncReport;
use kvgossip_transport::Code;
use prometheus_client::encoding::EncodeLabelSet;

/// Failures of sessions that are not the transport's.
const SESSION_CODES: [&str; 6] = [
    "session.protocol",
    "session.version",
    "peer.foreign_cluster",
    "peer.misbehaved",
    "store.stopped",
    "store.full",
];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Fact {
    pub(crate) source: &'static str,
    pub(crate) verdict: &'static str,
    pub(crate) code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Session {
    role: &'static str,
    outcome: &'static str,
    code: &'static str,
}

impl Session {
    pub(super) fn of(report: &SyncReport) -> Self {
        let role = if report.initiated { "initiator" } else { "responder" };
        let (outcome, code) = match report.outcome.as_str() {
            "equal" => ("equal", ""),
            "unsettled" => ("unsettled", ""),
            _ => ("failed", known(report.reasons.first().map_or("", String::as_str))),
        };
        Self { role, outcome, code }
    }
}

/// A code that this program knows: the peer may have ended the session with any text.
fn known(code: &str) -> &'static str {
    let transport = Code::ALL.iter().map(|code| code.name());
    transport.chain(SESSION_CODES).find(|known| *known == code).unwrap_or("other")
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Bytes {
    pub(crate) direction: &'static str,
    pub(crate) kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct State {
    pub(crate) state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Kind {
    pub(crate) kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Door {
    pub(crate) door: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Http {
    pub(crate) door: &'static str,
    /// The route's pattern, or `other`.
    pub(crate) route: String,
    pub(crate) method: &'static str,
    pub(crate) status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Route {
    pub(crate) route: String,
}

/// Sets of one label each.
macro_rules! labels {
    ($($name:ident $label:ident),*) => {$(
        #[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
        pub(super) struct $name {
            pub(super) $label: &'static str,
        }
    )*};
}

labels!(Cause cause, Change change, Direction direction, Outcome outcome, Reason reason, Status status);

#[cfg(test)]
mod tests {
    use super::{Code, known};

    #[test]
    fn codes_that_a_peer_made_up_are_one() {
        assert_eq!(known(Code::Busy.name()), Code::Busy.name());
        assert_eq!(known("session.protocol"), "session.protocol");
        assert_eq!(known("anything.else"), "other");
    }
}
