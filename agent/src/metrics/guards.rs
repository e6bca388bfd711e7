//! Metrics of misbehaving peers and of the store's size limit.

use super::catalog::Catalog;
use super::labels::OffenceCode;
use super::{Holdings, set};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Unit;
use std::sync::atomic::Ordering;

/// The replicas shut out for misbehaviour, at a scrape.
#[derive(Clone, Debug, Default)]
pub(crate) struct ShutOutSample {
    pub(crate) now: u64,
    /// Number of times any replica was shut out, by the code of the offence.
    pub(crate) offences: Vec<(&'static str, u64)>,
    /// Number of initial packets refused because too many handshakes were in progress.
    pub(crate) turned_away: u64,
}

pub(super) struct Guards {
    shut_out: Gauge,
    offences: Family<OffenceCode, Counter>,
    turned_away: Counter,
    counted: Gauge,
    limit: Gauge,
}

impl Guards {
    pub(super) fn new(c: &mut Catalog) -> Self {
        Self {
            shut_out: c.add(
                ("kvgossip_peers_shut_out", "gauge", None, &[]),
                "Replicas that are shut out for misbehaviour; `status` names them",
                Gauge::default(),
            ),
            offences: c.add(
                ("kvgossip_peer_offences", "counter", None, &["code"]),
                "Times that a replica was shut out, by what it did",
                Family::default(),
            ),
            turned_away: c.add(
                ("kvgossip_peer_handshakes_turned_away", "counter", None, &[]),
                "First packets of replicas that were turned away because too many handshakes were under way",
                Counter::default(),
            ),
            counted: c.add(
                ("kvgossip_store_counted", "gauge", Some(Unit::Bytes), &[]),
                "Weight of the facts in the store, as --max-store counts it",
                Gauge::default(),
            ),
            limit: c.add(
                ("kvgossip_store_limit", "gauge", Some(Unit::Bytes), &[]),
                "Limit of that weight (--max-store); 0: no limit",
                Gauge::default(),
            ),
        }
    }

    pub(super) fn refresh(&self, now: &Holdings) {
        set(&self.shut_out, now.shut_out.now);
        self.turned_away.inner().store(now.shut_out.turned_away, Ordering::Relaxed);
        set(&self.counted, now.store_counted);
        set(&self.limit, now.store_limit);
        for (code, count) in &now.shut_out.offences {
            let counter = self.offences.get_or_create(&OffenceCode { code });
            counter.inner().store(*count, Ordering::Relaxed);
        }
    }
}
