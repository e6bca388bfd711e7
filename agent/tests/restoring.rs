//! Facts that come whole are judged like a peer's, whatever is there already; what was signed just now is judged more
//! strictly.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use kvgossip_agent::{Agent, now};
use kvgossip_grants::{
    By, Code, Digest, EntryDraft, EntryFact, Fact, Floor, Grant, Key, KeyGlob, Revocation, Signed, Signer,
    Timestamp, Verdict,
};
use kvgossip_testkit::agents::*;
use kvgossip_testkit::http;
use serde_json::{Value, json};
use std::net::SocketAddr;

/// The agents' own limit for values, in bytes.
const OWN_LIMIT: usize = 8;
const SECOND: u64 = 1_000_000;

fn ago(seconds: u64) -> Timestamp {
    Timestamp::from_micros(now().as_micros() - seconds * SECOND).expect("a time")
}

async fn replica() -> Agent {
    let mut config = config(0);
    config.max_value_bytes = OWN_LIMIT;
    start(config).await
}

/// What a cluster holds some time after a grant has expired.
struct World {
    expired: Signed<Grant>,
    facts: Vec<Fact>,
    late_entry: Fact,
    late_grant: Fact,
    future_floor: Fact,
    large: Fact,
}

impl World {
    fn make() -> Self {
        let (team, deployer) = (identity(1), identity(2));
        let given = |grant: Signed<Grant>, issuer, expires_at| {
            sign(Grant { issued_at: ago(100), expires_at, ..grant.body().clone() }, issuer)
        };
        let expired = given(grant(team.public(), "/t/**", root(), None), root(), Some(ago(10)));
        let below = given(grant(deployer.public(), "/t/d/**", &team, Some(expired.id())), &team, None);
        let live = given(grant(deployer.public(), "/l/**", root(), None), root(), None);
        let revoked = given(grant(deployer.public(), "/r/**", root(), None), root(), None);
        let revocation = Revocation { grant: revoked.clone(), by: By::Root, revoked_at: ago(20) };
        let late_entry = entry("/t/x", b"second", ago(40), &team, Some(expired.id()));
        let future = now().saturating_add(3600 * SECOND);
        let patterns = vec![KeyGlob::parse("/f/**").expect("a glob")];
        let floor = Floor { patterns, before: future, nonce: [7; 16] };
        let large = entry("/large", &[1; OWN_LIMIT + 1], ago(40), root(), None);
        let (future_floor, late_grant) = (Fact::Floor(sign(floor, root())), Fact::Grant(below.clone()));
        let facts = vec![
            Fact::Grant(expired.clone()),
            late_grant.clone(),
            Fact::Grant(live.clone()),
            Fact::Grant(revoked.clone()),
            Fact::Revocation(sign(revocation, root())),
            future_floor.clone(),
            entry("/t/x", b"first", ago(50), &team, Some(expired.id())),
            late_entry.clone(),
            entry("/t/d/y", b"below", ago(50), &deployer, Some(below.id())),
            delete("/t/d/z", ago(50), &deployer, &below),
            entry("/l/x", b"live", ago(50), &deployer, Some(live.id())),
            entry("/r/x", b"gone", ago(50), &deployer, Some(revoked.id())),
            entry("/f/x", b"floored", ago(50), root(), None),
            large.clone(),
        ];
        Self { expired, facts, late_entry, late_grant, future_floor, large }
    }
}

fn delete(key: &str, timestamp: Timestamp, signer: &dyn Signer, under: &Signed<Grant>) -> Fact {
    let key = Key::parse(key).expect("a key");
    let draft = EntryDraft { key, value: None, timestamp, grant: Some(under.id()) };
    Fact::Entry(EntryFact::sign(cluster(), draft, signer).expect("a signature"))
}

/// Offers facts as `import` does: a portion at a time, and again what lacks its chain as long as others are merged.
async fn import(agent: &Agent, facts: &[Fact], portion: usize) {
    let mut open: Vec<Fact> = facts.to_vec();
    loop {
        let (mut lacking, mut helped) = (Vec::new(), false);
        for part in open.chunks(portion) {
            let offered: Vec<_> = part.iter().cloned().map(Ok).collect();
            let verdicts = agent.offer_facts(&offered).await.expect("the store works");
            for (fact, verdict) in part.iter().zip(verdicts) {
                let refused = matches!(verdict, Verdict::Refused(_));
                assert!(!refused, "the {} {} is {verdict:?}", fact.kind(), fact.id());
                helped |= verdict == Verdict::Merged;
                if matches!(verdict, Verdict::Unjustified(_)) {
                    lacking.push(fact.clone());
                }
            }
        }
        if lacking.is_empty() || !helped {
            return;
        }
        open = lacking;
    }
}

fn root_of(agent: &Agent) -> Digest {
    agent.store().view().root()
}

/// A permutation that the seed alone decides.
fn shuffled(facts: &[Fact], seed: u64) -> Vec<Fact> {
    let mut facts = facts.to_vec();
    let mut state = seed.wrapping_mul(2) + 1;
    for last in (1..facts.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        facts.swap(last, (state >> 33) as usize % (last + 1));
    }
    facts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_there_and_the_order_of_facts_do_not_matter() {
    let facts = World::make().facts;
    let empty = replica().await;
    import(&empty, &facts, facts.len()).await;
    let expected = root_of(&empty);
    assert_eq!(value(&empty, "/t/x").await, None, "its chain has expired");
    assert_eq!(value(&empty, "/l/x").await.as_deref(), Some(&b"live"[..]));
    empty.stop().await;

    let authority: Vec<_> = facts.iter().filter(|fact| fact.is_authority()).cloned().collect();
    let prepared = replica().await;
    import(&prepared, &authority, 1).await;
    import(&prepared, &facts, facts.len()).await;
    assert_eq!(root_of(&prepared), expected, "where the authority came first");
    prepared.stop().await;

    for seed in 0..12 {
        let agent = replica().await;
        let portion = [1, 3, facts.len()][seed as usize % 3];
        import(&agent, &shuffled(&facts, seed), portion).await;
        assert_eq!(root_of(&agent), expected, "seed {seed}, {portion} at a time");
        agent.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_signed_just_now_is_judged_more_strictly() {
    let world = World::make();
    let agent = replica().await;
    let address = agent.http_address().expect("HTTP");
    // The grant itself has no chain above it; what stands on it comes with it, and gains nothing by that.
    let both = [Fact::Grant(world.expired.clone()), world.late_entry.clone()];
    assert_eq!(post(address, "?direct=true", &both).await, ["merged", "grant.expired"]);
    let strict = [
        (&world.late_entry, Code::GrantExpired),
        (&world.late_grant, Code::GrantExpired),
        (&world.future_floor, Code::FloorFuture),
        (&world.large, Code::OverAgentLimit),
    ];
    for (fact, code) in strict {
        assert_eq!(put(&agent, fact.clone()).await, Verdict::Refused(code));
        assert_eq!(post(address, "?direct=true", std::slice::from_ref(fact)).await, [code.as_str()]);
    }
    for (number, (fact, _)) in strict.into_iter().enumerate() {
        let query = ["", "?direct=false"][number % 2];
        assert_eq!(post(address, query, std::slice::from_ref(fact)).await, ["merged"]);
    }
    for query in ["?direct", "?direct=1", "?whole=true"] {
        let answer = ask(address, query, &[]).await;
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("http.query"), "{query}: {answer}");
    }
    agent.stop().await;
}

async fn ask(address: SocketAddr, query: &str, facts: &[Fact]) -> String {
    let records: Vec<String> = facts.iter().map(|fact| BASE64.encode(fact.to_record())).collect();
    let body = json!({ "records_b64": records }).to_string();
    let request = format!(
        "POST /v1/facts{query} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    http::ask(address, &request).await
}

/// The code of each verdict; `merged` for none.
async fn post(address: SocketAddr, query: &str, facts: &[Fact]) -> Vec<String> {
    let answer: Value = http::json(&ask(address, query, facts).await);
    let rows = answer["verdicts"].as_array().expect("verdicts");
    rows.iter().map(|row| row["code"].as_str().unwrap_or("merged").to_owned()).collect()
}
