//! Metrics of the peers' clocks.

use super::catalog::Catalog;
use super::labels::Of;
use super::{Fraction, set};
use kvgossip_engine::clocks::Standing;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Unit;
use std::time::Duration;

pub(super) struct ClockMetrics {
    offset: Family<Of, Fraction>,
    peers: Gauge,
    contradicted: Gauge,
}

impl ClockMetrics {
    pub(super) fn new(c: &mut Catalog) -> Self {
        Self {
            offset: c.add(
                ("kvgossip_clock_offset", "gauge", Some(Unit::Seconds), &["of"]),
                "How far the peers' clocks are ahead of this replica's: the median, and the one that is furthest off \
                 (furthest). Absent while no peer's clock is known",
                Family::default(),
            ),
            peers: c.add(
                ("kvgossip_clock_peers", "gauge", None, &[]),
                "Peers whose clocks were measured in the last quarter of an hour",
                Gauge::default(),
            ),
            contradicted: c.add(
                ("kvgossip_clock_contradicted", "gauge", None, &[]),
                "1 while most of three or more peers contradict this replica's clock by more than two minutes, so that the \
                 agent signs nothing",
                Gauge::default(),
            ),
        }
    }

    pub(super) fn refresh(&self, now: &Standing) {
        set(&self.peers, now.peers as u64);
        set(&self.contradicted, u64::from(now.is_contradicted()));
        let Some(median) = now.median_us else { return self.offset.clear() };
        for (of, us) in [("median", median), ("furthest", now.furthest.map_or(0, |(_, off)| off))] {
            self.offset.get_or_create(&Of { of }).set(seconds(us));
        }
    }
}

fn seconds(us: i64) -> f64 {
    let seconds = Duration::from_micros(us.unsigned_abs()).as_secs_f64();
    if us < 0 { -seconds } else { seconds }
}
