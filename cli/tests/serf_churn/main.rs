//! Six members whose processes crash, stand still and come back, under a stream of events and queries and with a change of
//! the key in the middle: three of them this project's agents, beside six of Serf's that get the same at the same time.
#![cfg(target_os = "linux")]

mod node;
mod traffic;

use kvgossip_testkit::desk::Desk;
use kvgossip_testkit::wait::eventually;
use node::{MEMBERS, NEAR, Node, OLD_KEY, wait_for_all};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::task::{block_in_place, spawn_blocking};
use traffic::{Losses, Traffic};

/// The program that is tested.
const PROGRAM: &str = env!("CARGO_BIN_EXE_kvgossip");

/// How long members come and go: this variable says it in seconds.
const LENGTH: &str = "KVGOSSIP_CHURN_SECONDS";
/// Without it.
const DEFAULT_LENGTH: Duration = Duration::from_secs(120);
const NEW_KEY: &str = "CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk=";
/// How long a stopped member stands still: shorter than it takes to be taken for failed, and longer.
const STOPPED: [Duration; 2] = [Duration::from_secs(3), Duration::from_secs(12)];

/// Six members and what was sent among them.
struct Cluster {
    kind: &'static str,
    nodes: Vec<Node>,
    traffic: Arc<Traffic>,
}

impl Cluster {
    /// Every second member is this project's if `with_ours`. The first is always there.
    async fn start(desk: &Desk, kind: &'static str, with_ours: bool) -> Self {
        let mut nodes: Vec<Node> = Vec::new();
        for number in 0..MEMBERS {
            let join = nodes.first().map(|first| first.gossip);
            let name = format!("{kind}{number}");
            nodes.push(Node::start(desk, &name, with_ours && number % 2 == 0, join).await);
        }
        let places: Vec<_> = nodes.iter().map(|node| node.place.clone()).collect();
        for place in &places {
            wait_for_all(place).await;
        }
        let traffic = Traffic::new(places);
        Self { kind, nodes, traffic }
    }

    /// Lets members crash and stand still for some time, one after the other.
    async fn churn(&mut self, desk: &Desk, time: Duration) {
        let began = Instant::now();
        for round in 0.. {
            // Of both kinds in turn; the first and the last stay.
            self.nodes[[4, 1][round % 2]].crashes(desk).await;
            if began.elapsed() > time {
                return;
            }
            self.nodes[[2, 3][round % 2]].stands_still(STOPPED[round / 2 % 2]).await;
            if began.elapsed() > time {
                return;
            }
        }
    }

    /// Changes the key while everybody is there. A step is said again until all members that the first then knows of have done
    /// it, and all steps until every member has the new key alone.
    async fn rotate(&self) {
        let began = Instant::now();
        for place in &self.traffic.places {
            wait_for_all(place).await;
        }
        println!("{:>7.1?}: all of {} see all", began.elapsed(), self.kind);
        let keys = |args: &[&str]| block_in_place(|| self.nodes[0].place.rpc.serf("keys", args));
        eventually(&format!("{}: the key is changed", self.kind), async || {
            for change in [["-install", NEW_KEY], ["-use", NEW_KEY], ["-remove", OLD_KEY]] {
                let changed = keys(&change);
                if changed.code != 0 {
                    println!("{:>7.1?}: {}: {changed:?}", began.elapsed(), self.kind);
                    return None;
                }
            }
            self.is_rotated().then_some(())
        })
        .await;
        println!("{:>7.1?}: the key of {} is changed", began.elapsed(), self.kind);
    }

    fn is_rotated(&self) -> bool {
        let listed = block_in_place(|| self.nodes[0].place.rpc.serf("keys", &["-list"]));
        let whole = listed.text().lines().any(|line| line.starts_with(NEW_KEY) && line.ends_with("[6/6]"));
        whole && !listed.text().contains(OLD_KEY)
    }

    /// The larger size in KiB of two that never crash; in a mixed cluster they are this project's.
    fn resident(&self) -> u64 {
        let lasting = [0, 2].map(|number| self.nodes[number].resident());
        lasting.into_iter().max().expect("two")
    }

    /// Everything that has to hold in the end; gives the losses.
    async fn end(&self) -> [Losses; 2] {
        for place in &self.traffic.places {
            wait_for_all(place).await;
        }
        // What is sent now arrives everywhere, too, or is counted as lost.
        tokio::time::sleep(2 * NEAR).await;
        self.traffic.stop();
        tokio::time::sleep(2 * NEAR).await;
        let all = format!("{}: all members have the new key alone", self.kind);
        eventually(&all, async || self.is_rotated().then_some(())).await;
        self.traffic.losses()
    }

    async fn run(mut self, desk: Arc<Desk>, length: Duration) -> Outcome {
        // Both clusters are complete now.
        self.traffic.start();
        self.churn(&desk, length / 4).await;
        let early = self.resident();
        self.churn(&desk, length / 4).await;
        self.rotate().await;
        self.churn(&desk, length / 2).await;
        let [events, acks] = self.end().await;
        Outcome { events, acks, resident: [early, self.resident()] }
    }
}

#[derive(Debug)]
struct Outcome {
    events: Losses,
    acks: Losses,
    /// In KiB, after the first quarter and at the end.
    resident: [u64; 2],
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_comes_and_goes_loses_no_more_than_at_serfs_agents_and_heals() {
    let length = std::env::var(LENGTH).ok().map(|text| text.parse().expect("a number of seconds"));
    let length = length.map_or(DEFAULT_LENGTH, Duration::from_secs);
    let desk = Arc::new(Desk::new(PROGRAM));
    let mixed = Cluster::start(&desk, "mixed", true).await;
    let pure = Cluster::start(&desk, "pure", false).await;
    // Threads of their own: they block now and then.
    let [mixed, pure] = [mixed, pure].map(|cluster| {
        let (runtime, desk) = (Handle::current(), desk.clone());
        spawn_blocking(move || runtime.block_on(cluster.run(desk, length)))
    });
    let (mixed, pure) = (mixed.await.expect("no panic"), pure.await.expect("no panic"));
    println!("three agents of each kind: {mixed:?}\nsix of Serf's: {pure:?}");
    assert!(mixed.events.expected > 1_000 && mixed.acks.expected > 100, "{mixed:?}");
    assert!(mixed.events.is_no_more_than(pure.events), "events: {mixed:?}, Serf's: {pure:?}");
    assert!(mixed.acks.is_no_more_than(pure.acks), "acks: {mixed:?}, Serf's: {pure:?}");
    let [early, late] = mixed.resident;
    assert!(late <= early + early / 5 + 4 * 1_024, "memory grows from {early} KiB to {late} KiB");
}
