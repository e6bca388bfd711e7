//! Watching a key with very many entries: told in pages between which everything else comes.

use kvgossip_agent::watch::{MAX_EVENT_RECORDS, MAX_PENDING_ENTRIES};
use kvgossip_agent::{Agent, now};
use kvgossip_api::{KeyEvent, PartRow, WatchForm, WatchRequest};
use kvgossip_grants::{By, Entry, EntryId, Fact, Grant, Revocation, Signed, Signer, SigningKey, Verdict};
use kvgossip_testkit::agents::*;
use kvgossip_testkit::stream::{Stream, keys, matching};
use std::collections::BTreeSet;

const ENTRIES: usize = 200;

async fn put_all(agent: &Agent, facts: Vec<Fact>) {
    let offered: Vec<_> = facts.into_iter().map(Ok).collect();
    let verdicts = agent.put_facts(&offered).await.expect("the store works");
    assert!(verdicts.iter().all(|verdict| *verdict == Verdict::Merged), "{verdicts:?}");
}

/// A grant of root's to the team, and of the team's many to the writer.
async fn grants(agent: &Agent, count: usize) -> (Signed<Grant>, Vec<Signed<Grant>>) {
    let (team, writer) = (identity(1), identity(2));
    let top = grant(team.public(), "/**", root(), None);
    let below: Vec<_> = (0..count).map(|_| grant(writer.public(), "/**", &team, Some(top.id()))).collect();
    let all = std::iter::once(&top).chain(&below).cloned().map(Fact::Grant);
    put_all(agent, all.collect()).await;
    (top, below)
}

fn entries(key: &str, writer: &SigningKey, grants: &[Signed<Grant>]) -> Vec<Fact> {
    let time = now();
    let one = |(n, grant): (usize, &Signed<Grant>)| {
        entry(key, n.to_string().as_bytes(), time.saturating_add(n as u64), writer, Some(grant.id()))
    };
    grants.iter().enumerate().map(one).collect()
}

fn records(request: WatchRequest) -> WatchRequest {
    WatchRequest { form: WatchForm::Records, ..request }
}

fn kind(event: &KeyEvent) -> &str {
    event.part.as_ref().map_or("whole", |part| &part.kind)
}

/// The entries of an event; all have to be there, and at most one with its value.
fn ids(event: &KeyEvent) -> Vec<EntryId> {
    use base64::prelude::{BASE64_STANDARD, Engine};
    assert!(event.entries.len() <= MAX_EVENT_RECORDS + 1 && event.records_b64.len() <= 1);
    let decoded = |text: &String| BASE64_STANDARD.decode(text).expect("base64");
    let mut told: BTreeSet<EntryId> = BTreeSet::new();
    for front in &event.fronts_b64 {
        told.insert(Signed::<Entry>::from_front(cluster(), &decoded(front)).expect("an entry").id());
    }
    for record in &event.records_b64 {
        let fact = Fact::from_record(cluster(), &decoded(record)).expect("a fact");
        assert_eq!(event.entry, Some(fact.id().to_string()), "the one that is shown");
        told.insert(EntryId(fact.id().0));
    }
    let listed: Vec<EntryId> = event.entries.iter().map(|id| id.parse().expect("an id")).collect();
    assert_eq!(listed.iter().copied().collect::<BTreeSet<_>>(), told);
    listed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_key_is_told_newest_first_in_pages_and_delays_no_other() {
    let agent = start(config(0)).await;
    let (top, below) = grants(&agent, ENTRIES).await;
    let facts = entries("/long", &identity(2), &below);
    let order: Vec<EntryId> = facts.iter().rev().map(|fact| EntryId(fact.id().0)).collect();
    put_all(&agent, facts).await;
    put(&agent, entry("/z", b"z", now(), root(), None)).await;

    let mut stream = Stream::open(&agent, &records(matching(&["/**"])), None);
    let first = stream.key().await;
    assert_eq!((first.key.as_str(), kind(&first)), ("/long", PartRow::FIRST));
    assert_eq!(first.entry, Some(order[0].to_string()));
    let mut told = ids(&first);
    assert_eq!(told, order[..told.len()], "the newest first");
    let down_to = first.part.as_ref().and_then(|part| part.down_to.clone()).expect("a place");
    assert_eq!(down_to.entry, told.last().expect("some").to_string());
    let other = stream.key().await;
    assert_eq!((other.key.as_str(), kind(&other)), ("/z", "whole"));
    stream.synced().await;
    assert_eq!(stream.last_id, None, "no place to go on from before everything was told");
    // What happens meanwhile comes between.
    put(&agent, entry("/z", b"zz", now(), root(), None)).await;
    let (mut changed, mut last) = (None, None);
    while last.is_none() {
        let event = stream.key().await;
        if event.key == "/z" {
            changed = Some(told.len());
            continue;
        }
        assert_eq!(
            event.part.as_ref().map(|part| part.telling),
            first.part.as_ref().map(|part| part.telling)
        );
        told.extend(ids(&event));
        last = Some(event).filter(|event| kind(event) == PartRow::LAST);
    }
    assert_eq!(told, order, "each once, and all");
    assert!(changed.is_some_and(|at| at < order.len()), "the other change did not wait: {changed:?}");
    assert!(stream.last_id.is_some());

    // One more is told alone, and with its value, as it is shown.
    let writer = identity(2);
    let extra = grant(writer.public(), "/**", &identity(1), Some(top.id()));
    put(&agent, Fact::Grant(extra.clone())).await;
    put(&agent, entry("/long", b"new", now(), &writer, Some(extra.id()))).await;
    let news = stream.key().await;
    assert_eq!((kind(&news), ids(&news).len(), news.records_b64.len()), (PartRow::NEWS, 1, 1));
    // An end is told from the newest on.
    let ended = Revocation { grant: extra, by: By::Root, revoked_at: now() };
    put(&agent, Fact::Revocation(sign(ended, root()))).await;
    let again = stream.key().await;
    assert_eq!((kind(&again), again.entry.clone()), (PartRow::FIRST, Some(order[0].to_string())));
    assert_eq!(ids(&again), order[..MAX_EVENT_RECORDS]);
    // In the middle of it everything ends.
    let ended = Revocation { grant: top, by: By::Root, revoked_at: now() };
    put(&agent, Fact::Revocation(sign(ended, root()))).await;
    loop {
        let event = stream.key().await;
        if event.cause.kind == "revoked" && event.state == KeyEvent::ABSENT {
            assert_eq!((kind(&event), event.entries.len()), ("whole", 0));
            break;
        }
    }
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_long_keys_than_are_remembered_are_all_told_in_the_end() {
    const KEYS: usize = kvgossip_agent::watch::MAX_TAILS + 6;
    let agent = start(config(0)).await;
    let (_, below) = grants(&agent, MAX_EVENT_RECORDS + 2).await;
    let writer = identity(2);
    for number in 0..KEYS {
        put_all(&agent, entries(&format!("/k/{number}"), &writer, &below)).await;
    }
    let mut stream = Stream::open(&agent, &records(matching(&["/k/*"])), None);
    let (mut firsts, mut told) = (BTreeSet::new(), BTreeSet::<EntryId>::new());
    for _ in 0..KEYS {
        let event = stream.key().await;
        assert_eq!(kind(&event), PartRow::FIRST);
        firsts.insert(event.key.clone());
        told.extend(ids(&event));
    }
    assert_eq!(firsts.len(), KEYS);
    stream.synced().await;
    let mut whole = BTreeSet::new();
    while whole.len() < KEYS {
        let event = stream.key().await;
        told.extend(ids(&event));
        if kind(&event) == PartRow::LAST {
            whole.insert(event.key.clone());
        }
    }
    assert_eq!(told.len(), KEYS * below.len());
    agent.stop().await;
}

/// Whoever does not read gets no list of what was written, however much that is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_that_misses_very_many_entries_of_one_key_is_told_it_anew() {
    let agent = start(config(0)).await;
    let (top, below) = grants(&agent, MAX_EVENT_RECORDS + 1).await;
    let writer = identity(2);
    put_all(&agent, entries("/k", &writer, &below)).await;
    let mut stream = Stream::open(&agent, &records(keys(&["/k"])), None);
    while kind(&stream.key().await) != PartRow::FIRST {}
    stream.synced().await;
    while kind(&stream.key().await) != PartRow::LAST {}
    let more: Vec<_> = (0..=MAX_PENDING_ENTRIES)
        .map(|_| grant(writer.public(), "/**", &identity(1), Some(top.id())))
        .collect();
    put_all(&agent, more.iter().cloned().map(Fact::Grant).collect()).await;
    let facts = entries("/k", &writer, &more);
    put_all(&agent, facts).await;
    let mut told = BTreeSet::new();
    loop {
        let event = stream.key().await;
        told.extend(ids(&event));
        if kind(&event) == PartRow::LAST {
            break;
        }
    }
    assert_eq!(told.len(), below.len() + more.len());
    agent.stop().await;
}
