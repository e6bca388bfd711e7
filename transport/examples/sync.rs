//! Measures a session over QUIC on loopback: a fresh replica takes everything from a full one, with mock
//! signatures and a store in memory, so that what is seen is the cost of the session and the transport.
//!
//! `cargo run --release -p kvgossip-transport --example sync -- KEY_A.pem KEY_B.pem [ENTRIES]`

use kvgossip_engine::{Failure, Snapshot};
use kvgossip_grants::{Fact, PathPrefix, Verdict};
use kvgossip_sim::scribe::at;
use kvgossip_sim::{Scribe, SimReplica};
use kvgossip_transport::{
    Endpoint, Limits, Policy, ReplicaKey, SessionHost, SessionOptions, SessionReport, TransportError,
    run_session,
};
use parking_lot::Mutex;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

const VALUE_LEN: usize = 400;

struct Host(Mutex<SimReplica>);

impl Host {
    fn new(scribe: &Scribe) -> Arc<Self> {
        Arc::new(Self(Mutex::new(SimReplica::new(scribe.root().clone(), at(1_000_000)))))
    }

    fn take(&self, facts: Vec<Fact>) -> Vec<Verdict> {
        let mut replica = self.0.lock();
        let mut verdicts = Vec::with_capacity(facts.len());
        let mut good = Vec::with_capacity(facts.len());
        for fact in facts {
            match replica.check(fact) {
                Ok(verified) => {
                    good.push(verified);
                    verdicts.push(None);
                }
                Err(verdict) => verdicts.push(Some(verdict)),
            }
        }
        let mut applied = replica.apply(good).into_iter();
        verdicts.into_iter().filter_map(|verdict| verdict.or_else(|| applied.next())).collect()
    }
}

impl SessionHost for Host {
    fn snapshot(&self) -> Snapshot {
        self.0.lock().snapshot()
    }

    async fn judge(&self, facts: Vec<Fact>) -> Result<Vec<Verdict>, Failure> {
        Ok(self.take(facts))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [a, b, rest @ ..] = args.as_slice() else {
        return Err("two files with replica keys are needed".into());
    };
    let entries: u64 = rest.first().map_or(Ok(100_000), |text| text.parse())?;
    let (a, b) = (ReplicaKey::from_pem(&std::fs::read(a)?)?, ReplicaKey::from_pem(&std::fs::read(b)?)?);
    let (dialler, dialled) = (bind(&a, &b)?, bind(&b, &a)?);

    let scribe = Scribe::new(1);
    let (full, fresh) = (Host::new(&scribe), Host::new(&scribe));
    let value = |n: u64| n.to_le_bytes().repeat(VALUE_LEN / 8);
    full.take((0..entries).map(|n| scribe.set(0, &format!("/k/{n}"), &value(n), 1, None)).collect());

    let address = dialled.local_addr()?;
    let serving = tokio::spawn(serve(dialled, full));
    // A task of its own: the main one is no worker of the runtime.
    let pulling = tokio::spawn(async move {
        let connection = dialler.connect(address, Some(b.id())).await?;
        for what in ["everything", "nothing"] {
            let stream = connection.open_session().await?;
            print(what, &run_session(stream, options(2), Arc::clone(&fresh)).await);
        }
        Ok::<(), TransportError>(())
    });
    pulling.await??;
    serving.abort();
    Ok(())
}

async fn serve(endpoint: Endpoint, host: Arc<Host>) -> Result<(), TransportError> {
    let connection = endpoint.accept().await.ok_or(TransportError::ClosedHere)?;
    loop {
        let stream = connection.accept_session().await?;
        run_session(stream, options(1), Arc::clone(&host)).await;
    }
}

fn bind(key: &ReplicaKey, peer: &ReplicaKey) -> Result<Endpoint, TransportError> {
    let policy = Policy::new([peer.id()].into_iter().collect());
    Endpoint::bind(([127, 0, 0, 1], 0).into(), key.clone(), Arc::new(policy), Limits::default())
}

fn options(nonce: u64) -> SessionOptions {
    SessionOptions { scope: PathPrefix::root(), nonce: nonce.to_le_bytes(), takes_facts: true }
}

fn print(what: &str, report: &SessionReport) {
    let SessionReport { result, tally, bytes, time, .. } = report;
    let rate = |amount: u64, time: Duration| amount as f64 / time.as_secs_f64();
    println!(
        "{what}: {result:?} in {time:?}; {} entries ({:.0}/s), {} flights; {} B sent, {} B received ({:.1} MB/s), \
         overhead {} B",
        tally.merged,
        rate(tally.merged, *time),
        tally.flights,
        bytes.sent,
        bytes.received,
        rate(bytes.received, *time) / 1e6,
        tally.sent.overhead + tally.received.overhead,
    );
}
