//! Is it well, and if not why: what people and monitors ask an agent.

use super::Agent;
use crate::clock;
use crate::disk;
use crate::gossip::Gossip;
use crate::metrics::Holdings;
use kvgossip_api::{Counts, Digests, StatusResponse};
use kvgossip_grants::Signer;

impl Agent {
    /// Asks the membership for what [`Agent::metrics_text`] shows of it.
    pub async fn sample_gossip(&self) {
        if let Some(gossip) = &self.inner.gossip {
            gossip.sample().await;
        }
    }

    /// Everything that is counted and measured, as Prometheus reads it; of the membership what
    /// [`Agent::sample_gossip`] found last. Looks at the files of the store: call it where blocking is allowed.
    pub fn metrics_text(&self) -> Result<String, std::fmt::Error> {
        let view = self.store().view();
        let authority = view.authority();
        let rows = self.inner.peers.rows();
        let count =
            |holds: fn(&kvgossip_api::PeerRow) -> bool| rows.iter().filter(|row| holds(row)).count() as u64;
        let counts =
            [authority.grants().count(), authority.revocations().count(), authority.floors().count()];
        let holdings = Holdings {
            keys: view.entries().len() as u64,
            authority: counts.map(|count| count as u64),
            waiting: self.store().waiting() as u64,
            peers_listed: count(|row| row.listed),
            peers_connected: count(|row| row.connected),
            peers_equal: count(|row| row.equal),
            store_bytes: self.inner.store_dir.as_deref().map_or(0, disk::used_bytes),
            ready: self.unready().is_empty(),
            watchers: self.hub().watchers() as u64,
            started_at_us: self.inner.started_at.as_micros(),
            gossip: self.inner.gossip.as_ref().map(Gossip::last_sample).unwrap_or_default(),
        };
        self.inner.intake.metrics().text(&holdings)
    }

    /// What the agent says of itself.
    pub fn status(&self) -> StatusResponse {
        let view = self.store().view();
        let authority = view.authority();
        let reasons = self.unready();
        StatusResponse {
            version: env!("CARGO_PKG_VERSION").into(),
            cluster: authority.cluster().to_string(),
            root: authority.root().entity().to_string(),
            root_pem: authority.root().to_pem(),
            replica: self.inner.peers.id().to_string(),
            identity: self.inner.identity.as_ref().map(|key| key.public().entity().to_string()),
            now_us: clock::now().as_micros(),
            started_at_us: self.inner.started_at.as_micros(),
            sync_address: self.inner.peers.address().to_string(),
            http_address: self.inner.http.map(|address| address.to_string()),
            digests: Digests {
                root: view.root().to_string(),
                authority: view.authority_root().to_string(),
                entries: view.entries_root().to_string(),
            },
            counts: Counts {
                keys: view.entries().len() as u64,
                grants: authority.grants().count() as u64,
                revocations: authority.revocations().count() as u64,
                floors: authority.floors().count() as u64,
            },
            peers: self.inner.peers.rows(),
            ready: reasons.is_empty(),
            reasons,
        }
    }
}
