//! Agents with listed peers: writes spread, revocations take back, strangers stay out.

use kvgossip_agent::now;
use kvgossip_api::SyncOutcome;
use kvgossip_engine::session::MAX_NAMED;
use kvgossip_grants::{
    Authority, By, Code, EntryDraft, EntryFact, Fact, PublicKey, Revocation, Signer, Verdict, Verifier,
};
use kvgossip_testkit::agents::*;
use kvgossip_testkit::wait::eventually;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_reaches_a_peer_and_a_revocation_takes_it_back() {
    let a = start(config(0)).await;
    let mut second = config(1);
    second.peers = vec![peer(&a)];
    let b = start(second).await;

    let writer = identity(1);
    let grant = grant(writer.public(), "/app/**", root(), None);
    assert_eq!(put(&a, Fact::Grant(grant.clone())).await, Verdict::Merged);
    let first = entry("/app/x", b"one", now(), &writer, Some(grant.id()));
    assert_eq!(put(&a, first).await, Verdict::Merged);
    eventually("the write reaches the other", async || value(&b, "/app/x").await.is_some()).await;
    let second = entry("/app/y", b"two", now(), &writer, Some(grant.id()));
    assert_eq!(put(&b, second).await, Verdict::Merged);
    eventually("and back", async || value(&a, "/app/y").await.is_some()).await;

    let revocation = Revocation { grant: grant.clone(), by: By::Root, revoked_at: now() };
    assert_eq!(put(&b, Fact::Revocation(sign(revocation, root()))).await, Verdict::Merged);
    eventually("both fall everywhere", async || {
        value(&a, "/app/x").await.is_none() && value(&a, "/app/y").await.is_none() && same_root(&[&a, &b])
    })
    .await;
    let late = entry("/app/z", b"late", now(), &writer, Some(grant.id()));
    assert_eq!(put(&a, late).await, Verdict::Unjustified(Code::GrantRevoked));
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn defect_12_a_restarted_peer_is_caught_up_without_any_further_write() {
    let a = start(config(0)).await;
    let mut second = config(1);
    second.peers = vec![peer(&a)];
    second.sync = "127.0.0.1:0".parse().expect("an address");
    let b = start(second).await;
    eventually("connected", async || a.peers().rows().iter().any(|row| row.connected)).await;
    b.stop().await;
    for number in 0..20 {
        let fact = entry(&format!("/n/{number}"), b"while away", now(), root(), None);
        assert_eq!(put(&a, fact).await, Verdict::Merged);
    }
    let mut again = config(1);
    again.peers = vec![peer(&a)];
    let b = start(again).await;
    eventually("caught up", async || value(&b, "/n/19").await.is_some() && same_root(&[&a, &b])).await;
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_third_replica_hears_through_the_second() {
    let a = start(config(0)).await;
    let mut second = config(1);
    second.peers = vec![peer(&a)];
    let b = start(second).await;
    let mut third = config(2);
    third.peers = vec![peer(&b)];
    let c = start(third).await;
    assert_eq!(put(&a, entry("/k", b"v", now(), root(), None)).await, Verdict::Merged);
    eventually("two hops", async || value(&c, "/k").await.is_some()).await;
    assert_eq!(put(&c, entry("/l", b"v", now(), root(), None)).await, Verdict::Merged);
    eventually("and back", async || value(&a, "/l").await.is_some() && same_root(&[&a, &b, &c])).await;
    for agent in [a, b, c] {
        agent.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn defect_14_a_stranger_gets_nothing_unless_reading_is_open_and_never_writes() {
    for open_read in [false, true] {
        let mut first = config(0);
        first.allowed = std::iter::empty().collect();
        first.open_read = open_read;
        let a = start(first).await;
        assert!(a.peers().address().ip().is_loopback(), "nothing listens elsewhere unless told");
        assert_eq!(put(&a, entry("/k", b"v", now(), root(), None)).await, Verdict::Merged);
        let mut stranger = config(3);
        stranger.peers = vec![peer(&a)];
        let b = start(stranger).await;
        assert_eq!(put(&b, entry("/pushed", b"v", now(), root(), None)).await, Verdict::Merged);
        if open_read {
            eventually("the stranger pulls", async || value(&b, "/k").await.is_some()).await;
        } else {
            eventually("the refusal shows", async || {
                let report =
                    b.sync_with(&peer(&a).address.to_string(), kvgossip_grants::PathPrefix::root()).await;
                report.is_err_and(|error| error.code == "peer.not_admitted")
            })
            .await;
            assert_eq!(value(&b, "/k").await, None);
        }
        assert_eq!(value(&a, "/pushed").await, None);
        a.stop().await;
        b.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_tells_why_a_listed_peer_is_not_connected() {
    let mut strict = config(0);
    strict.allowed = std::iter::empty().collect();
    let a = start(strict).await;
    let mut second = config(1);
    let free = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    let silent = kvgossip_agent::PeerTarget {
        address: free.local_addr().expect("bound").into(),
        id: Some(replica_id(2)),
    };
    second.peers = vec![peer(&a), silent];
    second.limits.handshake_timeout = std::time::Duration::from_millis(500);
    let b = start(second).await;
    eventually("both dials have failed", async || {
        b.peers().rows().iter().filter(|row| row.listed && row.last_error.is_some()).count() == 2
    })
    .await;
    let errors: Vec<_> = b.peers().rows().into_iter().filter_map(|row| row.last_error).collect();
    assert_eq!(errors[1].code, kvgossip_transport::Code::HandshakeTimeout.name());
    assert_eq!(errors[0].code, kvgossip_transport::Code::NotAdmitted.name(), "{errors:?}");
    assert!(!errors[0].message.contains("ertificate"), "{errors:?}");
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_diff_names_what_each_lacks_and_moves_nothing() {
    let (a, b) = (start(config(0)).await, start(config(1)).await);
    let both = entry("/x/both", b"same", now(), root(), None);
    for agent in [&a, &b] {
        assert_eq!(put(agent, both.clone()).await, Verdict::Merged);
    }
    let writer = identity(1);
    let grant = grant(writer.public(), "/x/**", root(), None);
    assert_eq!(put(&a, Fact::Grant(grant.clone())).await, Verdict::Merged);
    let old = entry("/x/new", b"old", now(), root(), None);
    assert_eq!(put(&b, old).await, Verdict::Merged);
    for number in 0..40 {
        let fact = entry(&format!("/x/a{number}"), b"of a", now(), root(), None);
        assert_eq!(put(&a, fact).await, Verdict::Merged);
    }
    let newer = entry("/x/new", b"new", now(), root(), None);
    assert_eq!(put(&a, newer.clone()).await, Verdict::Merged);
    let theirs = entry("/x/b", b"of b", now(), root(), None);
    assert_eq!(put(&b, theirs.clone()).await, Verdict::Merged);
    let outside = entry("/y/b", b"of b", now(), root(), None);
    assert_eq!(put(&b, outside.clone()).await, Verdict::Merged);
    let roots = [a.store().view().root(), b.store().view().root()];

    // The session is opened on a connection that nobody syncs over: neither lists the other.
    let address = b.peers().address().to_string();
    let prefix = kvgossip_grants::PathPrefix::parse("/x").expect("a prefix");
    let found = a.peers().diff_with(&address, prefix).await.expect("a comparison");
    assert!(!found.equal && !found.truncated);
    let authority: Vec<_> = found.here.iter().filter(|row| row.kind == "authority").collect();
    assert_eq!(authority.len(), 1);
    assert_eq!(authority[0].id, grant.id().to_string());
    assert_eq!(found.here.len(), 42, "{:?}", found.here);
    assert!(found.here.iter().any(|row| row.id == newer.id().to_string()));
    let there: Vec<_> = found.there.iter().map(|row| row.id.clone()).collect();
    assert_eq!(there, [theirs.id().to_string()], "nothing of another prefix, and nothing superseded");
    assert_eq!(found.there[0].key.as_deref(), Some("/x/b"));

    // Now that they are connected they sync by themselves, and then nothing differs.
    eventually("they are equal", async || same_root(&[&a, &b])).await;
    assert_ne!(a.store().view().root(), roots[0]);
    let found =
        a.peers().diff_with(&address, kvgossip_grants::PathPrefix::root()).await.expect("a comparison");
    assert!(found.equal && found.here.is_empty() && found.there.is_empty());
    assert_eq!(found.flights, 2);
    a.stop().await;
    b.stop().await;
}

/// Puts zeros where a signature belongs: a comparison does not look at signatures.
struct Unsigned;

impl Signer for Unsigned {
    fn public(&self) -> &kvgossip_grants::PublicKey {
        root().public()
    }

    fn sign(&self, _: &[u8]) -> Result<Vec<u8>, kvgossip_grants::SigningKeyError> {
        Ok(vec![0; self.public().signature_len()])
    }
}

impl Verifier for Unsigned {
    fn verify(&self, _: &PublicKey, _: &[u8], signature: &[u8]) -> bool {
        signature.iter().all(|byte| *byte == 0)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_diff_of_more_than_can_be_named_says_so() {
    let authority = Authority::new(root().public().clone());
    let unsigned = |number: usize| {
        let (key, value) = (format!("/n/{number:05}").parse().expect("a key"), Some("value".into()));
        let draft = EntryDraft { key, value, timestamp: now(), grant: None };
        let fact = Fact::Entry(EntryFact::sign(cluster(), draft, &Unsigned).expect("zeros"));
        authority.check(fact, now()).expect("root's").verify(&Unsigned).expect("zeros")
    };
    for full_is_asked in [true, false] {
        let (a, b) = (start(config(0)).await, start(config(1)).await);
        let full = if full_is_asked { &a } else { &b };
        full.store().commit((0..MAX_NAMED + 10).map(unsigned).collect()).await.expect("a store");
        let address = b.peers().address().to_string();
        let found =
            a.peers().diff_with(&address, kvgossip_grants::PathPrefix::root()).await.expect("a comparison");
        let named = if full_is_asked { (MAX_NAMED, 0) } else { (0, MAX_NAMED) };
        assert_eq!((found.here.len(), found.there.len()), named);
        assert!(found.truncated && !found.equal, "asked at the full one: {full_is_asked}");
        a.stop().await;
        b.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sync_confined_to_a_prefix_brings_what_is_under_it() {
    let (a, b) = (start(config(0)).await, start(config(1)).await);
    for key in ["/x", "/x/1", "/xy", "/z/1"] {
        assert_eq!(put(&a, entry(key, b"value", now(), root(), None)).await, Verdict::Merged);
    }
    let prefix = kvgossip_grants::PathPrefix::parse("/x").expect("a prefix");
    let report = b.sync_with(&a.peers().address().to_string(), prefix.clone()).await.expect("a session");
    assert_eq!((report.outcome, report.received.entry_facts), (SyncOutcome::Equal, 2), "{report:?}");
    assert_eq!(a.store().view().digest(&prefix), b.store().view().digest(&prefix));
    a.stop().await;
    b.stop().await;
}
