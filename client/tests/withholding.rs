//! An agent that withholds is found out: what another one tells is shown, and the agent is named and left. One that lags is
//! handed what it lacks, and never named.

use kvgossip_agent::{Agent, now};
use kvgossip_client::{
    Cause, Client, ClientBuilder, DEFAULT_AUDIT_INTERVAL, DEFAULT_AUDIT_PATIENCE, DEFAULT_SILENCE, Rejection,
    Subscription, Trouble, Value,
};
use kvgossip_grants::{By, Fact, FactId, Filter, Revocation, Signer};
use kvgossip_testkit::agents::*;
use kvgossip_testkit::clients::liar::{Liar, SYNCED, forgeries};
use kvgossip_testkit::clients::tap::{self, Tap};
use kvgossip_testkit::clients::withholder::{Delay, Offers, Withholder, endless, silent};
use kvgossip_testkit::clients::*;
use kvgossip_testkit::wait::{eventually, soon};
use std::net::SocketAddr;
use std::time::Duration;

fn address(agent: &Agent) -> SocketAddr {
    agent.http_address().expect("TCP")
}

/// Compares often and waits little.
fn quick(addresses: &[SocketAddr]) -> ClientBuilder {
    at(addresses).audit(Duration::from_millis(300), Duration::from_millis(500))
}

/// An agent that has not heard of a revocation, and one that has. The revoked grant's entry is of `/app/x`.
async fn stale_and_fresh() -> (Agent, Agent, FactId) {
    let (stale, fresh) = (start(config(0)).await, start(config(1)).await);
    let writer = identity(1);
    let grant = grant(writer.public(), "/app/**", root(), None);
    let value = entry("/app/x", b"revoked", now(), &writer, Some(grant.id()));
    for agent in [&stale, &fresh] {
        put(agent, Fact::Grant(grant.clone())).await;
        put(agent, value.clone()).await;
        put(agent, entry("/app/y", b"1", now(), root(), None)).await;
    }
    let revocation = sign(Revocation { grant, by: By::Root, revoked_at: now() }, root());
    let id = revocation.id();
    put(&fresh, Fact::Revocation(revocation)).await;
    (stale, fresh, id)
}

async fn revoked(sub: &mut Subscription) {
    let state = soon(sub.wait_for(|state| matches!(state.cause, Some(Cause::Revoked(_))))).await;
    assert_eq!(state.expect("told by the other one").value, Value::Absent);
}

async fn connected(client: &Client, to: SocketAddr) {
    let (mut connection, name) = (client.watch_connection(), endpoint(to).to_string());
    soon(connection.wait_for(|now| now.as_deref() == Some(&name))).await.expect("connected");
}

async fn rejected(client: &Client) -> Vec<Rejection> {
    let mut rejections = client.watch_rejections();
    soon(rejections.wait_for(|(count, _)| *count > 0)).await.expect("named").1.clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_withholds_a_revocation_is_named_and_left() {
    let (stale, fresh, revocation) = stale_and_fresh().await;
    let liar = Withholder::before(address(&stale), Offers::Swallow).await;
    // One endpoint that says nothing and one that does not exist delay nobody.
    let mute = silent().await;
    let nobody = silent_port().await;
    let client = quick(&[liar.address, mute, nobody, address(&fresh)]).build().expect("a client");
    let mut sub = client.subscribe(&key("/app/x"));
    let first = soon(sub.wait_for(|state| state.value != Value::Unknown)).await.expect("known");
    assert!(first.value == Value::Absent || text(&first) == "revoked");
    revoked(&mut sub).await;
    let named = rejected(&client).await;
    let expected = (endpoint(liar.address).to_string(), Rejection::WITHHELD, Some(revocation));
    let found = named.iter().map(|one| (one.endpoint.clone(), one.code.as_str(), one.id));
    assert_eq!(found.collect::<Vec<_>>(), [expected]);
    assert_eq!(liar.offered(), 1);
    // The next one that answers is asked from now on.
    connected(&client, address(&fresh)).await;
    put(&fresh, entry("/app/x", b"new", now(), root(), None)).await;
    soon(sub.wait_for(|state| text(state) == "new" && state.dirty.is_none())).await.expect("it goes on");
    stale.stop().await;
    fresh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_is_withheld_is_shown_and_its_key_is_named() {
    let (stale, fresh) = (start(config(0)).await, start(config(1)).await);
    let liar = Withholder::before(address(&stale), Offers::Swallow).await;
    let client = quick(&[liar.address, address(&fresh)]).build().expect("a client");
    let mut all = client.subscribe_matching(["/news/**"]).expect("a glob");
    soon(all.ready()).await.expect("nothing is there");
    let fact = entry("/news/1", b"1", now(), root(), None);
    put(&fresh, fact.clone()).await;
    assert_eq!(soon(all.next()).await.expect("news").key(), &key("/news/1"));
    let named = rejected(&client).await;
    let found: Vec<_> = named.iter().map(|one| (one.code.as_str(), one.key.clone(), one.id)).collect();
    assert_eq!(found, [(Rejection::WITHHELD, Some(key("/news/1")), Some(fact.id()))]);
    connected(&client, address(&fresh)).await;
    stale.stop().await;
    fresh.stop().await;
}

/// It takes what it is handed and answers every new question, but its stream says that there is nothing new.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_whose_stream_keeps_silent_about_what_it_holds_is_named() {
    let (stale, fresh, _) = stale_and_fresh().await;
    let liar = Withholder::before(address(&stale), Offers::Pass).await;
    let client = quick(&[liar.address, address(&fresh)]).build().expect("a client");
    let (mut sub, mut other) = (client.subscribe(&key("/app/y")), client.subscribe(&key("/app/x")));
    assert_eq!(text(&soon(sub.ready()).await.expect("ready")), "1");
    // It is handed the revocation and tells it.
    revoked(&mut other).await;
    soon(other.ready()).await.expect("both agree");
    liar.mute();
    let fact = entry("/app/y", b"2", now(), root(), None);
    put(&fresh, fact.clone()).await;
    soon(sub.wait_for(|state| text(state) == "2")).await.expect("the other one told it");
    let named = rejected(&client).await;
    assert_eq!((named[0].code.as_str(), named[0].id), (Rejection::WITHHELD, Some(fact.id())));
    assert_eq!(named[0].endpoint, endpoint(liar.address).to_string());
    connected(&client, address(&fresh)).await;
    stale.stop().await;
    fresh.stop().await;
}

/// What it said before it was handed something arrives long after.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_honest_agent_whose_stream_alone_is_late_is_not_named() {
    const LATE: Duration = Duration::from_secs(2);
    let (slow, fresh) = (start(config(0)).await, start(config(1)).await);
    let way = Delay::before(address(&slow)).await;
    let client = quick(&[way.address, address(&fresh)]).silence(3 * LATE).build().expect("a client");
    let mut all = client.subscribe_matching(["/news/**"]).expect("a glob");
    soon(all.ready()).await.expect("nothing is there");
    way.set(LATE);
    soon(way.idle()).await;
    // What follows a sign of life at once would be heard before that counts.
    tokio::time::sleep(Duration::from_millis(500)).await;
    put(&fresh, entry("/news/1", b"1", now(), root(), None)).await;
    assert_eq!(soon(all.next()).await.expect("news").key(), &key("/news/1"));
    soon(all.next_status()).await.expect("behind");
    soon(all.ready()).await.expect("it told it at last");
    assert_eq!(client.rejections().0, 0, "{:?}", client.rejections().1);
    connected(&client, way.address).await;
    slow.stop().await;
    fresh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_lags_is_handed_what_it_lacks_and_never_named() {
    let (stale, fresh, revocation) = stale_and_fresh().await;
    let client = quick(&[address(&stale), address(&fresh)]).build().expect("a client");
    let mut sub = client.subscribe(&key("/app/x"));
    revoked(&mut sub).await;
    let holds = async || stale.store().view().authority().contains(&revocation);
    eventually("the revocation is handed on", holds).await;
    soon(sub.ready()).await.expect("both agree");
    // Three more rounds of news that the other one hears first: at each of them it might be named.
    for round in 2..5 {
        let value = round.to_string();
        put(&fresh, entry("/app/x", value.as_bytes(), now(), root(), None)).await;
        soon(sub.wait_for(|state| text(state) == value && state.dirty.is_none())).await.expect("handed on");
        tokio::time::sleep(Duration::from_millis(900)).await;
    }
    assert_eq!(client.rejections().0, 0, "{:?}", client.rejections().1);
    assert_eq!(*client.watch_trouble().borrow(), None);
    assert_eq!(client.watch_connection().borrow().as_deref(), Some(&*endpoint(address(&stale)).to_string()));
    stale.stop().await;
    fresh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_cannot_take_what_it_lacks_is_left_and_not_accused() {
    let (stale, fresh, _) = stale_and_fresh().await;
    let full = Withholder::before(address(&stale), Offers::Refuse).await;
    let client = quick(&[full.address, address(&fresh)]).build().expect("a client");
    let mut trouble = client.watch_trouble();
    let mut sub = client.subscribe(&key("/app/x"));
    revoked(&mut sub).await;
    let told = soon(trouble.wait_for(Option::is_some)).await.expect("told").clone().expect("some");
    assert_eq!((told.code.as_str(), told.endpoint), (Trouble::BEHIND, endpoint(full.address).to_string()));
    connected(&client, address(&fresh)).await;
    assert_eq!(soon(sub.ready()).await.expect("ready").value, Value::Absent);
    assert_eq!(client.rejections().0, 0, "to be full is no lie");
    stale.stop().await;
    fresh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_never_answers_an_offer_is_not_accused() {
    let (stale, fresh, _) = stale_and_fresh().await;
    let hanging = Withholder::before(address(&stale), Offers::Hang).await;
    let client = quick(&[hanging.address, address(&fresh)]).build().expect("a client");
    let mut sub = client.subscribe(&key("/app/x"));
    revoked(&mut sub).await;
    // Its stream goes on meanwhile.
    put(&stale, entry("/app/y", b"2", now(), root(), None)).await;
    let mut other = client.subscribe(&key("/app/y"));
    soon(other.wait_for(|state| text(state) == "2")).await.expect("told");
    assert_eq!(client.rejections().0, 0);
    stale.stop().await;
    fresh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_read_of_several_agents_is_their_union() {
    let (stale, fresh, _) = stale_and_fresh().await;
    let (_, _, forged) = forgeries("/app/x").remove(0);
    let (forger, nobody) = (Liar::telling(format!("{forged}{SYNCED}")).await.address, silent_port().await);
    let (x, writer) = (key("/app/x"), identity(1).public().entity());
    let (old, new) = (address(&stale), address(&fresh));
    let asking = |agents: &[SocketAddr], wanted| at(agents).build().expect("a client").asking(wanted);

    // The first one alone is believed, as far as what it says verifies.
    let entry = soon(asking(&[old, new], 1).get(&x)).await.expect("answered").expect("set");
    assert_eq!(entry.value, "revoked");
    assert!(soon(asking(&[old], 1).explain(writer, &x)).await.expect("answered").accepted);
    // Two know more than one, and those that do not answer, or lie, are passed over.
    for agents in [&[old, new][..], &[new, old], &[nobody, old, new], &[forger, new, old]] {
        let union = asking(agents, 2);
        assert_eq!(soon(union.get(&x)).await.expect("answered"), None, "{agents:?}");
        let all = Filter::parse(["/app/**"]).expect("a glob");
        let keys: Vec<_> = soon(union.list(&all)).await.expect("answered").into_keys().collect();
        assert_eq!(keys, [key("/app/y")], "{agents:?}");
        let explained = soon(union.explain(writer, &x)).await.expect("answered");
        assert_eq!((explained.accepted, explained.rejected[0].code.as_str()), (false, "grant.revoked"));
    }
    for (agents, wanted) in [(&[old, nobody][..], 2), (&[old, forger], 2), (&[old, new], 3)] {
        let error = soon(asking(agents, wanted).get(&x)).await.expect_err("too few");
        assert_eq!(error.code(), "client.too_few", "{error}");
    }
    stale.stop().await;
    fresh.stop().await;
}

/// Its stream lives on, so that it counts neither as silent nor as in step.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_never_comes_to_an_end_is_left_for_the_next() {
    let (stale, fresh, _) = stale_and_fresh().await;
    let first = endless().await;
    let client =
        quick(&[first, address(&fresh)]).silence(Duration::from_millis(800)).build().expect("a client");
    let mut sub = client.subscribe(&key("/app/y"));
    let state = soon(sub.wait_for(|state| state.value != Value::Unknown && state.dirty.is_none())).await;
    assert_eq!(text(&state.expect("known")), "1");
    connected(&client, address(&fresh)).await;
    stale.stop().await;
    fresh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_says_nothing_keeps_no_single_read_from_the_next_one() {
    let (stale, fresh, _) = stale_and_fresh().await;
    let agents = [silent().await, address(&fresh)];
    let known = at(&agents).build().expect("a client");
    let trusting = Client::builder();
    let trusting = agents.iter().fold(trusting, |builder, agent| builder.endpoint(endpoint(*agent)));
    for client in [known, trusting.trust_agents().build().expect("a client")] {
        let began = std::time::Instant::now();
        let entry = soon(client.asking(1).get(&key("/app/y"))).await.expect("answered").expect("set");
        assert_eq!(entry.value, "1");
        // Without the spare it takes the 20 s that an answer may take.
        assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    }
    stale.stop().await;
    fresh.stop().await;
}

/// Whoever holds the same answers with one event, however much that is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn to_ask_an_agent_that_holds_the_same_costs_a_comparison_of_digests() {
    let (one, other) = (start(config(0)).await, start(config(1)).await);
    let facts: Vec<_> =
        (0..300).map(|n| Ok(entry(&format!("/k/{n}"), &[b'v'; 500], now(), root(), None))).collect();
    for agent in [&one, &other] {
        agent.put_facts(&facts).await.expect("the store works");
    }
    let tap = Tap::to(address(&other)).await;
    let client = quick(&[address(&one), tap.address]).build().expect("a client");
    let mut all = client.subscribe_matching(["/k/**"]).expect("a glob");
    soon(all.ready()).await.expect("ready");
    assert_eq!(all.entries().len(), 300);
    let whole = |seen: &tap::Seen| seen.count("synced") == 1;
    eventually("three questions", async || tap.watches().iter().filter(|seen| whole(seen)).count() >= 3)
        .await;
    for seen in tap.watches().iter().filter(|seen| whole(seen)) {
        assert_eq!((seen.count("key"), seen.count("authority")), (0, 0), "{}", seen.answer);
        let bytes = seen.request.len() + seen.answer.len();
        assert!(bytes < 4096, "{bytes} bytes for 300 keys");
    }
    // One key differs: its bucket alone is told, not all.
    put(&other, entry("/k/7", b"new", now(), root(), None)).await;
    soon(async { while all.next().await.expect("a change").key() != &key("/k/7") {} }).await;
    eventually("it was told", async || tap.watches().iter().any(|seen| seen.tells("/k/7"))).await;
    let most = tap.watches().iter().map(|seen| seen.count("key")).max();
    assert!(most.is_some_and(|most| most < 60), "{most:?} of 300 keys");
    one.stop().await;
    other.stop().await;
}

#[test]
fn what_others_know_shows_and_who_withheld_it_is_named_within_35_seconds() {
    assert_eq!(DEFAULT_AUDIT_PATIENCE, Duration::from_secs(5));
    assert!(DEFAULT_AUDIT_INTERVAL <= Duration::from_secs(30));
    // Asked; the patience; the next sign of life, which comes three times in the silence that is allowed; and a moment.
    let named = DEFAULT_AUDIT_INTERVAL + DEFAULT_AUDIT_PATIENCE + DEFAULT_SILENCE / 3;
    assert!(named < Duration::from_secs(35), "{named:?}");
}

/// A port at which nobody listens any more.
async fn silent_port() -> SocketAddr {
    tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .and_then(|listener| listener.local_addr())
        .expect("a port")
}
