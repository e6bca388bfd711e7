//! A replica with mock signatures and a store in memory, for sessions to work for.

use kvgossip_engine::{Failure, Snapshot, StorageError};
use kvgossip_grants::{Fact, Verdict};
use kvgossip_sim::scribe::at;
use kvgossip_sim::{Scribe, SimReplica};
use kvgossip_transport::SessionHost;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A replica as a session sees it.
pub struct Host {
    pub replica: Mutex<SimReplica>,
    pub trouble: Trouble,
}

/// What is wrong with a host.
#[derive(Clone, Copy, PartialEq)]
pub enum Trouble {
    Nothing,
    /// Its store fails.
    Store,
    /// Its verifier panics.
    Panic,
    /// Every batch takes so long.
    Slow(Duration),
    /// It judges a batch at one moment: what stands on a grant of the same batch is unjustified at first.
    AtOnce,
}

impl Host {
    pub fn new(scribe: &Scribe, facts: &[Fact]) -> Arc<Self> {
        Self::with(scribe, facts, Trouble::Nothing)
    }

    pub fn with(scribe: &Scribe, facts: &[Fact], trouble: Trouble) -> Arc<Self> {
        let replica = Mutex::new(replica(scribe, facts));
        Arc::new(Self { replica, trouble })
    }

    fn judge_at_once(&self, facts: Vec<Fact>) -> Vec<Verdict> {
        let mut replica = self.replica.lock().unwrap();
        let checked: Vec<_> = facts.into_iter().map(|fact| replica.check(fact)).collect();
        let good = checked.iter().filter_map(|checked| checked.clone().ok()).collect();
        let mut applied = replica.apply(good).into_iter();
        checked.into_iter().map(|checked| checked.map_or_else(|no| no, |_| applied.next().unwrap())).collect()
    }

    pub fn len(&self) -> usize {
        self.replica.lock().unwrap().view().entries().len()
    }
}

/// A replica that was offered these facts.
pub fn replica(scribe: &Scribe, facts: &[Fact]) -> SimReplica {
    let mut replica = SimReplica::new(scribe.root().clone(), at(1_000_000));
    for fact in facts {
        replica.offer(fact.clone());
    }
    replica
}

impl SessionHost for Host {
    fn snapshot(&self) -> Snapshot {
        self.replica.lock().unwrap().snapshot()
    }

    async fn judge(&self, facts: Vec<Fact>) -> Result<Vec<Verdict>, Failure> {
        match self.trouble {
            Trouble::Nothing => {}
            Trouble::AtOnce => return Ok(self.judge_at_once(facts)),
            Trouble::Store => return Err(StorageError::Full.into()),
            Trouble::Panic => panic!("planted"),
            Trouble::Slow(time) => tokio::time::sleep(time).await,
        }
        let mut replica = self.replica.lock().unwrap();
        Ok(facts.into_iter().map(|fact| replica.offer(fact)).collect())
    }
}
