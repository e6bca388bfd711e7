//! `kvgossip agent` as a process that clients attack: what it takes in memory, and who is served meanwhile.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use kvgossip_agent::now;
use kvgossip_grants::{EntryDraft, EntryFact, Fact, Grant, Key, Signed, Signer, SigningKey};
use kvgossip_membership::core::MAX_MEMBERS;
use kvgossip_membership::wire::memberlist::{NodeState, PushPull, VSN, ip_bytes, state};
use kvgossip_testkit::desk::Desk;
use kvgossip_testkit::process::{Launch, Process, status};
use kvgossip_testkit::wait::wait_until;
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::TcpSocket;

/// The program that is tested.
const PROGRAM: &str = env!("CARGO_BIN_EXE_kvgossip");

const MIB: u64 = 1 << 20;
/// How long the attack lasts at least.
const SIEGE: Duration = Duration::from_secs(5);
/// How many connections there may be over TCP: the places, the reserve, those that are about to end and those that wait; and
/// files that the store has open for a moment.
const MOST_CONNECTIONS: usize = 512 + 32 + 16 + 128 + 16;
/// How many rounds there are at least, on a machine however slow.
const ROUNDS: usize = 8;
/// How long a client of an attack waits before it sends another byte.
const DRIP: Duration = Duration::from_millis(250);
/// How long anybody else waits for an answer at most.
const SOON: Duration = Duration::from_secs(1);

struct Victim {
    desk: Desk,
    process: Process,
    address: SocketAddr,
}

impl Victim {
    fn start() -> Self {
        Self::start_with(&[])
    }

    fn start_with(args: &[&str]) -> Self {
        let desk = Desk::new(PROGRAM);
        let process = Launch::new(&desk, "data", "replica-a.pem").with(args).start(&desk);
        let address = status(&desk, "data")["http_address"].as_str().unwrap().parse().unwrap();
        Self { desk, process, address }
    }

    /// A number of kB of `/proc/PID/status`, in bytes.
    fn memory(&self, name: &str) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// How many file descriptors it has open.
    fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.process.id())).unwrap().count()
    }

    fn signer(&self, name: &str) -> SigningKey {
        SigningKey::from_pem(&self.desk.read(name)).unwrap()
    }

    fn root_entry(&self, key: &str, value: &[u8]) -> Fact {
        let root = self.signer("root.pem");
        let draft = EntryDraft {
            key: Key::parse(key).unwrap(),
            value: Some(Bytes::copy_from_slice(value)),
            timestamp: now(),
            grant: None,
        };
        Fact::Entry(EntryFact::sign(root.public().cluster(), draft, &root).unwrap())
    }

    fn put(&self, fact: &Fact) {
        let answer = self.offer(fact);
        assert!(answer.contains("\"merged\""), "{answer}");
    }

    /// What the agent says to a fact.
    fn offer(&self, fact: &Fact) -> String {
        let record = BASE64_STANDARD.encode(fact.to_record());
        ask(self.address, &post("facts", &format!("{{\"records_b64\":[\"{record}\"]}}")))
    }
}

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
}

fn post(route: &str, body: &str) -> String {
    format!(
        "POST /v1/{route} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// One request, and all of its answer.
fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

/// A connection from 127.0.0.`source`; of one that is deaf the system takes as little as it can.
async fn connect_from(
    source: u8,
    address: SocketAddr,
    is_deaf: bool,
) -> std::io::Result<tokio::net::TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if is_deaf {
        socket.set_recv_buffer_size(4096)?;
    }
    socket.bind(SocketAddr::from(([127, 0, 0, source], 0)))?;
    socket.connect(address).await
}

/// What a client does of an attack.
#[derive(Clone)]
struct Attack {
    request: String,
    /// What it goes on with, now and then.
    drip: &'static [u8],
    /// Whether the agent has a lot to tell it, of which it reads nothing.
    is_deaf: bool,
    /// How many times at once from each address.
    count: usize,
}

/// A client of an attack, which comes back as soon as it is thrown out.
async fn pester(source: u8, address: SocketAddr, attack: Attack) {
    let ended = if attack.is_deaf { Interest::ERROR } else { Interest::READABLE };
    loop {
        let Ok(mut stream) = connect_from(source, address, attack.is_deaf).await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        if stream.write_all(attack.request.as_bytes()).await.is_err() {
            continue;
        }
        loop {
            tokio::select! {
                // A refusal, or the end.
                _ = stream.ready(ended) => break,
                () = tokio::time::sleep(DRIP) => {}
            }
            if stream.write_all(attack.drip).await.is_err() {
                break;
            }
        }
    }
}

/// What one address does.
fn attacks() -> Vec<Attack> {
    let globs: Vec<_> = (0..64).map(|n| format!("/?/*a{n}/**")).collect();
    let interests = serde_json::json!({ "filters": vec![globs; 256] }).to_string();
    let head = "GET /v1/status HTTP/1.1\r\nhost: localhost\r\n";
    let chunked =
        "POST /v1/facts HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n100000\r\n";
    let attack = |request: String, drip, is_deaf, count| Attack { request, drip, is_deaf, count };
    vec![
        attack(post("watch", &interests), b"", false, 6),
        attack("GET /v1/watch?match=/big/** HTTP/1.1\r\nhost: localhost\r\n\r\n".into(), b"\n", true, 50),
        attack("GET /v1/kv/big/0 HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(16), b"\n", true, 6),
        attack(format!("{head}x: {}", "x".repeat(40_000)), b"x", false, 64),
        attack(format!("{chunked}{}", " ".repeat(200_000)), b" ", false, 32),
        attack(format!("{chunked}{}", " ".repeat(1_000_000)), b" ", false, 1),
    ]
}

/// What somebody else met meanwhile.
#[derive(Default)]
struct Met {
    rounds: usize,
    took: Vec<(&'static str, Duration)>,
    /// The most resident memory that was seen.
    most: u64,
    /// The most file descriptors.
    descriptors: usize,
}

impl Met {
    /// The median and the longest time, for each kind.
    fn times(&self) -> Vec<(&'static str, Duration, Duration)> {
        let mut kinds: BTreeMap<_, Vec<_>> = BTreeMap::new();
        self.took.iter().for_each(|(what, took)| kinds.entry(*what).or_default().push(*took));
        let times = kinds.into_iter().map(|(what, mut took)| {
            took.sort_unstable();
            (what, took[took.len() / 2], took[took.len() - 1])
        });
        times.collect()
    }
}

/// Asks for health, writes and watches for as long as the siege lasts.
async fn live_on(victim: &Victim) -> Met {
    let (address, mut met) = (victim.address, Met::default());
    let began = Instant::now();
    let mut watcher = connect_from(9, address, false).await.unwrap();
    let watch = "GET /v1/watch?key=/small HTTP/1.1\r\nhost: localhost\r\n\r\n";
    watcher.write_all(watch.as_bytes()).await.unwrap();
    while began.elapsed() < SIEGE || met.rounds < ROUNDS {
        met.rounds += 1;
        let value = format!("round {}", met.rounds);
        let record = BASE64_STANDARD.encode(victim.root_entry("/small", value.as_bytes()).to_record());
        let put = post("facts", &format!("{{\"records_b64\":[\"{record}\"]}}"));
        let asked = [
            ("healthz", get("/healthz"), "ok"),
            ("readyz", get("/readyz"), "ready"),
            ("put", put, "\"merged\""),
        ];
        for (what, request, expected) in asked {
            let asked = Instant::now();
            let mut stream = connect_from(9, address, false).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let answer = until_contains(&mut stream, expected).await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
            met.took.push((what, asked.elapsed()));
        }
        let put_at = Instant::now();
        until_contains(&mut watcher, &value).await;
        met.took.push(("watch", put_at.elapsed()));
        met.most = met.most.max(victim.memory("VmRSS:"));
        met.descriptors = met.descriptors.max(victim.descriptors());
    }
    met
}

#[test]
fn attacks_from_eight_addresses_take_a_bounded_memory_and_keep_nobody_waiting() {
    let victim = Victim::start();
    for number in 0..4 {
        victim.put(&victim.root_entry(&format!("/big/{number}"), &vec![b'v'; MIB as usize]));
    }
    let address = victim.address;
    fs::write(format!("/proc/{}/clear_refs", victim.process.id()), "5").unwrap();
    let (before, descriptors) = (victim.memory("VmRSS:"), victim.descriptors());
    let crowd = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    for attack in attacks() {
        for source in 11..=18 {
            for _ in 0..attack.count {
                crowd.spawn(pester(source, address, attack.clone()));
            }
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let met = runtime.block_on(live_on(&victim));
    crowd.shutdown_timeout(Duration::from_secs(10));
    let most = met.most.max(victim.memory("VmHWM:"));
    let grown = most.saturating_sub(before) / MIB;
    let connections = met.descriptors.saturating_sub(descriptors);
    let times = met.times();
    let metrics = ask(address, &get("/metrics"));
    let felled =
        metrics.lines().find(|line| line.starts_with("kvgossip_http_connections_felled_total{door=\"tcp\""));
    eprintln!(
        "{grown} MiB more at most; {connections} connections, {} rounds, median and longest: {times:?}; {felled:?}",
        met.rounds
    );
    assert!(grown <= 256, "{grown} MiB more");
    assert!(connections <= MOST_CONNECTIONS, "{connections} connections at a time");
    // It is some 0.3 s, and the attackers share the processors with the agent.
    assert!(times.iter().all(|(_, median, longest)| *median < 3 * SOON && *longest < 10 * SOON), "{times:?}");
    for route in ["/healthz", "/readyz"] {
        let number = |name: &str| {
            let line = metrics.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.trim().parse::<u64>().ok())
                .unwrap_or_else(|| panic!("{name} {metrics}"))
        };
        let soon =
            number(&format!("kvgossip_http_request_seconds_bucket{{le=\"0.4096\",route=\"{route}\"}}"));
        let all = number(&format!("kvgossip_http_request_seconds_count{{route=\"{route}\"}}"));
        assert!(all >= met.rounds as u64 && soon == all, "{route}: {soon} of {all} are answered soon");
    }
    wait_until("its memory falls back", || victim.memory("VmRSS:") < before + 64 * MIB);
    wait_until("nobody holds anything", || {
        let text = ask(address, &get("/metrics"));
        let mut held = text.lines().filter(|line| line.starts_with("kvgossip_http_held_bytes{door=\"tcp\""));
        held.all(|line| line.ends_with(" 0")) && text.contains("\nkvgossip_watchers 0\n")
    });
}

#[test]
fn a_store_has_the_limit_that_it_was_given() {
    let victim = Victim::start_with(&["--max-store", "4194304"]);
    let big = |number: u8| victim.root_entry(&format!("/big/{number}"), &vec![number; MIB as usize]);
    (0..3).for_each(|number| victim.put(&big(number)));
    let refused = victim.offer(&big(3));
    assert!(refused.contains("store.quota"), "{refused}");
    let status = status(&victim.desk, "data");
    assert_eq!(status["store"]["limit_bytes"], 4_194_304, "{status}");
    assert!(ask(victim.address, &get("/v1/kv/big/0")).starts_with("HTTP/1.1 200 "), "reads go on");
}

#[test]
fn a_list_of_forged_members_takes_a_bounded_memory() {
    let victim = Victim::start_with(&["--bind", "127.0.0.1:0", "--name", "victim"]);
    let members = victim.process.ask(&victim.desk, &["members", "--output", "json"]).exits(0).json();
    let gossip: SocketAddr = members[0]["address"].as_str().unwrap().parse().unwrap();
    // As many as one exchange has room for.
    let nodes = (0..150_000u32).map(|number| NodeState {
        addr: ip_bytes(Ipv4Addr::from_bits(0x0b00_0000 + number).into()),
        incarnation: 1,
        meta: None,
        name: format!("forged-{number}").into(),
        port: 7946,
        state: state::ALIVE,
        vsn: Some(VSN.to_vec()),
    });
    let forged = PushPull { nodes: nodes.collect(), ..PushPull::default() }.encode();
    fs::write(format!("/proc/{}/clear_refs", victim.process.id()), "5").unwrap();
    let before = victim.memory("VmRSS:");
    let mut stream = TcpStream::connect(gossip).unwrap();
    stream.write_all(&forged).unwrap();
    let refused = || {
        let metrics = ask(victim.address, &get("/metrics"));
        let line =
            metrics.lines().find(|line| line.starts_with("kvgossip_gossip_ignored_total{reason=\"full\"}"));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).unwrap_or_default()
    };
    wait_until("all others are refused", || refused() == 150_000 - MAX_MEMBERS as u64);
    let grown = victim.memory("VmHWM:").saturating_sub(before) / MIB;
    eprintln!("{grown} MiB more at most");
    assert!(grown <= 192, "{grown} MiB more");
    wait_until("what the list took falls back", || victim.memory("VmRSS:") < before + 96 * MIB);
    wait_until("its status says so", || {
        let status = status(&victim.desk, "data");
        status["reasons"].as_array().unwrap().iter().any(|reason| reason["code"] == "gossip.full")
    });
    let log = victim.desk.read("data.log");
    assert!(log.contains("gossip.full"), "{log}");
}

/// Reads until the text comes.
async fn until_contains(stream: &mut tokio::net::TcpStream, text: &str) -> String {
    let mut all = Vec::new();
    let reading = async {
        loop {
            let mut part = [0; 16 << 10];
            let read = stream.read(&mut part).await.unwrap();
            assert!(read > 0, "it ends: {}", String::from_utf8_lossy(&all));
            all.extend_from_slice(&part[..read]);
            if String::from_utf8_lossy(&all).contains(text) {
                return;
            }
        }
    };
    // Far longer than it may take: that is judged by who asked.
    tokio::time::timeout(Duration::from_secs(20), reading).await.expect("an answer");
    String::from_utf8_lossy(&all).into_owned()
}

/// A key with entries of 1 MiB, each under a grant of its own so that all of them stand.
fn long_key(victim: &Victim, entries: u8) {
    let (root, team) = (victim.signer("root.pem"), victim.signer("team.pem"));
    let cluster = root.public().cluster();
    for number in 0..entries {
        let grant = Grant {
            issuer: root.public().entity(),
            grantee: team.public().clone(),
            pattern: "/long".parse().unwrap(),
            subgrant: false,
            parent: None,
            issued_at: now(),
            expires_at: None,
            nonce: [number; 16],
        };
        let grant = Signed::sign(cluster, grant, &root).unwrap();
        let draft = EntryDraft {
            key: Key::parse("/long").unwrap(),
            value: Some(vec![b'a' + number; MIB as usize].into()),
            timestamp: now(),
            grant: Some(grant.id()),
        };
        victim.put(&Fact::Grant(grant));
        victim.put(&Fact::Entry(EntryFact::sign(cluster, draft, &team).unwrap()));
    }
}

#[test]
fn no_request_takes_more_than_16_mib() {
    let victim = Victim::start();
    long_key(&victim, 24);
    // Keys whose list takes more than a page.
    for first in [0, 1000] {
        let facts = (first..first + 1000).map(|number| {
            let key = format!("/{number}{}", format!("/{}", "k".repeat(255)).repeat(3));
            format!("\"{}\"", BASE64_STANDARD.encode(victim.root_entry(&key, b"v").to_record()))
        });
        let body = format!("{{\"records_b64\":[{}]}}", facts.collect::<Vec<_>>().join(","));
        assert!(ask(victim.address, &post("facts", &body)).contains("\"merged\""));
    }
    let record = BASE64_STANDARD.encode(victim.root_entry("/one", &vec![b'1'; MIB as usize]).to_record());
    let watch = |form: &str| {
        format!("GET /v1/watch?key=/long&form={form}&heartbeat_ms=100 HTTP/1.1\r\nhost: localhost\r\n\r\n")
    };
    let requests = [
        ("one of many entries", get("/v1/facts?match=/long&limit=1"), "record_b64"),
        ("a page of entries", get("/v1/facts?match=/long"), "\"next\":\"/long!"),
        ("all kinds", get("/v1/facts?limit=10000"), "\"next\""),
        ("a value", get("/v1/kv/long"), "kvgossip-entry"),
        ("keys", get("/v1/keys?limit=10000"), "\"next\":\"/"),
        ("a put", post("facts", &format!("{{\"records_b64\":[\"{record}\"]}}")), "\"verdict\""),
        ("values of a watch", watch("values"), ": told "),
        ("records of a watch", watch("records"), ": told "),
    ];
    let mut taken = Vec::new();
    for (what, request, expected) in &requests {
        // The first time makes what is made once, such as threads.
        for is_measured in [false, true] {
            fs::write(format!("/proc/{}/clear_refs", victim.process.id()), "5").unwrap();
            let before = victim.memory("VmRSS:");
            let mut stream = TcpStream::connect(victim.address).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            let (mut answer, mut part) = (String::new(), vec![0; 64 << 10]);
            let began = Instant::now();
            while !answer.contains(expected) {
                // Signs of life keep a stream from ending.
                assert!(began.elapsed() < Duration::from_secs(60), "{what}: {expected} does not come");
                let read = stream.read(&mut part).unwrap();
                assert!(read > 0, "{what} ends without {expected}: {:.1000}", answer);
                answer.push_str(&String::from_utf8_lossy(&part[..read]));
            }
            drop(stream);
            if is_measured {
                taken.push((*what, victim.memory("VmHWM:").saturating_sub(before) >> 10));
            }
        }
    }
    eprintln!("KiB at most: {taken:?}");
    assert!(taken.iter().all(|(_, kib)| *kib <= 16 << 10), "{taken:?}");
}
