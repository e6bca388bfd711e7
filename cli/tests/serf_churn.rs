//! Six members whose processes crash, stand still and come back, under a stream of events and queries and with a change of
//! the key in the middle: three of them this project's agents, beside six of Serf's that get the same at the same time.
#![cfg(target_os = "linux")]

#[path = "../../membership/tests/serf_agents/client.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod client;
#[path = "../../membership/tests/serf_agents/agent.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod serf;
mod support;

use client::Client;
use std::collections::{BTreeSet, HashSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use support::Desk;
use support::asked::Rpc;
use support::process::{Launch, Process};
use tokio::task::block_in_place;

/// How long members come and go: this variable says it in seconds.
const LENGTH: &str = "KVGOSSIP_CHURN_SECONDS";
/// Without it.
const DEFAULT_LENGTH: Duration = Duration::from_secs(60);
const MEMBERS: usize = 6;
const OLD_KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const NEW_KEY: &str = "CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk=";
/// 50 events a second.
const BETWEEN_EVENTS: Duration = Duration::from_millis(20);
/// 5 queries a second.
const BETWEEN_QUERIES: Duration = Duration::from_millis(200);
/// How long members may take to answer a query.
const QUERY: Duration = Duration::from_secs(3);
/// Whatever is sent so shortly before or after a member is away need not arrive there.
const NEAR: Duration = Duration::from_secs(5);
/// How long a crashed member is away.
const CRASHED: Duration = Duration::from_secs(6);
/// How long a stopped member stands still: shorter than it takes to be taken for failed, and longer.
const STOPPED: [Duration; 2] = [Duration::from_secs(3), Duration::from_secs(12)];
/// A run without any loss has no room for chance: so many of 1,000 may be lost beyond what Serf's agents lose.
const CHANCE_PER_MILLE: usize = 2;

/// What a process is.
enum Running {
    Serf(Option<serf::Agent>),
    Ours(Launch, Process),
}

/// A member and the means to treat it badly.
struct Node {
    running: Running,
    log: PathBuf,
    gossip: SocketAddr,
    place: Arc<Place>,
}

/// What the traffic knows of a member.
struct Place {
    name: String,
    rpc: Rpc,
    /// Whether a client is subscribed to its events.
    is_heard: AtomicBool,
    /// The numbers of the events that it has told of.
    heard: Mutex<HashSet<u64>>,
    /// From when to when it was away.
    away: Mutex<Vec<(Instant, Option<Instant>)>>,
}

impl Place {
    fn is_away(&self) -> bool {
        self.away.lock().expect("unpoisoned").last().is_some_and(|(_, back)| back.is_none())
    }

    fn goes(&self) {
        self.away.lock().expect("unpoisoned").push((Instant::now(), None));
    }

    fn is_back(&self) {
        let mut away = self.away.lock().expect("unpoisoned");
        away.last_mut().expect("it went").1 = Some(Instant::now());
    }

    /// Whether it was there all the time around a moment.
    fn was_there(&self, moment: Instant) -> bool {
        let away = self.away.lock().expect("unpoisoned");
        away.iter().all(|(went, back)| moment + NEAR < *went || back.is_some_and(|back| back + NEAR < moment))
    }

    /// Collects what the member tells of, whenever it runs.
    async fn hear(self: Arc<Self>) {
        loop {
            if let Some(mut client) = Client::connect(&self.rpc.address).await
                && client.subscribe("churn").await.is_some()
            {
                self.is_heard.store(true, Ordering::Relaxed);
                while let Some(payload) = client.event().await {
                    let number = u64::from_be_bytes(payload.try_into().expect("8 bytes"));
                    self.heard.lock().expect("unpoisoned").insert(number);
                }
                self.is_heard.store(false, Ordering::Relaxed);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Node {
    async fn start(desk: &Desk, name: &str, is_ours: bool, join: Option<SocketAddr>) -> Self {
        let ip = serf::fresh_ip();
        let gossip = SocketAddr::from((ip, serf::GOSSIP_PORT));
        let ring = desk.path(format!("{name}.ring")).display().to_string();
        std::fs::write(&ring, format!("[\"{OLD_KEY}\"]")).expect("a file");
        let (running, address) = if is_ours {
            let rpc = format!("{ip}:7373");
            let launch = Launch::admitting_members(name).gossiping_at(ip);
            let launch = launch.with(&["--name", name, "--keyring", &ring, "--rpc", &rpc]);
            let launch = match join {
                Some(join) => launch.with(&["--join", &join.to_string()]),
                None => launch,
            };
            let process = block_in_place(|| launch.start(desk));
            (Running::Ours(launch, process), rpc)
        } else {
            let mut args = vec![format!("-keyring-file={ring}")];
            args.extend(join.map(|join| format!("-retry-join={join}")));
            args.extend(join.map(|_| "-retry-interval=1s".to_owned()));
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let agent = serf::Agent::start_at(name, gossip, &args).await;
            let rpc = agent.rpc().to_owned();
            (Running::Serf(Some(agent)), rpc)
        };
        let place = Arc::new(Place {
            name: name.to_owned(),
            rpc: Rpc { address },
            is_heard: AtomicBool::new(false),
            heard: Mutex::default(),
            away: Mutex::default(),
        });
        tokio::spawn(place.clone().hear());
        Self { running, log: desk.path(format!("{name}.log")), gossip, place }
    }

    fn id(&self) -> u32 {
        match &self.running {
            Running::Serf(agent) => agent.as_ref().expect("it runs").id(),
            Running::Ours(_, process) => process.id(),
        }
    }

    /// In KiB.
    fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
        line.trim_end_matches(" kB").trim().parse().expect("a number")
    }

    /// SIGKILL, and a new start after a while.
    async fn crashes(&mut self, desk: &Desk) {
        self.place.goes();
        match &mut self.running {
            Running::Serf(agent) => agent.as_mut().expect("it runs").kill(),
            Running::Ours(_, process) => process.kill(),
        }
        tokio::time::sleep(CRASHED).await;
        match &mut self.running {
            Running::Serf(agent) => *agent = Some(agent.take().expect("it ran").restart().await),
            Running::Ours(launch, process) => *process = block_in_place(|| launch.start(desk)),
        }
        self.comes_back().await;
    }

    async fn stands_still(&mut self, time: Duration) {
        self.place.goes();
        self.signal("STOP");
        tokio::time::sleep(time).await;
        self.signal("CONT");
        self.comes_back().await;
    }

    fn signal(&self, signal: &str) {
        match &self.running {
            Running::Serf(agent) => agent.as_ref().expect("it runs").signal(signal),
            Running::Ours(_, process) => process.signal(signal),
        }
    }

    /// Waits until it is heard and sees all others.
    async fn comes_back(&self) {
        let is_heard = async || self.place.is_heard.load(Ordering::Relaxed).then_some(());
        serf::eventually("its events are heard", is_heard).await;
        wait_for_all(&self.place).await;
        self.place.is_back();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Ok(log) = std::fs::read_to_string(&self.log)
        {
            eprintln!("--- log of {} ---\n{log}", self.place.name);
        }
    }
}

fn sees_all(place: &Place) -> bool {
    let members = block_in_place(|| place.rpc.members(&["-status", "alive"]));
    members.len() == MEMBERS
}

/// An event or a query: when, and who sent it.
struct Sent {
    when: Instant,
    by: usize,
    /// Who has acknowledged a query.
    acks: BTreeSet<String>,
}

/// Six members and what was sent among them.
struct Cluster {
    kind: &'static str,
    nodes: Vec<Node>,
    traffic: Arc<Traffic>,
}

struct Traffic {
    places: Vec<Arc<Place>>,
    /// By their numbers; none for those of which the sender may not have heard.
    events: Mutex<Vec<Option<Sent>>>,
    queries: Mutex<Vec<Sent>>,
    is_over: AtomicBool,
}

impl Traffic {
    /// The next member that can send something.
    fn sender(&self, number: usize) -> usize {
        let mut order = (0..MEMBERS).map(|next| (number + next) % MEMBERS);
        order.find(|member| !self.places[*member].is_away()).expect("the first is always there")
    }

    /// Sends events, each time from another member, until it is over.
    async fn send_events(self: Arc<Self>) {
        let mut clients: Vec<Option<Client>> = (0..MEMBERS).map(|_| None).collect();
        let mut pace = tokio::time::interval(BETWEEN_EVENTS);
        pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for number in 0.. {
            pace.tick().await;
            if self.is_over.load(Ordering::Relaxed) {
                return;
            }
            let (by, when) = (self.sender(number), Instant::now());
            let send = async {
                if clients[by].is_none() {
                    clients[by] = Client::connect(&self.places[by].rpc.address).await;
                }
                clients[by].as_mut()?.send_event("churn", (number as u64).to_be_bytes().to_vec()).await
            };
            let sent = tokio::time::timeout(QUERY, send).await.ok().flatten();
            if sent.is_none() {
                clients[by] = None;
            }
            let sent = sent.map(|()| Sent { when, by, acks: BTreeSet::new() });
            self.events.lock().expect("unpoisoned").push(sent);
        }
    }

    /// Asks everybody, each time from another member, until it is over.
    async fn send_queries(self: Arc<Self>) {
        let mut pace = tokio::time::interval(BETWEEN_QUERIES);
        pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for number in 0.. {
            pace.tick().await;
            if self.is_over.load(Ordering::Relaxed) {
                return;
            }
            let (traffic, by, when) = (self.clone(), self.sender(number), Instant::now());
            tokio::spawn(async move {
                let ask = async {
                    Client::connect(&traffic.places[by].rpc.address).await?.acks("who", QUERY).await
                };
                if let Ok(Some(acks)) = tokio::time::timeout(QUERY + NEAR, ask).await {
                    traffic.queries.lock().expect("unpoisoned").push(Sent { when, by, acks });
                }
            });
        }
    }

    /// What should have arrived and what did not, of events and of acks.
    fn losses(&self) -> [Losses; 2] {
        let mut losses = [Losses::default(); 2];
        let heard: Vec<_> = self.places.iter().map(|place| place.heard.lock().expect("unpoisoned")).collect();
        let events = self.events.lock().expect("unpoisoned");
        let queries = self.queries.lock().expect("unpoisoned");
        let there = |sent: &Sent| {
            let is_there = |member: &usize| self.places[*member].was_there(sent.when);
            let all = is_there(&sent.by).then(|| (0..MEMBERS).filter(is_there));
            all.into_iter().flatten().collect::<Vec<_>>()
        };
        for (number, sent) in events.iter().enumerate() {
            for member in sent.iter().flat_map(there) {
                losses[0].count(heard[member].contains(&(number as u64)));
            }
        }
        for sent in queries.iter() {
            for member in there(sent) {
                losses[1].count(sent.acks.contains(&self.places[member].name));
            }
        }
        losses
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Losses {
    expected: usize,
    lost: usize,
}

impl Losses {
    fn count(&mut self, arrived: bool) {
        self.expected += 1;
        self.lost += usize::from(!arrived);
    }

    /// Whether no larger part was lost than at Serf's agents and a fifth more.
    fn is_no_more_than(self, serf: Self) -> bool {
        // As if as much had been sent in both.
        let serf_lost = serf.lost * self.expected / serf.expected.max(1);
        self.lost <= serf_lost * 12 / 10 + self.expected * CHANCE_PER_MILLE / 1_000
    }
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
        let (events, queries) = Default::default();
        let traffic = Arc::new(Traffic { places, events, queries, is_over: AtomicBool::new(false) });
        tokio::spawn(traffic.clone().send_events());
        tokio::spawn(traffic.clone().send_queries());
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
        for place in &self.traffic.places {
            wait_for_all(place).await;
        }
        let keys = |args: &[&str]| block_in_place(|| self.nodes[0].place.rpc.serf("keys", args));
        serf::eventually(&format!("{}: the key is changed", self.kind), async || {
            for change in [["-install", NEW_KEY], ["-use", NEW_KEY], ["-remove", OLD_KEY]] {
                if keys(&change).code != 0 {
                    return None;
                }
            }
            self.is_rotated().then_some(())
        })
        .await;
    }

    fn is_rotated(&self) -> bool {
        let listed = block_in_place(|| self.nodes[0].place.rpc.serf("keys", &["-list"]));
        let whole = listed.text().lines().any(|line| line.starts_with(NEW_KEY) && line.ends_with("[6/6]"));
        whole && !listed.text().contains(OLD_KEY)
    }

    /// The largest size in KiB of the agents of this project that were never restarted; of all if they are Serf's.
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
        self.traffic.is_over.store(true, Ordering::Relaxed);
        tokio::time::sleep(2 * NEAR).await;
        let all = format!("{}: all members have the new key alone", self.kind);
        serf::eventually(&all, async || self.is_rotated().then_some(())).await;
        self.traffic.losses()
    }

    async fn run(mut self, desk: Arc<Desk>, length: Duration) -> Outcome {
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

async fn wait_for_all(place: &Place) {
    let what = format!("{} sees all", place.name);
    serf::eventually(&what, async || sees_all(place).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_comes_and_goes_loses_no_more_than_at_serfs_agents_and_heals() {
    let length = std::env::var(LENGTH).ok().map(|text| text.parse().expect("a number of seconds"));
    let length = length.map_or(DEFAULT_LENGTH, Duration::from_secs);
    let desk = Arc::new(Desk::new());
    let mixed = Cluster::start(&desk, "mixed", true).await;
    let pure = Cluster::start(&desk, "pure", false).await;
    // Tasks of their own: they block their threads now and then.
    let [mixed, pure] = [mixed, pure].map(|cluster| tokio::spawn(cluster.run(desk.clone(), length)));
    let (mixed, pure) = (mixed.await.expect("no panic"), pure.await.expect("no panic"));
    println!("three agents of each kind: {mixed:?}\nsix of Serf's: {pure:?}");
    assert!(mixed.events.expected > 1_000 && mixed.acks.expected > 100, "{mixed:?}");
    assert!(mixed.events.is_no_more_than(pure.events), "events: {mixed:?}, Serf's: {pure:?}");
    assert!(mixed.acks.is_no_more_than(pure.acks), "acks: {mixed:?}, Serf's: {pure:?}");
    let [early, late] = mixed.resident;
    assert!(late <= early + early / 5 + 4 * 1_024, "memory grows from {early} KiB to {late} KiB");
}
