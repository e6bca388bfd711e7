//! Keys with very many entries, and with large ones: whoever may pass authority on can make them.

use kvgossip_agent::{Agent, now};
use kvgossip_client::{AgentClient, Cause, Change, Dirty, FactKind, FactsQuery, Value};
use kvgossip_grants::{By, Fact, Grant, GrantId, Revocation, Signed, Signer, SigningKey, Timestamp, Verdict};
use kvgossip_testkit::agents::*;
use kvgossip_testkit::clients::*;
use kvgossip_testkit::wait::{eventually, soon};

/// Offers facts in portions; all have to be taken.
async fn put_all(agent: &Agent, facts: Vec<Fact>) {
    for portion in facts.chunks(500) {
        let offered: Vec<_> = portion.iter().cloned().map(Ok).collect();
        let verdicts = agent.put_facts(&offered).await.expect("the store works");
        assert!(verdicts.iter().all(|verdict| *verdict == Verdict::Merged), "{verdicts:?}");
    }
}

/// Grants of the team's to the writer.
fn grants(count: usize, team: &SigningKey, parent: GrantId, until: Option<Timestamp>) -> Vec<Signed<Grant>> {
    let writer = identity(2);
    let one = |_| {
        let mut body = grant(writer.public(), "/k/**", team, Some(parent)).body().clone();
        body.expires_at = until;
        sign(body, team)
    };
    (0..count).map(one).collect()
}

/// An entry under each of these grants, the last one the newest.
fn entries(key: &str, grants: &[Signed<Grant>], value: impl Fn(usize) -> Vec<u8>) -> Vec<Fact> {
    let (writer, time) = (identity(2), now());
    let at = |number: usize| time.saturating_add(number as u64);
    let one = |(n, grant): (usize, &Signed<Grant>)| entry(key, &value(n), at(n), &writer, Some(grant.id()));
    grants.iter().enumerate().map(one).collect()
}

fn authority(grants: &[Signed<Grant>]) -> Vec<Fact> {
    grants.iter().cloned().map(Fact::Grant).collect()
}

fn revocation(of: &Signed<Grant>) -> Fact {
    Fact::Revocation(sign(Revocation { grant: of.clone(), by: By::Root, revoked_at: now() }, root()))
}

/// How many entries the longest key has.
fn most_entries() -> usize {
    std::env::var("KVGOSSIP_TEST_ENTRIES").map_or(1000, |text| text.parse().expect("a number"))
}

fn text_of(number: usize) -> Vec<u8> {
    number.to_string().into_bytes()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_with_1_33_and_very_many_entries_are_shown_listed_and_gone_when_the_parent_is_revoked() {
    let agent = start(config(0)).await;
    let team = identity(1);
    let parent = grant(team.public(), "/k/**", root(), None);
    put_all(&agent, vec![Fact::Grant(parent.clone())]).await;
    let most = most_entries();
    let below = grants(most, &team, parent.id(), None);
    put_all(&agent, authority(&below)).await;
    let sizes = [1, 33, most];
    for size in sizes {
        put_all(&agent, entries(&format!("/k/{size}"), &below[..size], text_of)).await;
    }
    let client = client(&[&agent]);
    // Watched before and read by others meanwhile; the longest one delays nobody.
    let mut all = client.subscribe_matching(["/k/*"]).expect("globs");
    soon(all.ready()).await.expect("open");
    assert_eq!(all.entries().len(), 3);
    for size in sizes {
        let (path, last) = (key(&format!("/k/{size}")), (size - 1).to_string());
        let got = soon(client.get(&path)).await.expect("a value").expect("set");
        assert_eq!(got.value, last, "{path}");
        assert_eq!(all.entries()[&path].value, last);
        while all.pop().is_some() {}
    }
    let filter = kvgossip_grants::Filter::parse(["/k/**"]).expect("globs");
    assert_eq!(soon(client.list(&filter)).await.expect("a list").len(), 3);

    // The newest one ends: the one before comes with its value.
    let longest = format!("/k/{most}");
    let mut sub = client.subscribe(&key(&longest));
    soon(sub.ready()).await.expect("open");
    put_all(&agent, vec![revocation(&below[most - 1])]).await;
    let before = (most - 2).to_string();
    let state = soon(sub.wait_for(|state| text(state) == before)).await.expect("open");
    assert_eq!(state.cause, Some(Cause::Revoked(below[most - 1].id())));
    // Another one is written, which supersedes none.
    let again = grants(1, &team, parent.id(), None);
    put_all(&agent, authority(&again)).await;
    put_all(&agent, entries(&longest, &again, |_| b"newest".to_vec())).await;
    soon(sub.wait_for(|state| text(state) == "newest" && state.dirty.is_none())).await.expect("open");

    put_all(&agent, vec![revocation(&parent)]).await;
    for size in sizes {
        let mut sub = client.subscribe(&key(&format!("/k/{size}")));
        let gone = |state: &kvgossip_client::State| state.value == Value::Absent && state.dirty.is_none();
        let state = soon(sub.wait_for(gone)).await.expect("open");
        assert_eq!(state.cause, Some(Cause::Revoked(parent.id())), "{size}");
    }
    let mut removed = 0;
    while removed < 3 {
        removed += usize::from(matches!(soon(all.next()).await.expect("open"), Change::Removed { .. }));
    }
    agent.stop().await;
}

/// Honest use: grants that expire soon, and an entry under each. Below them stands an old value.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forty_expired_grants_hide_neither_the_value_below_them_nor_that_there_is_none() {
    let agent = start(config(0)).await;
    let team = identity(1);
    let parent = grant(team.public(), "/k/**", root(), None);
    put_all(&agent, vec![Fact::Grant(parent.clone())]).await;
    let until = now().saturating_add(4_000_000);
    let lasting = grants(1, &team, parent.id(), None);
    let brief = grants(40, &team, parent.id(), Some(until));
    put_all(&agent, authority(&lasting)).await;
    put_all(&agent, authority(&brief)).await;
    put_all(&agent, entries("/k/below", &lasting, |_| b"below".to_vec())).await;
    for path in ["/k/below", "/k/none"] {
        put_all(&agent, entries(path, &brief, text_of)).await;
    }
    let early = client(&[&agent]);
    let (mut below, mut none) = (early.subscribe(&key("/k/below")), early.subscribe(&key("/k/none")));
    for sub in [&mut below, &mut none] {
        let state = soon(sub.ready()).await.expect("open");
        assert_eq!(text(&state), "39");
    }
    let mut watched = below.clone();
    let absences = tokio::spawn(async move {
        let mut absences = 0;
        while let Ok(state) = watched.changed().await {
            absences += usize::from(state.value == Value::Absent);
        }
        absences
    });
    let state = soon(below.wait_for(|state| text(state) == "below")).await.expect("open");
    assert!(now() > until && matches!(state.cause, Some(Cause::Expired(_))), "{state:?}");
    soon(none.wait_for(|state| state.value == Value::Absent)).await.expect("open");
    drop((early, below, none));
    // One who comes afterwards sees no wrong absence on the way.
    let late = client(&[&agent]);
    let mut below = late.subscribe(&key("/k/below"));
    let first = soon(below.next_value()).await.expect("open");
    assert_eq!(text(&first), "below");
    let first = soon(below.ready()).await.expect("open");
    assert_eq!((text(&first), first.dirty), ("below".into(), None));
    assert_eq!(soon(late.get(&key("/k/none"))).await.expect("told"), None);
    assert_eq!(late.rejections().0, 0);
    drop(late);
    assert_eq!(absences.await.expect("no panic"), 0, "the value below was there all the time");
    agent.stop().await;
}

/// A page ends in the middle of a key, and what comes and goes meanwhile puts nothing out of order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_facts_go_on_in_the_middle_of_a_key_newest_first() {
    let agent = start(config(0)).await;
    let team = identity(1);
    let parent = grant(team.public(), "/k/**", root(), None);
    put_all(&agent, vec![Fact::Grant(parent.clone())]).await;
    let below = grants(100, &team, parent.id(), None);
    put_all(&agent, authority(&below)).await;
    let facts = entries("/k/a", &below, text_of);
    let order: Vec<String> = facts.iter().rev().map(|fact| fact.id().to_string()).collect();
    put_all(&agent, facts).await;
    put_all(&agent, vec![entry("/k/b", b"b", now(), root(), None)]).await;
    let asked = AgentClient::new(endpoint(agent.http_address().expect("TCP")));
    for limit in [1, 7, 1000] {
        let mut query =
            FactsQuery { kind: FactKind::Entries, filter: Vec::new(), limit: Some(limit), after: None };
        let mut ids = Vec::new();
        loop {
            let page = asked.facts(&query).await.expect("a page");
            assert!(page.facts.len() <= limit);
            ids.extend(page.facts.into_iter().map(|row| row.id));
            let Some(next) = page.next else { break };
            assert_eq!(next.contains('!'), ids.len() < order.len(), "{next}: in the middle of the long key");
            query.after = Some(next);
        }
        assert_eq!(ids[..order.len()], order);
        assert_eq!(ids.len(), order.len() + 1, "each once");
    }
    // The one where a page ended is gone when the next one is asked for.
    let mut query = FactsQuery { kind: FactKind::Entries, filter: Vec::new(), limit: Some(10), after: None };
    query.after = asked.facts(&query).await.expect("a page").next;
    put_all(&agent, vec![revocation(&below[90])]).await;
    let page = asked.facts(&query).await.expect("a page");
    assert_eq!(page.facts[0].id, order[10]);
    // One by its name, while it stands.
    let id = |place: usize| order[place].parse().expect("an id");
    let found = asked.entry(cluster(), &key("/k/a"), &id(0)).await.expect("an answer").expect("it stands");
    assert_eq!(found.value().map(AsRef::as_ref), Some(&b"99"[..]));
    assert_eq!(asked.entry(cluster(), &key("/k/a"), &id(9)).await.expect("an answer"), None);
    assert_eq!(asked.entry(cluster(), &key("/k/b"), &id(0)).await.expect("an answer"), None);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_entries_of_900_kb_are_told_without_the_values_that_are_not_shown() {
    const LARGE: usize = 900_000;
    let agent = start(config(0)).await;
    let team = identity(1);
    let parent = grant(team.public(), "/k/**", root(), None);
    put_all(&agent, vec![Fact::Grant(parent.clone())]).await;
    let below = grants(8, &team, parent.id(), None);
    put_all(&agent, authority(&below)).await;
    for fact in entries("/k/large", &below, |number| vec![b'0' + number as u8; LARGE]) {
        put_all(&agent, vec![fact]).await;
    }
    let tap = tap::Tap::to(agent.http_address().expect("TCP")).await;
    let client = at(&[tap.address]).build().expect("a client");
    let mut sub = client.subscribe(&key("/k/large"));
    let state = soon(sub.ready()).await.expect("open");
    assert_eq!(text(&state), "7".repeat(LARGE));
    eventually("all were told", async || tap.last().count("key") >= 3).await;
    assert!(tap.last().answer.len() < 2 * LARGE, "one value in base64, and eight bodies");
    // One after the other ends; the next one comes with its value.
    for number in (1..8).rev() {
        put_all(&agent, vec![revocation(&below[number])]).await;
        let value = (number - 1).to_string().repeat(LARGE);
        soon(sub.wait_for(|state| text(state) == value)).await.expect("open");
    }
    put_all(&agent, vec![revocation(&parent)]).await;
    soon(sub.wait_for(|state| state.value == Value::Absent)).await.expect("open");
    assert_ne!(sub.state().dirty, Some(Dirty::Unverified));
    agent.stop().await;
}
