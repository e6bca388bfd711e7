//! Metrics of the resources that clients of the HTTP API hold.

use super::catalog::Catalog;
use super::labels::{Door, HeldAtDoor};
use super::set;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Unit;

pub(super) struct Doors {
    felled: Family<Door, Counter>,
    held: Family<HeldAtDoor, Gauge>,
}

impl Doors {
    pub(super) fn new(c: &mut Catalog) -> Self {
        Self {
            felled: c.add(
                ("kvgossip_http_connections_felled", "counter", None, &["door"]),
                "Connections that were closed to make room for others: they stalled, or their address held most",
                Family::default(),
            ),
            held: c.add(
                ("kvgossip_http_held", "gauge", Some(Unit::Bytes), &["door", "what"]),
                "Memory that clients hold: bodies that have arrived, large answers that are not read yet, large \
                 interests of watchers",
                Family::default(),
            ),
        }
    }

    pub(super) fn felled(&self, door: &'static str) {
        self.felled.get_or_create(&Door { door }).inc();
    }

    pub(super) fn held(&self, door: &'static str, what: &'static str, bytes: usize) {
        set(&self.held.get_or_create(&HeldAtDoor { door, what }), bytes as u64);
    }
}
