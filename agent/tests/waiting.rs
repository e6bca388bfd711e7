//! Entries ahead of a replica's clock, and others that do not get through: each moves once, and holds up nothing.

#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

mod clocks;

use bytes::Bytes;
use kvgossip_agent::{Agent, Clock, Config, Precondition, now};
use kvgossip_api::{Holds, KeyEvent, SyncOutcome, WatchForm, WatchRequest};
use kvgossip_engine::{MemoryStorage, StorageError};
use kvgossip_grants::{Code, EntryId, Fact, PathPrefix, Signer, Timestamp, Verdict};
use kvgossip_testkit::agents::{cluster, config, entry, grant, identity, peer, put, root, same_root, value};
use kvgossip_testkit::faulty::{self, Faults, numbered};
use kvgossip_testkit::http;
use kvgossip_testkit::stream::{Stream, keys, matching};
use kvgossip_testkit::wait::eventually;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const MINUTE_US: u64 = 60_000_000;
/// A write is with the other in a tenth of this.
const SOON: Duration = Duration::from_secs(2);

/// How far a clock is ahead or behind, to be changed at any time.
#[derive(Clone, Default)]
struct Skew {
    ahead_us: Arc<AtomicU64>,
    behind_us: Arc<AtomicU64>,
}

impl Skew {
    fn behind(us: u64) -> Self {
        let skew = Self::default();
        skew.behind_us.store(us, Ordering::SeqCst);
        skew
    }

    fn ahead(us: u64) -> Self {
        let skew = Self::default();
        skew.ahead_us.store(us, Ordering::SeqCst);
        skew
    }

    fn set_right(&self) {
        self.behind_us.store(0, Ordering::SeqCst);
    }

    fn clock(&self) -> Clock {
        let skew = self.clone();
        Clock::new(move || {
            let ahead = now().saturating_add(skew.ahead_us.load(Ordering::SeqCst));
            ahead.saturating_sub(skew.behind_us.load(Ordering::SeqCst))
        })
    }
}

async fn start(number: usize, skew: &Skew, memory: &MemoryStorage, peers: &[&Agent]) -> Agent {
    let peers = peers.iter().map(|agent| peer(agent)).collect();
    let config = Config { clock: skew.clock(), peers, ..config(number) };
    Agent::start(config, Box::new(memory.clone())).await.unwrap()
}

/// All bytes of entries that an agent has received in sessions.
fn received(agent: &Agent) -> u64 {
    let text = agent.metrics_text().unwrap();
    let name = "kvgossip_session_bytes_total{direction=\"received\",kind=\"entries\"} ";
    text.lines().find_map(|line| line.strip_prefix(name)).map_or(0, |count| count.parse().unwrap())
}

async fn write(agent: &Agent, fact: Fact) -> u64 {
    let weight = fact.payload_len() as u64;
    assert_eq!(put(agent, fact).await, Verdict::Merged);
    weight
}

/// Fifty writes in turns, each of which is soon with the other. What the second agent receives of them.
async fn fifty_writes(agents: [&Agent; 2], time: impl Fn() -> Timestamp) -> u64 {
    let mut weight = 0;
    for number in 0..50 {
        let (from, to) = (agents[number % 2], agents[1 - number % 2]);
        let key = format!("/other/{number}");
        let written = write(from, entry(&key, b"value", time(), root(), None)).await;
        weight += if number % 2 == 0 { written } else { 0 };
        let began = Instant::now();
        eventually(&key, async || value(to, &key).await.is_some()).await;
        assert!(began.elapsed() < SOON, "{key} took {:?}", began.elapsed());
    }
    weight
}

/// A session that ends for the reason that early entries wait, and moves none.
async fn nothing_moves(one: &Agent, other: &Agent) {
    let address = other.peers().address().to_string();
    let report = one.peers().sync_with(&address, PathPrefix::root()).await.unwrap();
    assert_eq!(
        (report.outcome, report.reasons.as_slice()),
        (SyncOutcome::Unsettled, &["not_yet".to_owned()][..])
    );
    assert_eq!((report.received.entry_facts, report.sent.entry_facts), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_large_entries_ahead_of_a_clock_move_once_and_hold_up_no_write() {
    let (ahead, behind) = (Skew::ahead(60 * MINUTE_US), Skew::behind(0));
    let a = start(0, &ahead, &MemoryStorage::new(), &[]).await;
    let b = start(1, &behind, &MemoryStorage::new(), &[&a]).await;
    let large = vec![7; 500_000];
    let mut expected = 0;
    for number in 0..20 {
        let time = now().saturating_add(30 * MINUTE_US);
        expected += write(&a, entry(&format!("/early/{number}"), &large, time, root(), None)).await;
    }
    eventually("all wait", async || b.status().waiting.facts == 20).await;
    expected += fifty_writes([&a, &b], now).await;
    nothing_moves(&b, &a).await;
    nothing_moves(&a, &b).await;
    assert_eq!(received(&b), expected, "each moved once");
    let waiting = b.status().waiting;
    assert!(waiting.bytes > 10_000_000 && waiting.next_due_us.is_some_and(|due| due > now().as_micros()));
    assert_eq!((waiting.without_room, waiting.refused), (0, 0));
    assert!(b.metrics_text().unwrap().contains("kvgossip_waiting_facts 20\n"));
    let row = &b.peers().rows()[0];
    assert!(!row.equal && row.holds == Holds::Differs && row.holds_since_us.is_some(), "{row:?}");

    // When they are due they are taken in, and nothing more moves.
    behind.ahead_us.store(60 * MINUTE_US, Ordering::SeqCst);
    eventually("both are equal", async || same_root(&[&a, &b])).await;
    eventually("and know it", async || b.peers().rows()[0].equal).await;
    assert_eq!((received(&b), b.status().waiting.facts), (expected, 0));
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_ten_minutes_behind_is_sent_everything_once_and_once_more_after_a_restart() {
    let (right, behind, memory) = (Skew::default(), Skew::behind(10 * MINUTE_US), MemoryStorage::new());
    let a = start(0, &right, &MemoryStorage::new(), &[]).await;
    let b = start(1, &behind, &memory, &[&a]).await;
    let mut expected = 0;
    for number in 0..40 {
        expected += write(&a, entry(&format!("/n/{number}"), &[7; 1_000], now(), root(), None)).await;
        let count = number + 1;
        eventually("it waits", async || b.status().waiting.facts == count).await;
    }
    // What is written by the clock that is behind goes both ways.
    let late = fifty_writes([&a, &b], || now().saturating_sub(9 * MINUTE_US)).await;
    nothing_moves(&b, &a).await;
    assert_eq!(received(&b), expected + late);

    b.stop().await;
    let b = start(1, &behind, &memory, &[&a]).await;
    eventually("all wait again", async || b.status().waiting.facts == 40).await;
    nothing_moves(&b, &a).await;
    assert_eq!(received(&b), expected);
    behind.set_right();
    eventually("both are equal", async || same_root(&[&a, &b])).await;
    eventually("and know it", async || b.peers().rows()[0].equal).await;
    assert_eq!(received(&b), expected);
    a.stop().await;
    b.stop().await;
}

/// The second replica, which is to be compared with this peer before it is ready.
fn never_compared(skew: &Skew, with: &Agent) -> Config {
    Config { clock: skew.clock(), peers: vec![peer(with)], ready_alone: false, ..config(1) }
}

/// What `/readyz` says against an agent.
fn unready(agent: &Agent) -> String {
    agent.unready().join("; ")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fresh_replica_whose_clock_is_behind_is_not_ready_until_what_waits_is_due() {
    let (right, behind, memory) = (Skew::default(), Skew::behind(10 * MINUTE_US), MemoryStorage::new());
    let a = start(0, &right, &MemoryStorage::new(), &[]).await;
    for number in 0..40 {
        write(&a, entry(&format!("/n/{number}"), b"v", now(), root(), None)).await;
    }
    let dir = tempfile::tempdir().unwrap();
    let begin = async || {
        let sync_state = Some(dir.path().join("sync-state"));
        let config = Config { sync_state, ..never_compared(&behind, &a) };
        Agent::start(config, Box::new(memory.clone())).await.unwrap()
    };
    let compared = async |b: &Agent| {
        eventually("all wait", async || b.status().waiting.facts == 40).await;
        // Not the one that brought them alone: a later one moves nothing, and is no comparison either.
        nothing_moves(b, &a).await;
        let why = unready(b);
        assert!(why.starts_with("sync.first: ") && !b.status().ready, "{why}");
        assert!(why.contains("40 entries wait for this replica's clock: it is "), "{why}");
        assert!(why.contains("the last session ended unsettled: entries are ahead of the clock"), "{why}");
        assert!(b.status().reasons.iter().any(|reason| reason.code == "clock.differs"));
    };
    let b = begin().await;
    compared(&b).await;
    b.stop().await;
    let b = begin().await;
    compared(&b).await;
    behind.set_right();
    eventually("it is ready", async || b.status().ready).await;
    assert!(same_root(&[&a, &b]), "{:?}", b.unready());
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fresh_replica_is_ready_beside_a_peer_whose_clock_is_behind() {
    let (right, behind) = (Skew::default(), Skew::behind(10 * MINUTE_US));
    let a = start(0, &behind, &MemoryStorage::new(), &[]).await;
    write(&a, entry("/old", b"v", now().saturating_sub(20 * MINUTE_US), root(), None)).await;
    let memory = MemoryStorage::new();
    // It holds something that is ahead of the peer's clock, and takes all that the peer has.
    let b = start(1, &right, &memory, &[]).await;
    write(&b, entry("/new", b"v", now(), root(), None)).await;
    b.stop().await;
    let b = Agent::start(never_compared(&right, &a), Box::new(memory)).await.unwrap();
    eventually("it is ready", async || b.status().ready).await;
    assert!(value(&b, "/old").await.is_some() && value(&a, "/new").await.is_none());
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_which_an_entry_waits_is_told_as_unknown_and_never_as_unset() {
    let (right, behind) = (Skew::default(), Skew::behind(10 * MINUTE_US));
    let a = start(0, &right, &MemoryStorage::new(), &[]).await;
    write(&a, entry("/old", b"v", now().saturating_sub(20 * MINUTE_US), root(), None)).await;
    let signing = Config { identity: Some(identity(0)), ..never_compared(&behind, &a) };
    let b = Agent::start(signing, Box::new(MemoryStorage::new())).await.unwrap();
    eventually("it is ready", async || b.status().ready).await;
    let http = b.http_address().unwrap();
    let code = async |key: &str| {
        let answer = http::get(http, &format!("/v1/kv{key}")).await;
        let status = answer.split(' ').nth(1).unwrap().to_owned();
        let code = if status == "200" { String::new() } else { http::json(&answer)["code"].to_string() };
        (status, code.trim_matches('"').to_owned())
    };
    let expected = |status: &str, code: &str| (status.to_owned(), code.to_owned());
    let mut before = Stream::open(&b, &keys(&["/new"]), None);
    let mut matching_before = Stream::open(&b, &matching(&["/n*"]), None);
    assert_eq!(before.key().await.state, "absent");
    before.synced().await;
    matching_before.synced().await;
    let early = entry("/new", b"v", now(), root(), None);
    let id = early.id().to_string();
    write(&a, early).await;
    // Who watches already is told.
    let told = |event: KeyEvent| (event.key, event.state, event.entries);
    let unknown = ("/new".to_owned(), "early".to_owned(), vec![id.clone()]);
    assert_eq!(told(before.key().await), unknown);
    assert_eq!(told(matching_before.key().await), unknown);
    // Who asks now, too.
    assert_eq!(code("/new").await, expected("503", "entry.not_yet"));
    assert_eq!(code("/other").await, expected("404", "key.unset"));
    // Nothing is written on a condition of which it is not known whether it holds.
    let conditions = ["*", "\"other\""].map(|tags| {
        [[Some(tags), None], [None, Some(tags)]].map(|[if_match, if_none_match]| {
            let bytes = |tags: Option<&'static str>| tags.map(str::as_bytes).into_iter();
            Precondition::parse(bytes(if_match), bytes(if_none_match)).unwrap()
        })
    });
    for condition in conditions.into_iter().flatten() {
        for value in [Some(Bytes::from("mine")), None] {
            let refused = b.write("/new".parse().unwrap(), value, condition.clone()).await.unwrap_err();
            assert!(refused.to_string().contains("it is not known whether the key has a value"), "{refused}");
        }
    }
    b.write("/unset".parse().unwrap(), Some(Bytes::from("mine")), Precondition::unset()).await.unwrap();
    for form in [WatchForm::Values, WatchForm::Records] {
        let mut named = Stream::open(&b, &WatchRequest { form, ..keys(&["/new"]) }, None);
        assert_eq!(told(named.key().await), unknown);
        let mut matching = Stream::open(&b, &WatchRequest { form, ..matching(&["/n*"]) }, None);
        assert_eq!(told(matching.key().await), unknown);
        matching.synced().await;
    }
    let page = http::json(&http::get(http, "/v1/keys?match=/n*").await);
    assert_eq!((&page["keys"], &page["unknown"]), (&serde_json::json!([]), &serde_json::json!(["/new"])));
    let page = http::json(&http::get(http, "/v1/keys?match=/o*").await);
    assert_eq!((page["keys"].as_array().unwrap().len(), page.get("unknown")), (1, None));

    behind.set_right();
    eventually("it is there", async || code("/new").await.0 == "200").await;
    assert_eq!(before.key().await.state, "present");
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_finds_no_room_is_sent_once_more_when_it_is_due() {
    let (right, behind) = (Skew::default(), Skew::behind(10 * MINUTE_US));
    let a = start(0, &right, &MemoryStorage::new(), &[]).await;
    let large = vec![7; 1_000_000];
    let (mut expected, mut each) = (0, 0);
    for number in 0..20 {
        each = write(&a, entry(&format!("/early/{number:02}"), &large, now(), root(), None)).await;
        expected += each;
    }
    let b = start(1, &behind, &MemoryStorage::new(), &[&a]).await;
    eventually("all wait", async || {
        let waiting = b.status().waiting;
        (waiting.facts, waiting.without_room) == (16, 4)
    })
    .await;
    nothing_moves(&b, &a).await;
    nothing_moves(&b, &a).await;
    assert_eq!(received(&b), expected);
    behind.set_right();
    eventually("both are equal", async || same_root(&[&a, &b])).await;
    eventually("and know it", async || b.peers().rows()[0].equal).await;
    assert_eq!(received(&b), expected + 4 * each);
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_record_that_does_not_read_holds_up_no_write() {
    let faults = Arc::<Faults>::default();
    let stall = Duration::from_secs(60);
    let a = faulty::start(0, &MemoryStorage::new(), &faults, &[], stall).await;
    let b = faulty::start(1, &MemoryStorage::new(), &Arc::default(), &[&a], stall).await;
    *faults.entry.lock().unwrap() =
        Some((EntryId(numbered(3).id().0), Some(StorageError::Io("a planted fault".into()))));
    assert_eq!(put(&a, numbered(3)).await, Verdict::Merged);
    let told = |agent: &Agent| {
        let last = agent.status().peers.first().and_then(|row| row.last_sync.clone());
        last.is_some_and(|last| last.reasons == ["unreadable"])
    };
    eventually("both are told", async || told(&a) && told(&b)).await;
    let expected = fifty_writes([&a, &b], now).await;
    eventually("it comes to rest", async || received(&b) == expected).await;
    // It is sent as soon as it is noticed that it reads again.
    *faults.entry.lock().unwrap() = None;
    let began = Instant::now();
    eventually("both are equal", async || same_root(&[&a, &b])).await;
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    a.stop().await;
    b.stop().await;
}

/// The same fact under a signature that is not its own.
fn spoilt(fact: &Fact) -> Fact {
    let mut record = fact.to_record().to_vec();
    record[5] ^= 1;
    let copy = Fact::from_record(cluster(), &record).unwrap();
    assert_eq!(copy.id(), fact.id());
    copy
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_taken_in_when_it_is_due_is_not_kept() {
    let a = start(0, &Skew::default(), &MemoryStorage::new(), &[]).await;
    let offer = async |fact: Fact| a.intake().offer(vec![fact], "a peer").await.unwrap()[0];
    let counts = || {
        let waiting = a.status().waiting;
        (waiting.facts, waiting.refused)
    };
    let writer = identity(1);
    let granted = grant(writer.public(), "/app/**", root(), None);
    let time = now().saturating_add(10 * MINUTE_US);
    let early = entry("/app/x", b"value", time, &writer, Some(granted.id()));
    let is_early = |verdict| matches!(verdict, Verdict::NotYet { .. });

    // A put is told, and keeps nothing here.
    assert!(is_early(put(&a, early.clone()).await));
    // Its chain may come with the next copy.
    assert!(is_early(offer(early.clone()).await));
    assert_eq!(counts(), (0, 0));
    assert_eq!(put(&a, Fact::Grant(granted.clone())).await, Verdict::Merged);
    // A spoilt copy would keep the whole one away.
    assert!(is_early(offer(spoilt(&early)).await));
    assert_eq!(counts(), (0, 0));
    assert!(is_early(offer(early.clone()).await));
    assert_eq!(counts(), (1, 0));

    // What its body condemns is remembered, early or not.
    let outside = entry("/other", b"value", time, &writer, Some(granted.id()));
    assert!(is_early(offer(outside).await));
    assert_eq!(counts(), (1, 1));
    let outside = entry("/other", b"value", now(), &writer, Some(granted.id()));
    assert_eq!(offer(outside.clone()).await, Verdict::Refused(Code::OutOfReach));
    assert_eq!(offer(outside).await, Verdict::Refused(Code::OutOfReach), "it is judged again all the same");
    assert_eq!(counts(), (1, 2));
    let fine = entry("/app/y", b"value", now(), &writer, Some(granted.id()));
    assert_eq!(offer(spoilt(&fine)).await, Verdict::Refused(Code::BadSignature));
    assert_eq!(counts(), (1, 2), "a copy condemns no fact");
    assert_eq!(offer(fine).await, Verdict::Merged);
    a.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_of_its_own_waits_without_the_frame_it_came_in() {
    // Facts of one frame share its bytes; what waits counts what it holds.
    let a = start(0, &Skew::default(), &MemoryStorage::new(), &[]).await;
    let time = now().saturating_add(10 * MINUTE_US);
    let record = entry("/x", b"value", time, root(), None).to_record();
    let mut frame = Bytes::from([record.as_ref(), &[0; 100_000]].concat());
    let fact = Fact::take_record(cluster(), &mut frame).unwrap();
    a.intake().offer(vec![fact], "a peer").await.unwrap();
    assert!(frame.is_unique(), "nobody else holds the frame");
    assert_eq!(a.status().waiting.bytes, record.len() as u64 + 256);
    a.stop().await;
}
