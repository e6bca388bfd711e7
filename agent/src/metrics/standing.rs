//! Metrics of the replica's readiness and health, and of its peers.

use super::labels::WhyNotWell;
use super::{Catalog, set};
use kvgossip_api::{Grade, ReasonRow};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Unit;

/// Readiness, health and peers of the replica at a scrape.
#[derive(Clone, Debug, Default)]
pub(crate) struct StandingSample {
    pub(crate) ready: bool,
    /// The codes that reasons of reduced health can have.
    pub(crate) codes: &'static [&'static str],
    pub(crate) reasons: Vec<ReasonRow>,
    pub(crate) last_equal_us: Option<u64>,
    pub(crate) listed: u64,
    pub(crate) connected: u64,
    pub(crate) equal: u64,
}

pub(super) struct StandingMetrics {
    listed: Gauge,
    connected: Gauge,
    equal: Gauge,
    last_equal: Gauge,
    ready: Gauge,
    reasons: Family<WhyNotWell, Gauge>,
}

impl StandingMetrics {
    pub(super) fn new(c: &mut Catalog) -> Self {
        Self {
            listed: c.add(
                ("kvgossip_peers_listed", "gauge", None, &[]),
                "Peers that this replica was told to stay connected with",
                Gauge::default(),
            ),
            connected: c.add(
                ("kvgossip_peers_connected", "gauge", None, &[]),
                "Connected peers, whichever side dialled",
                Gauge::default(),
            ),
            equal: c.add(
                ("kvgossip_peers_equal", "gauge", None, &[]),
                "Connected peers that are known to hold the same as this replica",
                Gauge::default(),
            ),
            last_equal: c.add(
                ("kvgossip_last_equal_timestamp", "gauge", Some(Unit::Seconds), &[]),
                "Time when this replica was last known to hold the same as some peer, in seconds since 1970; 0: never",
                Gauge::default(),
            ),
            ready: c.add(
                ("kvgossip_ready", "gauge", None, &[]),
                "1 if the agent is ready as /readyz says it, else 0",
                Gauge::default(),
            ),
            reasons: c.add(
                ("kvgossip_reasons", "gauge", None, &["code", "grade"]),
                "1 for each reason that `status` shows, with its grade: unready, unwell (the agent serves, and \
                 something is wrong) or note; 0 for a reason that is over",
                Family::default(),
            ),
        }
    }

    pub(super) fn refresh(&self, sample: &StandingSample) {
        set(&self.listed, sample.listed);
        set(&self.connected, sample.connected);
        set(&self.equal, sample.equal);
        set(&self.last_equal, sample.last_equal_us.unwrap_or_default() / 1_000_000);
        set(&self.ready, u64::from(sample.ready));
        // A reason that has ended stays visible as 0, so that alarms see its end.
        for code in sample.codes {
            for grade in Grade::ALL {
                let labels = WhyNotWell { code, grade: grade.as_str() };
                let holds = sample.reasons.iter().any(|row| row.code == *code && row.grade == grade);
                if holds {
                    self.reasons.get_or_create(&labels).set(1);
                } else if let Some(gauge) = self.reasons.get(&labels) {
                    gauge.set(0);
                }
            }
        }
    }
}
