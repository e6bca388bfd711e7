//! More events than gossip can carry: four members of which two are this crate's, beside four Serf agents that get the
//! same at the same time.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use kvgossip_membership::{
    Event, Framing, Membership, Options, QueryParams, Status, Text,
    core::KeyChange,
    driver::Answer,
    wire::crypto::{Key, Keyring},
};

use kvgossip_testkit::{
    serf::{Agent, rpc::Client},
    wait::{eventually, soon},
};

use crate::{common::Ours, tags};

/// Between two events of the flood: 120 a second.
const PAUSE: Duration = Duration::from_micros(8_333);
const PAYLOAD: usize = 394;
/// How long both clusters are flooded: this variable says it in seconds.
const LENGTH: &str = "KVGOSSIP_FLOOD_SECONDS";
/// Without it.
const DEFAULT_LENGTH: Duration = Duration::from_secs(25);
/// How long members may take to answer a query.
const QUERY: Duration = Duration::from_secs(5);

/// Counts the events that a Serf agent hears.
async fn count_at_agent(agent: &Agent) -> Arc<AtomicUsize> {
    let mut client = Client::connect(agent.rpc()).await.expect("it listens");
    client.subscribe("flood!").await.expect("it runs");
    let heard = Arc::new(AtomicUsize::new(0));
    let counter = heard.clone();
    tokio::spawn(async move {
        while client.event().await.is_some() {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    });
    heard
}

/// Counts the events that a member of this crate hears.
async fn count_at_ours(member: &Membership) -> Arc<AtomicUsize> {
    let wants = |event: &Event| matches!(event, Event::UserEvent { name, .. } if name == "flood!");
    let mut events = member.subscribe(4096, wants).await.expect("room");
    let heard = Arc::new(AtomicUsize::new(0));
    let counter = heard.clone();
    tokio::spawn(async move {
        while events.recv().await.is_some() {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    });
    heard
}

fn payload(number: u64) -> Vec<u8> {
    let mut payload = number.to_be_bytes().to_vec();
    payload.resize(PAYLOAD, 7);
    payload
}

/// Sends events until it is told to stop; gives how many. Both floods keep the same pace.
async fn flood(stop: Arc<AtomicBool>, mut send: impl AsyncFnMut(Vec<u8>)) -> u64 {
    let mut pace = tokio::time::interval(PAUSE);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        pace.tick().await;
        send(payload(sent)).await;
        sent += 1;
    }
    sent
}

fn total(counters: &[Arc<AtomicUsize>]) -> usize {
    counters.iter().map(|counter| counter.load(Ordering::Relaxed)).sum()
}

fn key(byte: u8) -> Key {
    Key::new(&[byte; 32]).expect("a key")
}

/// How many members acknowledge a query of the agent's.
async fn acks_at_agent(agent: &Agent) -> usize {
    let mut client = Client::connect(agent.rpc()).await.expect("it listens");
    client.acks("who", QUERY).await.expect("it runs").len()
}

/// Changes a member's tag; gives how long it takes until another member sees that.
async fn change_tag(member: &Ours, other: &Ours, value: &str) -> Duration {
    let start = Instant::now();
    member.member.set_tags(tags(&[("v", value)])).await.expect("fits");
    let name = member.member.local_member().await.expect("runs").name;
    eventually("ours sees the tag", async || {
        let seen = other.member.member(&name).await.expect("runs").expect("known");
        (seen.tags.get(b"v".as_slice()).is_some_and(|seen| seen == value)).then_some(())
    })
    .await;
    start.elapsed()
}

async fn acks_at_ours(member: &Membership) -> BTreeSet<Text> {
    let params = QueryParams { request_ack: true, timeout: Some(QUERY), ..QueryParams::default() };
    let mut answers = member.query("who", b"", params).await.expect("is asked");
    let mut acks = BTreeSet::new();
    while let Some(answer) = answers.next().await {
        if let Answer::Ack(from) = answer {
            acks.insert(from);
        }
    }
    acks
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_holds_up_nothing_that_matters_and_as_much_arrives_as_at_serfs_agents() {
    let length = std::env::var(LENGTH).ok().map(|text| text.parse().expect("a number of seconds"));
    let length = length.map_or(DEFAULT_LENGTH, Duration::from_secs);
    let encrypt = format!("-encrypt={}", key(1).to_base64());
    let encrypted = |o: &mut Options| {
        o.framing = Framing { keyring: Some(Keyring::new(key(1))), ..Framing::default() };
        o.framing.compress = true;
    };
    let (mut first, second) = (Ours::start("first", encrypted).await, Ours::start("second", encrypted).await);
    let mut agents = Vec::new();
    for name in ["third", "fourth", "one", "two", "three", "four"] {
        agents.push(Agent::start(name, &[&encrypt]).await);
    }
    let (mixed, pure) = agents.split_at(2);
    for agent in mixed {
        first.join(agent).await;
    }
    second.join(&mixed[0]).await;
    for agent in &pure[1..] {
        pure[0].serf("join", &[&agent.addr.to_string()]).await;
    }
    for agent in &agents {
        eventually("the cluster is complete", async || {
            (agent.members().await.values().filter(|(status, _)| status == "alive").count() == 4)
                .then_some(())
        })
        .await;
    }
    for name in ["second", "third", "fourth"] {
        first.sees(name, Status::Alive).await;
    }
    first.drain();

    let heard_mixed = [
        count_at_ours(&second.member).await,
        count_at_agent(&mixed[0]).await,
        count_at_agent(&mixed[1]).await,
    ];
    let mut heard_pure = Vec::new();
    for agent in &pure[1..] {
        heard_pure.push(count_at_agent(agent).await);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let flood_mixed = {
        let (stop, member) = (stop.clone(), first.member.clone());
        tokio::spawn(flood(stop, async move |payload| {
            // At the end it leaves.
            let _ = member.user_event("flood!", &payload, false).await;
        }))
    };
    let flood_pure = {
        let (stop, mut client) = (stop.clone(), Client::connect(pure[0].rpc()).await.expect("it listens"));
        tokio::spawn(flood(stop, async move |payload| {
            client.send_event("flood!", payload).await.expect("it runs");
        }))
    };
    let began = Instant::now();
    let (mut acks, mut acks_at_mixed, mut acks_pure, mut asked) = (0, 0, 0, 0);
    let mut tag_times = Vec::new();
    while began.elapsed() < length || asked == 0 {
        let (own, mixed, pure) =
            tokio::join!(acks_at_ours(&first.member), acks_at_agent(&mixed[0]), acks_at_agent(&pure[0]));
        (acks, acks_at_mixed, acks_pure, asked) =
            (acks + own.len(), acks_at_mixed + mixed, acks_pure + pure, asked + 1);
        tag_times.push(change_tag(&first, &second, &asked.to_string()).await);
    }
    // What was sent before is mostly there; the same moment for both.
    let (arrived, arrived_pure) = (total(&heard_mixed), total(&heard_pure));
    let (last, tag) = (asked.to_string(), tag_times.iter().copied().max().expect("a change"));
    eventually("an agent sees the last tag", async || {
        mixed[1].members().await["first"].1.contains(&format!("v={last}")).then_some(())
    })
    .await;
    for change in [KeyChange::Install(key(2)), KeyChange::Use(key(2)), KeyChange::Remove(key(1))] {
        let keys = first.member.change_all_keys(change.clone()).await.expect("is asked");
        assert_eq!(keys.failure(), None, "{change:?}: {keys:?}");
    }

    let start = Instant::now();
    soon(first.member.leave()).await.expect("it leaves");
    let leave = start.elapsed();
    for agent in mixed {
        agent.sees("first", "left").await;
    }
    second.sees("first", Status::Left).await;
    stop.store(true, Ordering::Relaxed);
    let (sent, sent_pure) = (flood_mixed.await.expect("sends"), flood_pure.await.expect("sends"));
    eprintln!(
        "{arrived} events arrived in the mixed cluster, {arrived_pure} at Serf's agents alone; {sent} and {sent_pure} were \
         sent in all; {asked} queries got {acks} acks at ours and {acks_at_mixed} at an agent beside it, {acks_pure} at \
         agents alone; changes of a tag took {tag_times:?}, leaving {leave:?}",
    );
    // Ten times what they take where nothing else runs; without queues of their own they take 24 and 11 seconds.
    assert!(tag < Duration::from_secs(5), "a tag took {tag:?}");
    assert!(leave < Duration::from_secs(9), "leaving took {leave:?}");
    // One datagram may be lost by chance.
    assert!(acks + 1 >= acks_pure, "{acks} acks of {asked} queries, {acks_pure} at Serf's agents");
    assert!(acks_at_mixed + 1 >= acks_pure, "{acks_at_mixed} acks beside ours, {acks_pure} at Serf's agents");
    // Which events are lost is chance.
    assert!(arrived * 10 >= arrived_pure * 9, "{arrived} events arrived, {arrived_pure} at Serf's agents");
    for event in first.drain() {
        assert!(!matches!(event, Event::MemberFailed(_)), "{event:?}");
    }
    for agent in &agents {
        assert!(!agent.log().contains("EventMemberFailed"), "{} saw somebody fail", agent.name);
    }
}
