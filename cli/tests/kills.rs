//! Agents are killed with -9 at random moments of puts, syncs and revocations.
//!
//! `KVGOSSIP_TEST_KILLS=100 cargo test --release -p kvgossip --test kills` kills a hundred times;
//! `KVGOSSIP_TEST_SEED` repeats what one run chose, though not its timing.
#![cfg(unix)]

use bytes::Bytes;
use kvgossip_client::AgentClient;
use kvgossip_grants::{
    AuthorityBody, By, EntryDraft, EntryFact, Fact, Grant, GrantId, Key, KeyGlob, Revocation, Signed, Signer,
    SigningKey,
};
use kvgossip_testkit::desk::{Desk, until};
use kvgossip_testkit::process::{Launch, Process, ask, status};
use kvgossip_testkit::wait::wait_until;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::runtime::Runtime;

/// The program that is tested.
const PROGRAM: &str = env!("CARGO_BIN_EXE_kvgossip");

const KILLS: u64 = 8;
const WRITERS: usize = 4;
/// The longest that agents are left alone; a round of so long makes hundreds of batches.
const MAX_ROUND_MS: u64 = 400;

fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// Who signs.
struct Cast {
    root: SigningKey,
    team: SigningKey,
    number: AtomicU64,
}

impl Cast {
    fn new(desk: &Desk) -> Self {
        let key = |name: &str| SigningKey::from_pem(&desk.read(name)).expect("a private key");
        Self { root: key("root.pem"), team: key("team.pem"), number: AtomicU64::new(0) }
    }

    fn sign<B: AuthorityBody>(&self, body: B, signer: &SigningKey) -> Signed<B> {
        Signed::sign(self.root.public().cluster(), body, signer).expect("a signature")
    }

    fn next(&self) -> u64 {
        self.number.fetch_add(1, Ordering::Relaxed)
    }

    fn grant(&self) -> Signed<Grant> {
        let grant = Grant {
            issuer: self.root.public().entity(),
            grantee: self.team.public().clone(),
            pattern: KeyGlob::parse("/n/**").expect("a glob"),
            subgrant: false,
            parent: None,
            issued_at: kvgossip_agent::now(),
            expires_at: None,
            nonce: u128::from(self.next()).to_le_bytes(),
        };
        self.sign(grant, &self.root)
    }

    fn revocation(&self, grant: &Signed<Grant>) -> Fact {
        let body = Revocation { grant: grant.clone(), by: By::Root, revoked_at: kvgossip_agent::now() };
        Fact::Revocation(self.sign(body, &self.root))
    }

    /// An entry of a key of its own.
    fn entry(&self, grant: Option<GrantId>, bytes: usize) -> (Key, Fact) {
        let key = Key::parse(&format!("/n/{:08}", self.next())).expect("a key");
        let signer = if grant.is_some() { &self.team } else { &self.root };
        let value = Some(Bytes::from(key.as_str().as_bytes().repeat(bytes / 11 + 1)));
        let draft = EntryDraft { key: key.clone(), value, timestamp: kvgossip_agent::now(), grant };
        let fact = EntryFact::sign(self.root.public().cluster(), draft, signer).expect("a signature");
        (key, Fact::Entry(fact))
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Standing {
    Live,
    /// Its revocation was sent.
    Ending,
    /// Its revocation was acknowledged.
    Ended,
}

/// What the first agent has acknowledged.
#[derive(Default)]
struct Acknowledged {
    entries: Vec<(Key, Option<GrantId>)>,
    grants: BTreeMap<GrantId, Standing>,
}

impl Acknowledged {
    fn demand(&self, keys: &BTreeSet<String>) {
        for (key, grant) in &self.entries {
            let standing = grant.map_or(Standing::Live, |grant| self.grants[&grant]);
            let is_there = keys.contains(key.as_str());
            match standing {
                Standing::Live => assert!(is_there, "{key} was acknowledged and is gone"),
                Standing::Ended => assert!(!is_there, "{key} stands on a revoked grant"),
                Standing::Ending => {}
            }
        }
    }
}

/// Puts until the agent is gone.
async fn write(
    client: AgentClient,
    cast: Arc<Cast>,
    grant: GrantId,
    book: Arc<Mutex<Acknowledged>>,
    seed: u64,
) {
    let mut rng = StdRng::seed_from_u64(seed);
    loop {
        let made: Vec<_> = (0..rng.random_range(1..6))
            .map(|_| {
                let grant = rng.random_bool(0.5).then_some(grant);
                let (key, fact) = cast.entry(grant, rng.random_range(0..2_000));
                (key, grant, fact)
            })
            .collect();
        let facts: Vec<_> = made.iter().map(|(_, _, fact)| fact.clone()).collect();
        let Ok(verdicts) = client.post_facts(&facts).await else { return };
        let mut book = book.lock().expect("no panic");
        for ((key, grant, _), row) in made.into_iter().zip(verdicts) {
            match row.verdict.as_str() {
                "merged" => book.entries.push((key, grant)),
                // Its grant was revoked meanwhile.
                "unjustified" => assert!(grant.is_some()),
                other => panic!("{key}: {other} {:?}", row.message),
            }
        }
    }
}

async fn revoke(client: AgentClient, cast: Arc<Cast>, grant: Signed<Grant>, book: Arc<Mutex<Acknowledged>>) {
    book.lock().expect("no panic").grants.insert(grant.id(), Standing::Ending);
    if let Ok(verdicts) = client.post_facts(&[cast.revocation(&grant)]).await {
        assert_eq!(verdicts[0].verdict, "merged");
        book.lock().expect("no panic").grants.insert(grant.id(), Standing::Ended);
    }
}

/// Checks a store without its agent: everything in it fits together, and its root is the one computed anew.
fn fsck(desk: &Desk, data: &str) -> serde_json::Value {
    desk.run(&["fsck", data, "--root", "root.pub.pem", "--output", "json"]).exits(0).json().remove(0)
}

fn keys(desk: &Desk, data: &str) -> BTreeSet<String> {
    ask(desk, data, &["ls"]).exits(0).text().lines().map(Into::into).collect()
}

fn client(desk: &Desk, data: &str) -> AgentClient {
    let socket = desk.path(data).join("agent.sock");
    AgentClient::new(format!("unix:{}", socket.display()).parse().expect("an endpoint"))
}

struct Pair {
    desk: Desk,
    launches: [Launch; 2],
    running: [Process; 2],
}

const DATA: [&str; 2] = ["first", "second"];

impl Pair {
    fn start() -> Self {
        let desk = Desk::new(PROGRAM);
        let (first, address) = Launch::new(&desk, DATA[0], "replica-a.pem").at_a_fixed_address();
        let second = Launch::new(&desk, DATA[1], "replica-b.pem").with(&["--peer", &address]);
        let running = [first.start(&desk), second.start(&desk)];
        Self { desk, launches: [first, second], running }
    }

    /// Kills one of them, checks what it left, and starts it again.
    fn kill(&mut self, which: usize) {
        self.running[which].kill();
        let left = fsck(&self.desk, DATA[which]);
        self.running[which] = self.launches[which].start(&self.desk);
        if which == 0 {
            // Nobody writes; what the second had more than it, it had from it.
            let root = &status(&self.desk, DATA[0])["digests"]["root"];
            assert!(*root == left["root"], "{root} is not {left}");
        }
    }
}

#[test]
fn what_was_acknowledged_survives_kills() {
    let kills = from_env("KVGOSSIP_TEST_KILLS").unwrap_or(KILLS);
    let seed = from_env("KVGOSSIP_TEST_SEED").unwrap_or_else(rand::random);
    println!("KVGOSSIP_TEST_SEED={seed}, {kills} kills");
    let (mut rng, runtime) = (StdRng::seed_from_u64(seed), Runtime::new().expect("a runtime"));
    let mut pair = Pair::start();
    let (cast, book) = (Arc::new(Cast::new(&pair.desk)), Arc::new(Mutex::new(Acknowledged::default())));
    let mut revoked = 0;
    for kill in 0..kills {
        let client = client(&pair.desk, DATA[0]);
        let grant = cast.grant();
        let granted = runtime.block_on(client.post_facts(&[Fact::Grant(grant.clone())])).expect("it runs");
        assert_eq!(granted[0].verdict, "merged");
        book.lock().expect("no panic").grants.insert(grant.id(), Standing::Live);
        let tasks: Vec<_> = (0..WRITERS)
            .map(|_| {
                runtime.spawn(write(client.clone(), cast.clone(), grant.id(), book.clone(), rng.random()))
            })
            .collect();
        let time = Duration::from_millis(rng.random_range(20..MAX_ROUND_MS));
        let task = revoke(client.clone(), cast.clone(), grant.clone(), book.clone());
        let revoker = if kill == 0 {
            // Chance may spare all others, and a slow machine may write nothing before a kill.
            wait_until("something is acknowledged", || !book.lock().expect("no panic").entries.is_empty());
            runtime.block_on(task);
            None
        } else {
            // Two of three times also revoke: early, or so that the kill falls into it.
            rng.random_bool(0.66).then(|| {
                let wait = if rng.random_bool(0.5) { time.mul_f64(rng.random()) } else { time };
                runtime.spawn(async move {
                    tokio::time::sleep(wait).await;
                    task.await;
                })
            })
        };
        // How long it is decides nothing; it is the moment of the kill.
        std::thread::sleep(time);
        let second_too = rng.random_bool(0.4);
        if second_too {
            pair.running[1].kill();
        }
        pair.running[0].kill();
        for task in tasks.into_iter().chain(revoker) {
            runtime.block_on(task).expect("no panic");
        }
        pair.kill(0);
        if second_too {
            pair.kill(1);
        }
        let book = book.lock().expect("no panic");
        book.demand(&keys(&pair.desk, DATA[0]));
        revoked += book.grants.values().filter(|standing| **standing == Standing::Ended).count();
        if kills > KILLS {
            println!("kill {kill}: {} entries acknowledged", book.entries.len());
        }
    }
    let roots = || DATA.map(|data| status(&pair.desk, data)["digests"]["root"].clone());
    until(|| ask(&pair.desk, DATA[1], &["status"]), |_| roots()[0] == roots()[1]);
    assert_eq!(roots()[0], roots()[1], "they converge");
    let book = book.lock().expect("no panic");
    book.demand(&keys(&pair.desk, DATA[1]));
    assert!(revoked > 0, "the first revocation was acknowledged");
    println!("{} entries were acknowledged", book.entries.len());
}

/// Bytes that a killed session brought are not brought again.
#[test]
fn a_session_that_was_killed_is_resumed_with_the_rest_alone() {
    const ENTRIES: u64 = 3_000;
    const KILLS: usize = 3;
    let desk = Desk::new(PROGRAM);
    let first = Launch::new(&desk, DATA[0], "replica-a.pem").start(&desk);
    let (cast, runtime) = (Cast::new(&desk), Runtime::new().expect("a runtime"));
    let facts: Vec<_> = (0..ENTRIES).map(|_| cast.entry(None, 3_000).1).collect();
    let posted = runtime.block_on(client(&desk, DATA[0]).post_facts(&facts)).expect("it runs");
    assert!(posted.iter().all(|row| row.verdict == "merged"));
    let address = status(&desk, DATA[0])["sync_address"].as_str().expect("an address").to_owned();
    // It takes no session by itself: nobody has told it of the other.
    let launch = Launch::new(&desk, DATA[1], "replica-b.pem");
    let (mut had, mut cut) = (0, 0);
    for _ in 0..KILLS {
        let mut second = launch.start(&desk);
        let mut sync = desk.command(&["sync", &address, "--data-dir", DATA[1]]);
        let sync = sync.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let mut sync = sync.spawn().expect("the command starts");
        let client = client(&desk, DATA[1]);
        let began = std::time::Instant::now();
        while runtime.block_on(client.status()).expect("it runs").counts.keys <= had {
            assert!(began.elapsed() < Duration::from_secs(60), "nothing arrives");
        }
        second.kill();
        let _ = sync.wait();
        let left = fsck(&desk, DATA[1])["keys"].as_u64().expect("a number");
        assert!(left > had, "what was seen is there");
        cut += usize::from(left < ENTRIES);
        had = left;
    }
    assert!(cut > 0, "no session was cut in the middle");
    let second = launch.start(&desk);
    let report = second.ask(&desk, &["sync", &address, "--output", "json"]).exits(0).json().remove(0);
    assert_eq!((&report["outcome"], &report["waste"]), (&"equal".into(), &0.into()), "{report}");
    assert_eq!(report["merged"], ENTRIES - had, "{report}");
    assert!(first.stop().success() && second.stop().success());
}
