//! Metrics of the facts that are declined at present.

use super::catalog::Catalog;
use super::labels::Reason;
use super::set;
use kvgossip_api::WaitingRow;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Unit;

pub(super) struct Waiting {
    facts: Gauge,
    bytes: Gauge,
    declined: Family<Reason, Gauge>,
}

impl Waiting {
    pub(super) fn new(c: &mut Catalog) -> Self {
        Self {
            facts: c.add(
                ("kvgossip_waiting_facts", "gauge", None, &[]),
                "Entries ahead of the clock that wait in memory until they are due",
                Gauge::default(),
            ),
            bytes: c.add(
                ("kvgossip_waiting", "gauge", Some(Unit::Bytes), &[]),
                "Memory of these entries",
                Gauge::default(),
            ),
            declined: c.add(
                ("kvgossip_declined_facts", "gauge", None, &["reason"]),
                "Facts that peers are asked not to send, beside those that wait: entries ahead of the clock that found no \
                 room (not_yet), what can never be taken in (refused)",
                Family::default(),
            ),
        }
    }

    pub(super) fn refresh(&self, now: &WaitingRow) {
        set(&self.facts, now.facts);
        set(&self.bytes, now.bytes);
        for (reason, count) in [("not_yet", now.without_room), ("refused", now.refused)] {
            set(&self.declined.get_or_create(&Reason { reason }), count);
        }
    }
}
