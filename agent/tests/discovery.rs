//! How replicas find each other: names, several announcers of one id, cuts of the network, copied keys, other clusters.

use kvgossip_agent::gossip::GossipConfig;
use kvgossip_agent::{Address, Agent, Config, PeerTarget, Resolve, Resolver, now};
use kvgossip_api::MemberRow;
use kvgossip_grants::{ReplicaId, Signer, Verdict};
use kvgossip_membership::driver::{Answer, Answers, Link};
use kvgossip_membership::{Membership, Options, QueryParams, Tags, Timing};
use kvgossip_testkit::agents::*;
use kvgossip_testkit::wait::eventually;
use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Names that a test changes as it goes.
#[derive(Clone, Default)]
struct Names(Arc<Mutex<BTreeMap<String, Vec<SocketAddr>>>>);

impl Names {
    fn set(&self, name: &str, addresses: &[SocketAddr]) {
        self.0.lock().expect("whole").insert(name.to_owned(), addresses.to_vec());
    }
}

impl Resolve for Names {
    fn resolve(&self, host: &str, _port: u16) -> io::Result<Vec<SocketAddr>> {
        let known = self.0.lock().expect("whole").get(host).cloned();
        known.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such name"))
    }
}

const LOOPBACK: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

/// An agent that knows its peers from gossip alone.
fn member_config(number: usize, join: &[SocketAddr]) -> Config {
    let mut config = config(number);
    config.allowed = std::iter::empty().collect();
    let mut gossip = GossipConfig::new(LOOPBACK.into());
    gossip.name = Some(format!("m{number}"));
    gossip.join = join.iter().copied().map(Into::into).collect();
    gossip.timing = Timing::local();
    config.gossip = Some(gossip);
    config
}

fn gossip_address(agent: &Agent) -> SocketAddr {
    agent.gossip().expect("on").address()
}

async fn row(agent: &Agent, name: &str) -> Option<MemberRow> {
    let members = agent.gossip().expect("on").members().await.expect("runs").members;
    members.into_iter().find(|row| row.name == name)
}

async fn status(agent: &Agent, name: &str) -> Option<String> {
    row(agent, name).await.map(|row| row.status)
}

async fn write(agent: &Agent, key: &str) {
    let fact = entry(key, b"value", now(), root(), None);
    assert_eq!(put(agent, fact).await, Verdict::Merged);
}

/// A port where nobody answers, for as long as it is held.
fn silent() -> UdpSocket {
    UdpSocket::bind(SocketAddr::from(LOOPBACK)).expect("a port")
}

/// A member that is no replica and announces one.
async fn forger(name: &str, announced: usize, port: u16, join: SocketAddr) -> Membership {
    let cluster: String = cluster().to_string().chars().take(16).collect();
    let tags = [
        ("kvgossip", "2".to_owned()),
        ("kvg_port", port.to_string()),
        ("kvg_cluster", cluster),
        ("kvg_id", replica_id(announced).to_string()),
    ];
    let mut options = Options::new(name, SocketAddr::from(LOOPBACK));
    options.tags = tags.map(|(name, value)| (name.into(), value.into())).into_iter().collect::<Tags>();
    options.timing = Timing::local();
    let (member, mut events) = Membership::start(options).await.expect("it starts");
    tokio::spawn(async move { while events.recv().await.is_some() {} });
    member.join(&[join], true).await.expect("it joins");
    member
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_15_eight_members_that_announce_the_ids_of_a_pair_do_not_keep_it_apart() {
    let a = start(member_config(0, &[])).await;
    let held: Vec<UdpSocket> = (0..8).map(|_| silent()).collect();
    let mut forgers = Vec::new();
    for (number, socket) in held.iter().enumerate() {
        // The last of all names, and among them the first: whoever counts by the order of names is wrong.
        let name = format!("{}{number}", if number < 2 { "a" } else { "z" });
        let port = socket.local_addr().expect("bound").port();
        forgers.push(forger(&name, number % 2, port, gossip_address(&a)).await);
    }
    let b = start(member_config(1, &[gossip_address(&a)])).await;
    write(&a, "/from/a").await;
    eventually("b holds it", async || value(&b, "/from/a").await.is_some()).await;
    write(&b, "/from/b").await;
    eventually("a holds it", async || value(&a, "/from/b").await.is_some()).await;
    let honest = row(&a, "m1").await.expect("a member");
    assert!(honest.connected && !honest.contested, "{honest:?}");
    let id = replica_id(1).to_string();
    let forged = row(&a, "z3").await.expect("a member");
    assert_eq!(forged.replica, Some(id));
    assert!(forged.contested && !forged.connected && forged.root.is_none(), "{forged:?}");
    a.stop().await;
    b.stop().await;
}

/// Two members whose gossip and sessions a test cuts.
#[derive(Clone, Default)]
struct Cuts {
    gossip: Arc<AtomicBool>,
    sessions: Arc<AtomicBool>,
}

impl Cuts {
    fn set(&self, gossip: bool, sessions: bool) {
        self.gossip.store(gossip, Ordering::Relaxed);
        self.sessions.store(sessions, Ordering::Relaxed);
    }

    fn apply(&self, config: &mut Config) {
        let (gossip, sessions) = (self.gossip.clone(), self.sessions.clone());
        config.link_filter = Some(Arc::new(move |_| !sessions.load(Ordering::Relaxed)));
        let filter = move |_: Link| !gossip.load(Ordering::Relaxed);
        config.gossip.as_mut().expect("given").link_filter = Some(Arc::new(filter));
        config.limits.idle_timeout = Duration::from_secs(2);
        config.limits.keep_alive = Duration::from_millis(500);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_20_a_cut_is_healed_by_sessions_before_gossip_has_noticed_its_end() {
    let cuts = Cuts::default();
    let mut first = member_config(0, &[]);
    cuts.apply(&mut first);
    let a = start(first).await;
    let mut second = member_config(1, &[gossip_address(&a)]);
    cuts.apply(&mut second);
    let b = start(second).await;
    let connected = |agent: &Agent| agent.peers().rows().iter().any(|row| row.connected);
    // Who has not answered a probe yet has not shown that it has a key.
    eventually("connected, and each has answered a probe", async || {
        let answered = async |agent: &Agent| agent.gossip().expect("on").stats().await.answered_probes > 0;
        connected(&a) && connected(&b) && answered(&a).await && answered(&b).await
    })
    .await;
    cuts.set(true, true);
    eventually("each takes the other for failed", async || {
        let sees_failed = async |agent, name| status(agent, name).await.as_deref() == Some("failed");
        sees_failed(&a, "m1").await && sees_failed(&b, "m0").await && !connected(&a) && !connected(&b)
    })
    .await;
    write(&a, "/here").await;
    write(&b, "/there").await;
    cuts.set(true, false);
    eventually("both hold both", async || {
        value(&a, "/there").await.is_some() && value(&b, "/here").await.is_some()
    })
    .await;
    assert_eq!(status(&a, "m1").await.as_deref(), Some("failed"), "gossip is still cut");
    assert!(same_root(&[&a, &b]));
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_16_and_17_all_addresses_of_a_name_are_joined_and_looked_up_again_while_alone() {
    let a = start(member_config(0, &[])).await;
    let names = Names::default();
    let dead = SocketAddr::from(([127, 0, 0, 1], 9));
    names.set("members.example", &["[::1]:9".parse().expect("an address"), dead, gossip_address(&a)]);
    let mut second = member_config(1, &[]);
    second.resolver = Resolver::new(names.clone());
    second.gossip.as_mut().expect("given").join = vec!["members.example".parse().expect("a name")];
    let b = start(second).await;
    eventually("it has joined by the last address", async || {
        status(&b, "m0").await.as_deref() == Some("alive")
    })
    .await;
    // All members that it knew are gone, and the name leads elsewhere.
    let c = start(member_config(2, &[])).await;
    names.set("members.example", &[dead, gossip_address(&c)]);
    a.gossip().expect("on").leave().await.expect("left");
    eventually("it joins whoever is there now", async || status(&b, "m2").await.as_deref() == Some("alive"))
        .await;
    for agent in [a, b, c] {
        agent.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_18_a_listed_peer_is_found_by_all_addresses_of_its_name_and_wherever_it_goes() {
    let a = start(config(0)).await;
    let (dead, names) = (silent(), Names::default());
    let dead = dead.local_addr().expect("bound");
    names.set("a.example", &["[::1]:9".parse().expect("an address"), dead, a.peers().address()]);
    let mut second = config(1);
    second.resolver = Resolver::new(names.clone());
    let address = Address::parse_with_port("a.example:7947", 1).expect("a name");
    second.peers = vec![PeerTarget { address, id: Some(replica_id(0)) }];
    let b = start(second).await;
    write(&a, "/k").await;
    eventually("it is found behind a dead address", async || value(&b, "/k").await.is_some()).await;
    a.stop().await;
    let moved = start(config(0)).await;
    write(&moved, "/moved").await;
    names.set("a.example", &[dead, moved.peers().address()]);
    eventually("it is found where it has gone", async || value(&b, "/moved").await.is_some()).await;
    moved.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_4_two_processes_with_one_key_are_named_on_both_sides_and_displace_each_other_no_more() {
    let a = start(config(0)).await;
    let mut copies = Vec::new();
    for _ in 0..2 {
        let mut copy = config(1);
        copy.peers = vec![peer(&a)];
        copies.push(start(copy).await);
    }
    let names_it = |agent: &Agent| agent.discovery_reasons().iter().any(|(code, _)| *code == "peer.cloned");
    eventually("the peer and both copies name it", async || names_it(&a) && copies.iter().all(names_it))
        .await;
    let (_, text) = a.discovery_reasons().remove(0);
    assert!(text.contains(&replica_id(1).to_string()), "{text}");
    let metrics = a.metrics_text().expect("written");
    assert!(metrics.contains("kvgossip_cloned_replica_keys 1\n"), "{metrics}");
    // One of them stays: the connection is the same for longer than the other one waits between its dials.
    let since = |agent: &Agent| agent.peers().rows().iter().filter(|row| row.connected).count();
    eventually("one is connected", async || since(&a) == 1).await;
    write(&a, "/still").await;
    eventually("and is kept in sync", async || {
        let mut held = 0;
        for copy in &copies {
            held += usize::from(value(copy, "/still").await.is_some());
        }
        held > 0
    })
    .await;
    // A copy that dials the other one finds its own key there.
    let mut third = config(1);
    third.peers = vec![PeerTarget { address: copies[0].peers().address().into(), id: None }];
    let third = start(third).await;
    eventually("it does not take it for itself", async || names_it(&third)).await;
    for agent in copies.into_iter().chain([a, third]) {
        agent.stop().await;
    }
}

/// The default name has the replica's id in it, so a copy comes with the name as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_under_the_same_default_name_is_named_by_the_others_and_by_whom_it_copies() {
    let a = start(member_config(0, &[])).await;
    let mut members = Vec::new();
    for _ in 0..2 {
        let mut unnamed = member_config(1, &[gossip_address(&a)]);
        unnamed.gossip.as_mut().expect("a member").name = None;
        let member = start(unnamed).await;
        eventually("it has joined, or is told that its name is taken", async || {
            let known = |rows: kvgossip_api::MembersResponse| rows.members.len() == 2;
            member.gossip().expect("on").members().await.map_or(true, known)
        })
        .await;
        members.push(member);
    }
    let (copy, first) = (members.pop().expect("two"), members.pop().expect("two"));
    let says = |agent: &Agent, code: &str, what: &str| {
        agent.status().reasons.iter().any(|row| row.code == code && row.message.contains(what))
    };
    let (id, at_copy) = (replica_id(1).to_string(), gossip_address(&copy).to_string());
    // A member that has moved would be taken for one for seconds, so this takes half a minute.
    let began = std::time::Instant::now();
    let mut lacks = vec!["the other", "the first", "the copy"];
    while !lacks.is_empty() {
        lacks.clear();
        lacks.extend((!says(&a, "gossip.announced_twice", &id)).then_some("the other"));
        lacks.extend((!says(&first, "gossip.name_claimed", &at_copy)).then_some("the first"));
        lacks.extend((!says(&copy, "gossip.name_lost", "")).then_some("the copy"));
        assert!(began.elapsed() < Duration::from_secs(300), "who says nothing of it: {lacks:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let metrics = a.metrics_text().expect("written");
    let shown = "kvgossip_reasons{code=\"gossip.announced_twice\",grade=\"unwell\"} 1\n";
    assert!(metrics.contains(shown), "{metrics}");
    for agent in [a, first, copy] {
        agent.stop().await;
    }
}

/// The question that replicas ask each other, with what the asker says that it holds.
async fn claim(asker: &Membership, id: ReplicaId, root: &[u8]) -> Answers {
    let question = [&[2][..], &cluster().as_bytes()[..8], id.as_bytes(), root].concat();
    asker.query("kvgossip", &question, QueryParams::default()).await.expect("asked")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_member_says_of_a_root_is_not_believed_before_its_address_has_proved_the_key() {
    let a = start(member_config(0, &[])).await;
    let nobody = silent();
    let port = nobody.local_addr().expect("bound").port();
    let liar = forger("liar", 2, port, gossip_address(&a)).await;
    eventually("it is a member", async || row(&a, "liar").await.is_some()).await;
    let own = a.store().view().root();
    claim(&liar, replica_id(2), own.as_bytes()).await;
    // Questions are taken one after the other, and one of somebody who holds something else is answered.
    let mut answers = claim(&liar, replica_id(2), &[7; 32]).await;
    loop {
        let answer = answers.next().await.expect("an answer in time");
        if matches!(answer, Answer::Response { from, .. } if from == "m0") {
            break;
        }
    }
    let lied = row(&a, "liar").await.expect("a member");
    assert_eq!((lied.root, lied.lag_us, lied.connected), (None, None, false));
    a.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_of_another_cluster_is_named_rather_than_passed_over() {
    let a = start(member_config(0, &[])).await;
    let mut second = member_config(1, &[gossip_address(&a)]);
    second.root = identity(1).public().clone();
    let b = start(second).await;
    eventually("each names the other", async || {
        let names_it = |agent: &Agent, name: &str| {
            let fits = |(code, text): &(&str, String)| *code == "gossip.other_cluster" && text.contains(name);
            agent.discovery_reasons().iter().any(fits)
        };
        names_it(&a, "m1") && names_it(&b, "m0")
    })
    .await;
    let foreign = row(&a, "m1").await.expect("a member");
    let cluster: String = identity(1).public().cluster().to_string().chars().take(16).collect();
    assert_eq!((foreign.other_cluster, foreign.replica), (Some(cluster), None));
    assert!(!a.discovery_reasons().is_empty() && a.unready().is_empty(), "it serves all the same");
    assert!(a.peers().rows().is_empty() && b.peers().rows().is_empty(), "nobody is dialled");
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_left_alone_does_not_say_that_nobody_ever_answered() {
    let dead = silent();
    let alone = start(member_config(1, &[dead.local_addr().expect("bound")])).await;
    let told = |agent: &Agent| {
        let reasons = agent.reasons().into_iter().find(|reason| reason.code == "gossip.join_failed");
        reasons.map_or(String::new(), |reason| reason.message)
    };
    eventually("nobody has answered", async || told(&alone).starts_with("no member has answered yet: "))
        .await;
    alone.stop().await;

    let a = start(member_config(0, &[])).await;
    let b = start(member_config(1, &[gossip_address(&a)])).await;
    eventually("it has joined", async || status(&b, "m0").await.as_deref() == Some("alive")).await;
    eventually("and says nothing of joining", async || told(&b).is_empty()).await;
    a.stop().await;
    eventually("the members are gone", async || told(&b).starts_with("the members that were there are gone"))
        .await;
    b.stop().await;
}
