//! Two replicas made equal over QUIC: the engine's session, the stream under it, and what goes wrong.
#![allow(clippy::unwrap_used)]

mod common;

use bytes::Bytes;
use common::host::{Host, Trouble, replica};
use common::{Pair, allow, bind, bind_with, connect, keys, pair, pair_with, soon};
use kvgossip_engine::session::{Config, Outcome, Role, Session};
use kvgossip_grants::{Fact, Key, MAX_VALUE_BYTES, PathPrefix};
use kvgossip_sim::scribe::{Terms, at};
use kvgossip_sim::{Link, Scribe, SimReplica};
use kvgossip_transport::limits::MAX_FRAME_BYTES;
use kvgossip_transport::{
    Code, Connection, Limits, SessionHost, SessionOptions, SessionReport, TransportError, run_session,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn options(nonce: u64) -> SessionOptions {
    SessionOptions { scope: PathPrefix::root(), nonce: nonce.to_le_bytes(), takes_facts: true }
}

/// Runs one session; gives the report of the side that began and of the other.
async fn sync(
    ends: (&Connection, &Connection),
    hosts: (&Arc<Host>, &Arc<Host>),
    nonce: u64,
) -> (SessionReport, SessionReport) {
    let (one, two) = (Arc::clone(hosts.0), Arc::clone(hosts.1));
    let began = async {
        let stream = ends.0.open_session().await.unwrap();
        run_session(stream, options(nonce), one).await
    };
    let answered = async {
        let stream = ends.1.accept_session().await.unwrap();
        run_session(stream, options(!nonce), two).await
    };
    soon(async { tokio::join!(began, answered) }).await
}

/// Facts of a cluster that two replicas have parts of.
fn world(seed: u64, size: usize) -> (Scribe, Vec<Fact>, Vec<Fact>) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut scribe = Scribe::new(4);
    let mut parts = (Vec::new(), Vec::new());
    let mut share = |rng: &mut StdRng, fact: Fact| {
        let who = rng.random_range(0..4);
        if who != 1 {
            parts.0.push(fact.clone());
        }
        if who != 2 {
            parts.1.push(fact);
        }
    };
    let a = scribe.grant(0, 1, "/a/**", None, Terms::default());
    let b = scribe.grant(1, 2, "/a/b/**", Some(a.id()), Terms::default());
    for grant in [&a, &b] {
        share(&mut rng, Fact::Grant(grant.clone()));
    }
    for n in 0..size {
        let (who, grant, dir) = match rng.random_range(0..3) {
            0 => (0, None, "/c"),
            1 => (1, Some(a.id()), "/a"),
            _ => (2, Some(b.id()), "/a/b"),
        };
        let key = format!("{dir}/{}", rng.random_range(0..size));
        let value = vec![n as u8; rng.random_range(0..900)];
        let fact = scribe.set(who, &key, &value, rng.random_range(1..1_000), grant);
        share(&mut rng, fact);
    }
    if seed.is_multiple_of(2) {
        let revocation = scribe.revoke(&b, kvgossip_grants::By::Issuer, 1, 500);
        share(&mut rng, revocation);
        let floor = scribe.floor(&["/c/**"], 300);
        share(&mut rng, floor);
    }
    (scribe, parts.0, parts.1)
}

fn assert_counted_to_the_byte(report: &SessionReport) {
    assert_eq!(report.bytes.sent, report.tally.sent.total());
    assert_eq!(report.bytes.received, report.tally.received.total());
}

/// The simulator runs the same session without any transport: it has to cost and do the very same.
#[tokio::test]
async fn a_session_over_quic_is_the_simulated_one_to_the_byte() {
    let pair = pair().await;
    for seed in 0..12 {
        let (scribe, ours, theirs) = world(seed, 20 << (seed % 6));
        let (one, two) = (Host::new(&scribe, &ours), Host::new(&scribe, &theirs));
        let (mut sim_one, mut sim_two) = (replica(&scribe, &ours), replica(&scribe, &theirs));
        let link = Link { seed, ..Link::default() };
        let simulated = kvgossip_sim::sync(&mut sim_one, &mut sim_two, &link);

        let (began, answered) = sync((&pair.out, &pair.inward), (&one, &two), seed).await;
        assert_eq!(
            began.result.as_ref().ok().copied(),
            simulated.outcome,
            "seed {seed} {began:?} {answered:?}"
        );
        assert_eq!(answered.result.as_ref().ok().copied(), simulated.responder_outcome, "seed {seed}");
        assert_eq!(simulated.outcome, Some(Outcome::Equal), "seed {seed}");
        assert_eq!(began.tally.flights, simulated.tally.flights, "seed {seed}");
        assert_eq!(began.tally.sent, simulated.tally.sent, "seed {seed}");
        assert_eq!(began.tally.received, simulated.tally.received, "seed {seed}");
        assert_eq!(began.tally.merged, simulated.tally.merged, "seed {seed}");
        for report in [&began, &answered] {
            assert_counted_to_the_byte(report);
        }
        assert_eq!(one.snapshot().view.root(), two.snapshot().view.root());
        assert_eq!(one.snapshot().view.root(), sim_one.snapshot().view.root());
    }
}

#[tokio::test]
async fn equal_replicas_exchange_hellos_and_nothing_else() {
    let pair = pair().await;
    let (scribe, facts, _) = world(3, 200);
    let hosts = (&Host::new(&scribe, &facts), &Host::new(&scribe, &facts));
    for (from, to) in [(&pair.out, &pair.inward), (&pair.inward, &pair.out)] {
        let (began, answered) = sync((from, to), hosts, 7).await;
        assert!(matches!((began.result, answered.result), (Ok(Outcome::Equal), Ok(Outcome::Equal))));
        assert_eq!(began.tally.flights, 2);
        assert!(began.bytes.sent <= 128 && began.bytes.received <= 128, "{:?}", began.bytes);
    }
}

/// A grant, and a grant under it, come in one flight: what was judged before its chain is judged again.
#[tokio::test]
async fn chains_of_grants_come_over_in_one_session_whatever_the_host_makes_of_a_batch() {
    for depth in [2, 9, 16] {
        for trouble in [Trouble::Nothing, Trouble::AtOnce] {
            let pair = pair().await;
            let mut scribe = Scribe::new(3);
            let (mut facts, mut parent, mut holder) = (Vec::new(), None, 0);
            for level in 0..depth {
                let grantee = 1 + level % 2;
                let grant = scribe.grant(holder, grantee, "/**", parent, Terms::default());
                (parent, holder) = (Some(grant.id()), grantee);
                facts.push(Fact::Grant(grant));
                facts.push(scribe.set(holder, &format!("/k/{level}"), b"v", 1, parent));
            }
            let (full, fresh) = (Host::new(&scribe, &facts), Host::with(&scribe, &[], trouble));
            let (began, answered) = sync((&pair.out, &pair.inward), (&fresh, &full), depth as u64).await;
            let results = (began.result.as_ref().ok(), answered.result.as_ref().ok());
            assert_eq!(results, (Some(&Outcome::Equal), Some(&Outcome::Equal)), "{began:?} {answered:?}");
            assert_eq!((fresh.len(), began.tally.merged), (depth, 2 * depth as u64));
            assert_eq!((began.tally.waste, began.tally.rounds), (0, 1));
        }
    }
}

/// Both runtimes: the driver blocks differently in each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn much_flows_both_ways_on_a_multi_threaded_runtime() {
    let pair = pair().await;
    let scribe = Scribe::new(1);
    let fill = |range: std::ops::Range<u64>| -> Vec<Fact> {
        range.map(|n| scribe.set(0, &format!("/k/{n}"), &[n as u8; 700], 1, None)).collect()
    };
    let (ours, theirs) = (fill(0..8_000), fill(7_000..15_000));
    let (one, two) = (Host::new(&scribe, &ours), Host::new(&scribe, &theirs));
    let (began, answered) = sync((&pair.out, &pair.inward), (&one, &two), 1).await;
    assert!(
        matches!((&began.result, &answered.result), (Ok(Outcome::Equal), Ok(Outcome::Equal))),
        "{began:?} {answered:?}"
    );
    assert_eq!((one.len(), two.len()), (15_000, 15_000));
    assert_eq!((began.tally.merged, answered.tally.merged), (7_000, 7_000));
    assert_counted_to_the_byte(&began);
    assert_counted_to_the_byte(&answered);
}

#[tokio::test]
async fn the_largest_entry_fits_a_frame() {
    let pair = pair().await;
    let mut scribe = Scribe::new(2);
    let grant = scribe.grant(0, 1, "/**", None, Terms::default());
    // 1024 bytes in segments of 255 and less.
    let key = format!("/{0}/{0}/{0}/{1}", "k".repeat(255), "k".repeat(255));
    assert_eq!(Key::parse(&key).unwrap().as_str().len(), 1024);
    let largest = scribe.set(1, &key, &vec![7; MAX_VALUE_BYTES], 999_999, Some(grant.id()));
    assert!(largest.to_record().len() < MAX_FRAME_BYTES - 1_024, "also with the longest signature");
    let (one, two) = (Host::new(&scribe, &[Fact::Grant(grant), largest]), Host::new(&scribe, &[]));
    let (began, _) = sync((&pair.out, &pair.inward), (&one, &two), 1).await;
    assert!(matches!(began.result, Ok(Outcome::Equal)));
    assert_eq!(two.len(), 1);
}

#[tokio::test]
async fn a_stranger_pulls_and_cannot_push() {
    let [a, b, c, _] = keys();
    let dialled = bind(&b, allow([&a]).open_read(true));
    let stranger = bind(&c, allow([]));
    let (out, inward) = connect(&stranger, &dialled, Some(b.id())).await;
    let scribe = Scribe::new(1);
    let facts = |name: &str| -> Vec<Fact> {
        (0..30).map(|n| scribe.set(0, &format!("/{name}/{n}"), b"v", 1, None)).collect()
    };
    let (strange, ours) = (Host::new(&scribe, &facts("theirs")), Host::new(&scribe, &facts("ours")));
    for (ends, hosts) in [((&out, &inward), (&strange, &ours)), ((&inward, &out), (&ours, &strange))] {
        let (began, answered) = sync(ends, hosts, 1).await;
        for report in [began, answered] {
            let Ok(Outcome::Unsettled(obstacles)) = report.result else { panic!("{report:?}") };
            assert!(obstacles.read_only);
        }
    }
    assert_eq!((strange.len(), ours.len()), (60, 30));
}

/// It does not care what our hello said.
#[tokio::test]
async fn a_stranger_that_pushes_all_the_same_is_dropped() {
    let [a, b, c, _] = keys();
    let dialled = bind(&b, allow([&a]).open_read(true));
    let stranger = bind(&c, allow([]));
    let (out, inward) = connect(&stranger, &dialled, Some(b.id())).await;
    let scribe = Scribe::new(1);
    let fact = scribe.set(0, "/k", b"v", 1, None);
    let report = push(&out, &inward, &scribe, vec![[&[6], &fact.to_record()[..]].concat().into()]).await;
    assert_eq!(report.result.unwrap_err().code(), "session.protocol");
    let end = soon(out.closed()).await;
    assert!(matches!(end, TransportError::ByPeer { code: Code::Protocol, .. }), "{end}");
}

#[tokio::test]
async fn facts_that_can_never_be_accepted_cost_the_connection() {
    let pair = pair().await;
    let scribe = Scribe::new(1);
    let report = push(&pair.out, &pair.inward, &scribe, vec![Bytes::from_static(b"\x06junk"); 8]).await;
    assert_eq!(report.result.unwrap_err().code(), "peer.misbehaved");
    assert_eq!(report.tally.refused, 8);
    let end = soon(pair.out.closed()).await;
    assert!(matches!(end, TransportError::ByPeer { code: Code::Misbehaved, .. }), "{end}");
}

#[tokio::test]
async fn frames_that_mean_nothing_cost_the_connection() {
    let meaningless: [&[&[u8]]; 2] = [&[b"\xff"], &[&[PARTS, 0xff, 0xff], &[END, 0]]];
    for frames in meaningless {
        let frames = frames.iter().map(|frame| Bytes::copy_from_slice(frame)).collect();
        let pair = pair().await;
        let scribe = Scribe::new(1);
        let report = push(&pair.out, &pair.inward, &scribe, frames).await;
        assert_eq!(report.result.unwrap_err().code(), "session.protocol");
        let end = soon(pair.out.closed()).await;
        assert!(matches!(end, TransportError::ByPeer { code: Code::Protocol, .. }), "{end}");
    }
}

/// Kind bytes of session frames; a fact's record is a frame by itself.
const PARTS: u8 = 0x11;
const END: u8 = 0x15;

/// Sends a good hello and then these frames, whatever comes back; gives the report of the other side.
/// Sends frames out of a liar's hello; frames of facts begin with 6.
async fn push(from: &Connection, to: &Connection, scribe: &Scribe, frames: Vec<Bytes>) -> SessionReport {
    let mut stream = from.open_session().await.unwrap();
    let liar = replica(scribe, &[scribe.set(0, "/of/the/liar", b"v", 1, None)]);
    let config = Config {
        role: Role::Initiator,
        scope: PathPrefix::root(),
        nonce: [1; 8],
        takes_facts: true,
        newcomer: None,
    };
    let mut session = Session::new(config, liar.view());
    while let Some(frame) = session.poll_frame(liar.view(), liar.reader().as_ref()).unwrap() {
        stream.send(frame).await.unwrap();
    }
    for frame in frames {
        stream.send(frame).await.unwrap();
    }
    let host = Host::new(scribe, &[]);
    let there = soon(to.accept_session()).await.unwrap();
    let report = soon(run_session(there, options(2), Arc::clone(&host))).await;
    assert_eq!(host.len(), 0);
    report
}

#[tokio::test]
async fn another_cluster_is_told_apart() {
    let pair = pair().await;
    let (scribe, facts, _) = world(1, 20);
    let stranger = kvgossip_grants::MockKey::new(99);
    let foreign = Host {
        replica: Mutex::new(SimReplica::new(kvgossip_grants::Signer::public(&stranger).clone(), at(1))),
        trouble: Trouble::Nothing,
    };
    let (began, answered) =
        sync((&pair.out, &pair.inward), (&Arc::new(foreign), &Host::new(&scribe, &facts)), 1).await;
    assert_eq!(answered.result.unwrap_err().code(), "peer.foreign_cluster");
    assert_eq!(began.result.unwrap_err().code(), "peer.foreign_cluster", "it is told why");
}

#[tokio::test]
async fn a_failing_store_ends_the_session_and_not_the_connection() {
    for (trouble, code) in [(Trouble::Store, "store.full"), (Trouble::Panic, "internal.task")] {
        let pair = pair().await;
        let (scribe, facts, _) = world(1, 50);
        let (good, bad) = (Host::new(&scribe, &facts), Host::with(&scribe, &[], trouble));
        let (began, answered) = sync((&pair.out, &pair.inward), (&good, &bad), 1).await;
        assert_eq!(answered.result.unwrap_err().code(), code);
        let told = if trouble == Trouble::Store { "store.failed" } else { "internal" };
        assert_eq!(began.result.unwrap_err().code(), told, "it is told why");
        // The store was repaired, the program mended.
        let again = Host::new(&scribe, &[]);
        let (began, _) = sync((&pair.out, &pair.inward), (&good, &again), 2).await;
        assert!(matches!(began.result, Ok(Outcome::Equal)));
    }
}

/// Our own verifier is slow: the peer is not to blame, however little patience we have.
#[tokio::test]
async fn our_own_slowness_is_not_the_peers() {
    let [a, b, ..] = keys();
    let mut impatient = Limits::default();
    impatient.no_progress_timeout = Duration::from_secs(1);
    let dialler = bind_with(&a, allow([&b]), impatient);
    let dialled = bind(&b, allow([&a]));
    let (out, inward) = connect(&dialler, &dialled, None).await;
    let (scribe, facts, _) = world(1, 50);
    let slow = Host::with(&scribe, &[], Trouble::Slow(Duration::from_millis(2_500)));
    let (began, _) = sync((&out, &inward), (&slow, &Host::new(&scribe, &facts)), 1).await;
    assert!(matches!(began.result, Ok(Outcome::Equal)), "{:?}", began.result);
}

/// What is with a slow verifier is bounded, however much the peer sends.
#[tokio::test]
async fn a_peer_cannot_fill_our_memory_faster_than_we_verify() {
    let pair = pair().await;
    let scribe = Scribe::new(1);
    let facts: Vec<Fact> = (0..24)
        .map(|n| scribe.set(0, &format!("/k/{n}"), &vec![n as u8; MAX_VALUE_BYTES], 1, None))
        .collect();
    let (full, stuck) =
        (Host::new(&scribe, &facts), Host::with(&scribe, &[], Trouble::Slow(Duration::from_secs(3_600))));
    let there = pair.inward.clone();
    let sending = tokio::spawn(async move {
        let stream = there.accept_session().await.unwrap();
        run_session(stream, options(1), full).await
    });
    let stream = pair.out.open_session().await.unwrap();
    let receiving = tokio::spawn(run_session(stream, options(2), Arc::clone(&stuck)));
    // The sender stands still once the verifier's budget and the stream's window are full.
    let moved = soon(async {
        let mut before = 0;
        loop {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let (_, received) = pair.out.udp_bytes();
            if received == before && received > 8 << 20 {
                return received;
            }
            before = received;
        }
    })
    .await;
    assert!(moved < 14 << 20, "{moved} bytes came in");
    receiving.abort();
    assert!(soon(sending).await.unwrap().result.is_err());
}

#[tokio::test]
async fn what_was_merged_before_a_cut_is_not_sent_again() {
    let Pair { dialler, dialled, out, inward } = pair_with(Limits::default()).await;
    let scribe = Scribe::new(1);
    let facts: Vec<Fact> =
        (0..3_000).map(|n| scribe.set(0, &format!("/k/{n}"), &[7; 2_000], 1, None)).collect();
    let (full, empty) = (Host::new(&scribe, &facts), Host::new(&scribe, &[]));
    let cutter = (Arc::clone(&empty), inward.clone());
    tokio::spawn(async move {
        while cutter.0.len() < 500 {
            tokio::task::yield_now().await;
        }
        cutter.1.close(Code::Shutdown, "cut");
    });
    let (began, answered) = sync((&out, &inward), (&full, &empty), 1).await;
    assert_eq!(began.result.unwrap_err().code(), "shutdown");
    assert!(answered.result.is_err());
    let there = empty.len();
    assert!((500..3_000).contains(&there), "{there}");

    let (out, inward) = connect(&dialler, &dialled, None).await;
    let (began, _) = sync((&out, &inward), (&full, &empty), 2).await;
    assert!(matches!(began.result, Ok(Outcome::Equal)));
    assert_eq!(began.tally.sent.entry_facts, (3_000 - there) as u64);
    assert_eq!(empty.len(), 3_000);
}

/// A peer that ends its stream in the middle leaves no doubt about it.
#[tokio::test]
async fn a_stream_that_ends_early_is_an_error() {
    let pair = pair().await;
    let stream = pair.out.open_session().await.unwrap();
    let ended = tokio::spawn(async move { stream.finish().await });
    let there = soon(pair.inward.accept_session()).await.unwrap();
    let report = soon(run_session(there, options(1), Host::new(&Scribe::new(1), &[]))).await;
    assert_eq!(report.result.unwrap_err().code(), "session.protocol");
    assert!(soon(ended).await.unwrap().is_err());
}
