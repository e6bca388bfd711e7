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
    Event, Framing, Membership, QueryParams, Status, Text,
    core::KeyChange,
    driver::Answer,
    rpc::{
        Request,
        message::{Handshake, ReplyHeader, SendEvent, Stream, UserEvent},
    },
    wire::{
        crypto::{Key, Keyring},
        field::Field,
        msgpack::{DecodeError, Reader},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    common::{Agent, Ours, PATIENCE, eventually},
    tags,
};

/// Between two events of the flood: 120 a second.
const PAUSE: Duration = Duration::from_micros(8_333);
const PAYLOAD: usize = 394;
/// How long both clusters are flooded before anything is asked of them.
const FLOOD: Duration = Duration::from_secs(12);

/// A client of an agent's RPC.
struct Client {
    socket: TcpStream,
    read: Vec<u8>,
    seq: u64,
}

impl Client {
    async fn new(agent: &Agent) -> Self {
        let socket = TcpStream::connect(agent.rpc()).await.expect("the agent listens");
        let mut client = Self { socket, read: Vec::new(), seq: 0 };
        client.ask(&Request::Handshake(Handshake { version: 1 })).await;
        client
    }

    async fn ask(&mut self, request: &Request) {
        self.seq += 1;
        self.socket.write_all(&request.encode(self.seq)).await.expect("connected");
        let header: ReplyHeader = self.value().await.expect("connected");
        assert_eq!((header.seq, header.error), (self.seq, Text::default()));
    }

    /// The next value; none when the agent has ended.
    async fn value<T: Field>(&mut self) -> Option<T> {
        loop {
            let mut reader = Reader::new(&self.read);
            match T::decode(&mut reader) {
                Ok(value) => {
                    self.read.drain(..reader.position());
                    return Some(value);
                }
                Err(DecodeError::Truncated { .. }) => {}
                Err(error) => panic!("{error}"),
            }
            self.socket.read_buf(&mut self.read).await.ok().filter(|len| *len > 0)?;
        }
    }
}

/// Counts the events that a Serf agent hears.
async fn count_at_agent(agent: &Agent) -> Arc<AtomicUsize> {
    let mut client = Client::new(agent).await;
    client.ask(&Request::Stream(Stream { kind: "user:flood!".into() })).await;
    let heard = Arc::new(AtomicUsize::new(0));
    let counter = heard.clone();
    tokio::spawn(async move {
        while let (Some(ReplyHeader { .. }), Some(UserEvent { .. })) =
            (client.value().await, client.value().await)
        {
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
    let text = agent.serf("query", &["-timeout=10s", "who"]).await;
    text.lines().filter(|line| line.starts_with("Ack from")).count()
}

async fn acks_at_ours(member: &Membership) -> BTreeSet<Text> {
    let params =
        QueryParams { request_ack: true, timeout: Some(Duration::from_secs(10)), ..QueryParams::default() };
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
    let encrypt = format!("-encrypt={}", key(1).to_base64());
    let encrypted = |o: &mut kvgossip_membership::Options| {
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
        let (stop, mut client) = (stop.clone(), Client::new(&pure[0]).await);
        tokio::spawn(flood(stop, async move |payload| {
            let event = SendEvent { name: "flood!".into(), payload: payload.into(), ..SendEvent::default() };
            client.ask(&Request::Event(event)).await;
        }))
    };
    tokio::time::sleep(FLOOD).await;

    let (acks, acks_pure) = tokio::join!(acks_at_ours(&first.member), acks_at_agent(&pure[0]));
    assert_eq!(acks, ["first", "fourth", "second", "third"].map(Text::from).into());
    assert!(acks.len() >= acks_pure, "{acks_pure} at the agent");
    assert_eq!(acks_at_agent(&mixed[0]).await, 4);
    let (arrived, arrived_pure) = (total(&heard_mixed), total(&heard_pure));

    let start = Instant::now();
    first.member.set_tags(tags(&[("v", "2")])).await.expect("fits");
    eventually("ours sees the tag", async || {
        let seen = second.member.member("first").await.expect("runs").expect("known");
        seen.tags.contains_key(b"v".as_slice()).then_some(())
    })
    .await;
    let tag = start.elapsed();
    eventually("an agent sees the tag", async || {
        mixed[1].members().await["first"].1.contains("v=2").then_some(())
    })
    .await;
    for change in [KeyChange::Install(key(2)), KeyChange::Use(key(2)), KeyChange::Remove(key(1))] {
        let keys = first.member.change_all_keys(change.clone()).await.expect("is asked");
        assert_eq!(keys.failure(), None, "{change:?}: {keys:?}");
    }

    let start = Instant::now();
    tokio::time::timeout(PATIENCE, first.member.leave()).await.expect("it ends").expect("it leaves");
    let leave = start.elapsed();
    for agent in mixed {
        agent.sees("first", "left").await;
    }
    second.sees("first", Status::Left).await;
    stop.store(true, Ordering::Relaxed);
    let (sent, sent_pure) = (flood_mixed.await.expect("sends"), flood_pure.await.expect("sends"));
    eprintln!(
        "arrived {arrived} of events at ours, {arrived_pure} at agents alone; sent in all {sent} and {sent_pure}; \
         acks {} and {acks_pure}; a tag took {tag:?}, leaving {leave:?}",
        acks.len()
    );
    // Ten times what they take where nothing else runs; without queues of their own they take 24 and 11 seconds.
    assert!(tag < Duration::from_secs(5), "a tag took {tag:?}");
    assert!(leave < Duration::from_secs(9), "leaving took {leave:?}");
    // Which events are lost is chance.
    assert!(arrived * 10 >= arrived_pure * 9, "{arrived} events arrived, {arrived_pure} at Serf's agents");
    for event in first.drain() {
        assert!(!matches!(event, Event::MemberFailed(_)), "{event:?}");
    }
    for agent in &agents {
        assert!(!agent.log().contains("EventMemberFailed"), "{} saw somebody fail", agent.name);
    }
}
