//! Five agents and two real Serf agents in one cluster.

use kvgossip_agent::gossip::GossipConfig;
use kvgossip_agent::{Agent, Config, now};
use kvgossip_api::{MemberRow, SyncReport};
use kvgossip_grants::Verdict;
use kvgossip_membership::driver::Link;
use kvgossip_testkit::agents::*;
use kvgossip_testkit::http;
use kvgossip_testkit::serf;
use kvgossip_testkit::wait::eventually;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::broadcast::Receiver;

/// Whom an agent cannot reach, nor be reached by.
#[derive(Clone, Default)]
struct Cut(Arc<Mutex<BTreeSet<IpAddr>>>);

impl Cut {
    fn set(&self, unreachable: &[IpAddr]) {
        *self.0.lock().expect("whole") = unreachable.iter().copied().collect();
    }

    fn passes(&self, ip: IpAddr) -> bool {
        let cut = self.0.lock().expect("whole");
        // A TCP connection of somebody else comes from this address, whoever it is.
        let anybody = ip == IpAddr::V4(Ipv4Addr::LOCALHOST) && !cut.is_empty();
        !anybody && !cut.contains(&ip)
    }
}

struct Member {
    agent: Agent,
    ip: IpAddr,
    cut: Cut,
}

/// An agent on an address of its own, which knows its peers from gossip alone.
fn member_config(number: usize, join: &[SocketAddr]) -> (Config, IpAddr, Cut) {
    let (ip, cut) = (IpAddr::V4(serf::fresh_ip()), Cut::default());
    let mut config = config(number);
    config.allowed = std::iter::empty().collect();
    config.sync = SocketAddr::new(ip, 0);
    config.limits.idle_timeout = Duration::from_secs(3);
    config.limits.keep_alive = Duration::from_millis(800);
    let wire = cut.clone();
    config.link_filter = Some(Arc::new(move |address| wire.passes(address.ip())));
    let mut gossip = GossipConfig::new(SocketAddr::new(ip, serf::GOSSIP_PORT));
    gossip.name = Some(format!("kvg{number}"));
    gossip.join = join.iter().copied().map(Into::into).collect();
    gossip.timing.reconnect_interval = Duration::from_secs(2);
    let wire = cut.clone();
    gossip.link_filter = Some(Arc::new(move |link| match link {
        Link::Udp(address) | Link::Tcp(address) => wire.passes(address.ip()),
    }));
    config.gossip = Some(gossip);
    (config, ip, cut)
}

async fn member(number: usize, join: &[SocketAddr]) -> Member {
    let (config, ip, cut) = member_config(number, join);
    Member { agent: start(config).await, ip, cut }
}

async fn rows(agent: &Agent) -> Vec<MemberRow> {
    agent.gossip().expect("on").members().await.expect("runs").members
}

async fn status(agent: &Agent, name: &str) -> Option<String> {
    rows(agent).await.into_iter().find(|row| row.name == name).map(|row| row.status)
}

async fn connections(agent: &Agent) -> usize {
    agent.peers().rows().iter().filter(|row| row.connected).count()
}

fn all_equal(members: &[Member]) -> bool {
    same_root(&members.iter().map(|member| &member.agent).collect::<Vec<_>>())
}

async fn converge(what: &str, members: &[Member]) {
    eventually(what, async || all_equal(members).then_some(())).await;
}

async fn write(member: &Member, key: &str) {
    let fact = entry(key, b"value", now(), root(), None);
    assert_eq!(put(&member.agent, fact).await, Verdict::Merged);
}

/// Sessions that an agent has opened, without those that met one of the other side's.
fn opened(reports: &mut Receiver<SyncReport>) -> usize {
    let all = std::iter::from_fn(|| reports.try_recv().ok());
    all.filter(|report| report.initiated && !report.reasons.iter().any(|code| code == "session.busy")).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_replicas_and_two_serf_agents() {
    let mut serfs = vec![serf::Agent::start("serf0", &[]).await, serf::Agent::start("serf1", &[]).await];
    serfs[1].serf("join", &[&serfs[0].addr.to_string()]).await;
    let mut members = Vec::new();
    for number in 0..5 {
        members.push(member(number, &[serfs[number % 2].addr]).await);
    }
    for member in &members {
        eventually("everybody knows and has dialled everybody", async || {
            let alive = rows(&member.agent).await.into_iter().filter(|row| row.status == "alive").count();
            (alive == 7 && connections(&member.agent).await == 4).then_some(())
        })
        .await;
    }
    serfs[0].sees("kvg4", "alive").await;
    assert!(serfs[1].members().await["kvg0"].1.contains("kvgossip=2"));
    settled(&members).await;
    metrics_tell_of_the_membership(&members).await;

    a_write_reaches_the_others(&members).await;
    a_stopped_serf_agent_changes_nothing(&members, &serfs[1]).await;
    a_partition_heals(&members, &serfs).await;

    // Somebody new gets everything, and is told of as equal.
    members.push(member(5, &[serfs[0].addr]).await);
    converge("the new one holds everything", &members).await;
    let newest = members[5].agent.peers().id().to_string();
    eventually("the others see that it is equal", async || {
        let rows = rows(&members[0].agent).await;
        let row = rows.iter().find(|row| row.replica.as_ref() == Some(&newest))?;
        (row.lag_us == Some(0) && row.connected).then_some(())
    })
    .await;

    // Whoever leaves is not failed, for nobody.
    let leaver = members.pop().expect("six");
    leaver.agent.gossip().expect("on").leave().await.expect("leaves");
    serfs[0].sees("kvg5", "left").await;
    eventually("it is connected with nobody", async || (connections(&leaver.agent).await == 0).then_some(()))
        .await;
    assert_eq!(status(&members[1].agent, "kvg5").await.as_deref(), Some("left"));
    leaver.agent.stop().await;
    for member in members {
        member.agent.stop().await;
    }
    for agent in &mut serfs {
        for word in ["Failed to decode", "failed to decode", "protocol version", "Unsupported", "[ERR]"] {
            let log = agent.log();
            let line = log.lines().find(|line| line.contains(word) && !is_about_a_failure(line));
            assert_eq!(line, None, "{}", agent.name);
        }
    }
}

/// What a Serf agent says of members that it does not reach.
fn is_about_a_failure(line: &str) -> bool {
    [
        "Failed fallback TCP ping",
        "Push/Pull with",
        "Failed to send",
        "i/o timeout",
        "connection refused",
        "reset by peer",
        "EOF",
    ]
    .iter()
    .any(|known| line.contains(known))
}

/// Waits until no session has run for a while.
async fn settled(members: &[Member]) {
    let mut reports: Vec<_> = members.iter().map(|member| member.agent.peers().reports()).collect();
    for _ in 0..30 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        if reports.iter_mut().map(opened).sum::<usize>() == 0 {
            return;
        }
    }
    panic!("sessions never end");
}

/// `/metrics` after everybody has joined.
async fn metrics_tell_of_the_membership(members: &[Member]) {
    let mut scrapes = Vec::new();
    for member in members {
        scrapes.push(http::get(member.agent.http_address().expect("HTTP is served"), "/metrics").await);
    }
    let scrape = &scrapes[1];
    let sample = |name: &str| {
        let line = scrape.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse::<f64>().ok())
    };
    assert_eq!(sample("kvgossip_members{status=\"alive\"}"), Some(7.0), "{scrape}");
    assert_eq!(sample("kvgossip_members{status=\"failed\"}"), Some(0.0));
    assert_eq!(sample("kvgossip_gossip_changes_total{change=\"joined\"}"), Some(6.0));
    assert_eq!(sample("kvgossip_gossip_refused_total{reason=\"key\"}"), Some(0.0));
    for name in [
        "kvgossip_gossip_packets_total{direction=\"received\"}",
        "kvgossip_gossip_bytes_total{direction=\"sent\"}",
        "kvgossip_gossip_exchanges_total{outcome=\"merged\"}",
        "kvgossip_gossip_queries_total",
        "kvgossip_surveys_total",
    ] {
        assert!(sample(name).is_some_and(|value| value > 0.0), "{name}\n{scrape}");
    }
    // One that all others have compared with opens none itself.
    let lines = scrapes.iter().flat_map(|scrape| scrape.lines());
    let opened = lines.filter(|line| line.starts_with("kvgossip_sessions_opened_total{cause="));
    let opened: f64 = opened.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum();
    assert!(opened > 0.0, "{scrape}");
}

async fn a_write_reaches_the_others(members: &[Member]) {
    let mut reports: Vec<_> = members.iter().map(|member| member.agent.peers().reports()).collect();
    let began = std::time::Instant::now();
    write(&members[0], "/first").await;
    converge("all hold the write", members).await;
    println!("a write was everywhere after {:?}", began.elapsed());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let counts: Vec<usize> = reports.iter_mut().map(opened).collect();
    println!("sessions opened by each: {counts:?}");
    assert!(counts.iter().all(|count| *count <= 3), "{counts:?}");
    assert!(counts.iter().sum::<usize>() >= 4, "{counts:?}");
}

async fn a_stopped_serf_agent_changes_nothing(members: &[Member], serf: &serf::Agent) {
    serf.signal("STOP");
    let began = std::time::Instant::now();
    write(&members[2], "/while/stopped").await;
    converge("all hold what was written meanwhile", members).await;
    println!("with a stopped Serf agent it took {:?}", began.elapsed());
    eventually("it is seen as failed", async || {
        (status(&members[4].agent, &serf.name).await? == "failed").then_some(())
    })
    .await;
    serf.signal("CONT");
    eventually("it is back", async || {
        (status(&members[4].agent, &serf.name).await? == "alive").then_some(())
    })
    .await;
}

/// Two replicas here, three there with both Serf agents.
async fn a_partition_heals(members: &[Member], serfs: &[serf::Agent]) {
    let (few, many) = members.split_at(2);
    let ips = |side: &[Member]| side.iter().map(|member| member.ip).collect::<Vec<_>>();
    let mut there = ips(many);
    there.extend(serfs.iter().map(|agent| agent.addr.ip()));
    few.iter().for_each(|member| member.cut.set(&there));
    many.iter().for_each(|member| member.cut.set(&ips(few)));
    for (member, name) in [(&few[0], "kvg2"), (&few[1], "kvg4"), (&many[0], "kvg0"), (&many[2], "kvg1")] {
        eventually("the partition is noticed", async || {
            (status(&member.agent, name).await? == "failed").then_some(())
        })
        .await;
    }
    for number in 0..5 {
        write(&few[number % 2], &format!("/few/{number}")).await;
        write(&many[number % 3], &format!("/many/{number}")).await;
    }
    converge("the two are equal", few).await;
    converge("the three are equal", many).await;
    assert!(!all_equal(members), "they cannot have heard of each other");
    let began = std::time::Instant::now();
    members.iter().for_each(|member| member.cut.set(&[]));
    converge("the partition has healed", members).await;
    println!("a partition of 2 | 3 was healed after {:?}", began.elapsed());
    for key in ["/few/4", "/many/4"] {
        for member in members {
            assert!(value(&member.agent, key).await.is_some(), "{key}");
        }
    }
}
