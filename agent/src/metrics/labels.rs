//! Label sets. Every label value comes from a small set known to this program.

use kvgossip_api::{SyncOutcome, SyncReport};
use kvgossip_grants::Verdict;
use kvgossip_transport::Code;
use prometheus_client::encoding::EncodeLabelSet;

/// Codes of failed sessions, in addition to those of the transport.
const SESSION_CODES: [&str; 11] = [
    "session.protocol",
    "session.version",
    "peer.foreign_cluster",
    "peer.misbehaved",
    "store.stopped",
    "store.full",
    "store.no_room",
    "store.quota",
    "internal.session",
    "internal.committer",
    "internal.task",
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
        let code = match report.outcome {
            SyncOutcome::Failed => known(report.reasons.first().map_or("", String::as_str)),
            SyncOutcome::Equal | SyncOutcome::Unsettled | SyncOutcome::Busy => "",
        };
        let outcome = report.outcome.as_str();
        Self { role, outcome, code }
    }
}

impl Session {
    /// Returns the label sets of all possible session failures: each role with each code.
    pub(super) fn failures() -> impl Iterator<Item = Self> {
        let codes = || Code::ALL.iter().map(|code| code.name()).chain(SESSION_CODES).chain([OTHER]);
        let of =
            move |role| codes().map(move |code| Self { role, outcome: SyncOutcome::Failed.as_str(), code });
        of("initiator").chain(of("responder"))
    }
}

impl Fact {
    /// Returns the label sets of all possible refusals of facts: each source with each code.
    pub(super) fn refusals() -> impl Iterator<Item = Self> {
        let codes = || kvgossip_grants::Code::ALL.iter();
        let of = move |source| {
            codes().map(move |code| {
                let verdict = Verdict::Refused(*code);
                Self { source, verdict: verdict.as_str(), code: code.as_str() }
            })
        };
        of("put").chain(of("peer"))
    }
}

/// The label value for a code unknown to this program.
const OTHER: &str = "other";

/// Maps a code to a known one or [`OTHER`]: a peer may have ended the session with any text.
fn known(code: &str) -> &'static str {
    let transport = Code::ALL.iter().map(|code| code.name());
    transport.chain(SESSION_CODES).find(|known| *known == code).unwrap_or(OTHER)
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Bytes {
    pub(crate) direction: &'static str,
    pub(crate) kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OffenceCode {
    pub(crate) code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct WhyNotWell {
    pub(crate) code: &'static str,
    pub(crate) grade: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Kind {
    pub(crate) kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct HeldAtDoor {
    pub(crate) door: &'static str,
    pub(crate) what: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Door {
    pub(crate) door: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Http {
    pub(crate) door: &'static str,
    /// Pattern of the route, such as `/v1/kv/{*key}`; `other`: no route matches.
    pub(crate) route: String,
    pub(crate) method: &'static str,
    pub(crate) status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Route {
    pub(crate) route: String,
}

/// Defines label sets of one label each.
macro_rules! labels {
    ($($name:ident $label:ident),*) => {$(
        #[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
        pub(super) struct $name {
            pub(super) $label: &'static str,
        }
    )*};
}

labels!(Cause cause, Change change, Direction direction, Of of, Outcome outcome, Queue queue, Reason reason, Status status);

#[cfg(test)]
mod tests {
    use super::*;
    use kvgossip_api::TrafficRow;

    #[test]
    fn whatever_a_failure_is_counted_as_is_there_from_the_beginning() {
        let report = |outcome, code: &str| SyncReport {
            peer: String::new(),
            ended_at_us: 0,
            took_us: 0,
            outcome,
            reasons: vec![code.into()],
            sent: TrafficRow::default(),
            received: TrafficRow::default(),
            waste: 0,
            flights: 0,
            rounds: 0,
            merged: 0,
            initiated: true,
        };
        for code in ["peer.not_admitted", "session.protocol", "store.full", "made.up"] {
            let label = Session::of(&report(SyncOutcome::Failed, code));
            assert!(Session::failures().any(|known| known == label), "{label:?}");
        }
        let busy = Session::of(&report(SyncOutcome::Busy, "session.busy"));
        assert_eq!((busy.outcome, busy.code), ("busy", ""));
    }

    #[test]
    fn codes_that_a_peer_made_up_are_one() {
        assert_eq!(known(Code::Busy.name()), Code::Busy.name());
        assert_eq!(known("session.protocol"), "session.protocol");
        assert_eq!(known("anything.else"), "other");
    }
}
