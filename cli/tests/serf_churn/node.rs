//! A member that runs as a process, of either kind, and what can be done to it.

use kvgossip_testkit::desk::Desk;
use kvgossip_testkit::process::{Launch, Process};
use kvgossip_testkit::serf;
use kvgossip_testkit::serf::command::Rpc;
use kvgossip_testkit::serf::rpc::Client;
use kvgossip_testkit::wait::eventually;
use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::block_in_place;

/// Of each cluster.
pub(crate) const MEMBERS: usize = 6;
pub(crate) const OLD_KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
/// Whatever is sent so shortly before or after a member is away need not arrive there.
pub(crate) const NEAR: Duration = Duration::from_secs(5);
/// How long a crashed member is away.
const CRASHED: Duration = Duration::from_secs(6);

/// What a process is.
enum Running {
    Serf(Option<serf::Agent>),
    Ours(Launch, Process),
}

/// A member and the means to treat it badly.
pub(crate) struct Node {
    running: Running,
    log: PathBuf,
    pub(crate) gossip: SocketAddr,
    pub(crate) place: Arc<Place>,
}

/// What the traffic knows of a member.
pub(crate) struct Place {
    pub(crate) name: String,
    pub(crate) rpc: Rpc,
    /// Whether a client is subscribed to its events.
    is_heard: AtomicBool,
    /// The numbers of the events that it has told of.
    pub(crate) heard: Mutex<HashSet<u64>>,
    /// From when to when it was away.
    away: Mutex<Vec<(Instant, Option<Instant>)>>,
}

impl Place {
    pub(crate) fn is_away(&self) -> bool {
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
    pub(crate) fn was_there(&self, moment: Instant) -> bool {
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
    pub(crate) async fn start(desk: &Desk, name: &str, is_ours: bool, join: Option<SocketAddr>) -> Self {
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
    pub(crate) fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
        line.trim_end_matches(" kB").trim().parse().expect("a number")
    }

    /// SIGKILL, and a new start after a while.
    pub(crate) async fn crashes(&mut self, desk: &Desk) {
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

    pub(crate) async fn stands_still(&mut self, time: Duration) {
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
        let began = Instant::now();
        let is_heard = async || self.place.is_heard.load(Ordering::Relaxed).then_some(());
        eventually("its events are heard", is_heard).await;
        wait_for_all(&self.place).await;
        println!("{:>7.1?}: {} is back and sees all", began.elapsed(), self.place.name);
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

pub(crate) async fn wait_for_all(place: &Place) {
    let what = format!("{} sees all", place.name);
    eventually(&what, async || sees_all(place).then_some(())).await;
}
