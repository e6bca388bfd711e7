//! Where peers may listen: listed ones by name or address, members as gossip announces them.

use super::directory::Directory;
use super::target::PeerTarget;
use crate::address::Resolver;
use kvgossip_grants::ReplicaId;
use kvgossip_transport::{Connection, Whereabouts};
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// A replica whose member has failed is dialled at least this often, so that a cut of the network that ends is noticed.
const LONGEST_WAIT_FOR_FAILED: Duration = Duration::from_secs(5);

/// A peer that was listed at the start.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) target: PeerTarget,
    resolver: Resolver,
    /// What its name led to when it was looked up last, or could not be.
    found: Mutex<Result<Vec<SocketAddr>, String>>,
}

impl Listed {
    pub(super) fn new(target: PeerTarget, resolver: Resolver) -> Self {
        let found = Mutex::new(Ok(target.address.literal().into_iter().collect()));
        Self { target, resolver, found }
    }

    /// Whether a connection is with this peer.
    pub(super) fn is(&self, connection: &Connection) -> bool {
        match self.target.id {
            Some(id) => id == connection.peer(),
            None => self.found.lock().as_ref().is_ok_and(|found| found.contains(&connection.address())),
        }
    }

    /// Its addresses as they were looked up last, or why that failed.
    pub(super) fn last_found(&self) -> Result<Vec<SocketAddr>, String> {
        self.found.lock().clone()
    }
}

impl Whereabouts for Listed {
    async fn addresses(&self) -> Vec<SocketAddr> {
        let found = self.target.address.resolve(&self.resolver).await;
        let found = found.map_err(|error| format!("{}: {error}", self.target.address));
        let news = {
            let mut last = self.found.lock();
            let news = found.as_ref().err() != last.as_ref().err();
            *last = found.clone();
            news
        };
        match &found {
            Err(error) if news => {
                tracing::warn!(peer = %self.target.address, "the name is not found: {error}")
            }
            _ => {}
        }
        found.unwrap_or_default()
    }
}

/// What was seen of a member's replica at the last look.
type Seen = (bool, Vec<SocketAddr>);

/// A replica that members announce.
#[derive(Debug)]
pub(super) struct Announced {
    directory: Arc<Directory>,
    id: ReplicaId,
    seen: Mutex<Seen>,
}

impl Announced {
    pub(super) fn new(directory: Arc<Directory>, id: ReplicaId) -> Self {
        Self { directory, id, seen: Mutex::default() }
    }

    fn look(&self) -> Seen {
        let replica = self.directory.replica(&self.id);
        let mut addresses: Vec<_> = replica.announced.iter().map(|announced| announced.address).collect();
        // The order of members says nothing.
        addresses.sort_unstable();
        addresses.dedup();
        (replica.live, addresses)
    }
}

impl Whereabouts for Announced {
    async fn addresses(&self) -> Vec<SocketAddr> {
        let now = self.look();
        *self.seen.lock() = now.clone();
        now.1
    }

    async fn changed(&self) {
        let mut changes = self.directory.changes();
        // The directory lives as long as the agent.
        while self.look() == *self.seen.lock() && changes.changed().await.is_ok() {}
    }

    fn longest_wait(&self) -> Duration {
        if self.directory.is_live(&self.id) { kvgossip_transport::MAX_RETRY } else { LONGEST_WAIT_FOR_FAILED }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::{Address, Resolve};
    use std::io;

    struct Changing(Arc<Mutex<Vec<SocketAddr>>>);

    impl Resolve for Changing {
        fn resolve(&self, _: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
            Ok(self.0.lock().clone())
        }
    }

    #[tokio::test]
    async fn a_listed_name_is_looked_up_before_each_round_and_gives_all_its_addresses() {
        let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let names = Arc::new(Mutex::new(vec![at(1), at(2)]));
        let address = Address::parse("replica.example", 1).expect("a name");
        let listed = Listed::new(PeerTarget { address, id: None }, Resolver::new(Changing(names.clone())));
        assert_eq!(listed.addresses().await, [at(1), at(2)]);
        *names.lock() = vec![at(3)];
        assert_eq!(listed.addresses().await, [at(3)]);
        assert_eq!(listed.last_found(), Ok(vec![at(3)]));
        names.lock().clear();
        assert!(listed.addresses().await.is_empty());
        assert!(listed.last_found().is_err_and(|why| why.starts_with("replica.example:1: ")));
    }
}
