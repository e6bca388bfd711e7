//! What a watcher is told: what stands, what changes, why, and when it missed something.

use kvgossip_agent::watch::{MAX_PENDING_KEYS, MAX_PENDING_NAMES};
use kvgossip_agent::{Agent, now};
use kvgossip_api::{HeldRow, KeyEvent, WatchForm};
use kvgossip_grants::{
    By, Fact, Floor, HeldDigests, Key, Revocation, Signer, SigningKey, Verdict, held_authority,
};
use kvgossip_testkit::agents::*;
use kvgossip_testkit::stream::{Stream, keys, matching};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

async fn put_root(agent: &Agent, key: &str, value: &[u8]) {
    assert_eq!(put(agent, entry(key, value, now(), root(), None)).await, Verdict::Merged);
}

fn told(event: &KeyEvent) -> (&str, &str, Option<&str>, &str) {
    (&event.key, &event.state, event.value.as_deref(), &event.cause.kind)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stands_then_what_changes_and_defect_11_a_purge_is_told_with_its_cause() {
    let agent = start(config(0)).await;
    let writer = identity(1);
    let grant = grant(writer.public(), "/app/**", root(), None);
    put(&agent, Fact::Grant(grant.clone())).await;
    put_root(&agent, "/app/x", b"root's").await;
    let over = entry("/app/x", b"team's", now(), &writer, Some(grant.id()));
    assert_eq!(put(&agent, over).await, Verdict::Merged);

    let mut one = Stream::open(&agent, &keys(&["/app/x", "/not/yet"]), None);
    assert_eq!(told(&one.key().await), ("/app/x", "present", Some("team's"), "current"));
    assert_eq!(told(&one.key().await), ("/not/yet", "absent", None, "current"));
    assert!(!one.synced().await.resumed);
    let mut many = Stream::open(&agent, &matching(&["/app/**", "!/app/no/*"]), None);
    assert_eq!(told(&many.key().await), ("/app/x", "present", Some("team's"), "current"));
    many.synced().await;

    put_root(&agent, "/app/no/1", b"left out").await;
    put_root(&agent, "/not/yet", b"now").await;
    assert_eq!(told(&one.key().await), ("/not/yet", "present", Some("now"), "written"));

    let revocation = Revocation { grant: grant.clone(), by: By::Root, revoked_at: now() };
    assert_eq!(put(&agent, Fact::Revocation(sign(revocation, root()))).await, Verdict::Merged);
    let back = one.key().await;
    assert_eq!(told(&back), ("/app/x", "present", Some("root's"), "revoked"));
    assert_eq!(back.cause.id, Some(grant.id().to_string()));
    assert_eq!(told(&many.key().await), ("/app/x", "present", Some("root's"), "revoked"));

    let patterns = vec!["/app/**".parse().expect("a glob")];
    let floor = Floor { patterns, before: now(), nonce: [1; 16] };
    assert_eq!(put(&agent, Fact::Floor(sign(floor, root()))).await, Verdict::Merged);
    assert_eq!(told(&one.key().await), ("/app/x", "absent", None, "floored"));
    drop((one, many));
    assert_eq!(agent.hub().watchers(), 0);
    agent.stop().await;
}

/// What a watcher hears of a change is never older than the change, however both race.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_change_is_told_as_of_a_state_that_has_it() {
    const KEYS: usize = 600;
    let agent = start(config(0)).await;
    let mut watchers = Vec::new();
    for _ in 0..6 {
        let mut stream = Stream::open(&agent, &matching(&["/n/**"]), None);
        stream.synced().await;
        watchers.push(tokio::spawn(async move {
            for _ in 0..KEYS {
                let event = stream.key().await;
                assert_eq!(event.state, "present", "{}", event.key);
            }
        }));
    }
    for number in 0..KEYS {
        put_root(&agent, &format!("/n/{number}"), b"v").await;
    }
    for watcher in watchers {
        watcher.await.unwrap();
    }
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expiry_is_told_on_time_also_below_the_grant_that_expires() {
    let agent = start(config(0)).await;
    let (team, deployer) = (identity(1), identity(2));
    let until = now().saturating_add(1_500_000);
    let mut upper = grant(team.public(), "/app/**", root(), None).body().clone();
    upper.expires_at = Some(until);
    let upper = sign(upper, root());
    let lower = grant(deployer.public(), "/app/**", &team, Some(upper.id()));
    put(&agent, Fact::Grant(upper.clone())).await;
    put(&agent, Fact::Grant(lower.clone())).await;
    let fact = entry("/app/x", b"v", now(), &deployer, Some(lower.id()));
    assert_eq!(put(&agent, fact).await, Verdict::Merged);
    let mut stream = Stream::open(&agent, &keys(&["/app/x"]), None);
    assert_eq!(stream.key().await.state, "present");
    stream.synced().await;
    let expired = stream.key().await;
    assert_eq!(told(&expired), ("/app/x", "absent", None, "expired"));
    assert_eq!(expired.cause.id, Some(upper.id().to_string()));
    let late = now().as_micros().checked_sub(until.as_micros());
    assert!(late.is_some_and(|late| late < 5_000_000), "told at {late:?} µs after the expiry");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_resumes_and_one_of_another_run_is_a_gap() {
    let agent = start(config(0)).await;
    put_root(&agent, "/a", b"1").await;
    put_root(&agent, "/b", b"1").await;
    let request = matching(&["/**"]);
    let mut first = Stream::open(&agent, &request, None);
    assert_eq!((first.key().await.key, first.key().await.key), ("/a".into(), "/b".into()));
    first.synced().await;
    let cursor = first.last_id.clone().expect("synced has an id");
    drop(first);
    put_root(&agent, "/b", b"2").await;
    put_root(&agent, "/b", b"3").await;

    let mut again = Stream::open(&agent, &request, Some(&cursor));
    assert_eq!(told(&again.key().await), ("/b", "present", Some("3"), "written"));
    assert!(again.synced().await.resumed);
    put_root(&agent, "/c", b"1").await;
    assert_eq!(again.key().await.key, "/c");
    assert_ne!(again.last_id.as_deref(), Some(cursor.as_str()), "live events move the cursor");

    for foreign in ["0000000000000000-1", "rubbish"] {
        let mut other = Stream::open(&agent, &request, Some(foreign));
        assert_eq!(other.expect("gap").await["reason"], "cursor");
        for key in ["/a", "/b", "/c"] {
            assert_eq!(other.key().await.key, key, "after a gap everything is told");
        }
        assert!(!other.synced().await.resumed);
    }
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn digests_are_compared_and_only_what_differs_is_told() {
    let agent = start(config(0)).await;
    let writer = identity(1);
    let grant = grant(writer.public(), "/k/**", root(), None);
    put(&agent, Fact::Grant(grant)).await;
    let facts: Vec<Fact> = (0..200).map(|n| entry(&format!("/k/{n}"), b"v", now(), root(), None)).collect();
    let offered: Vec<_> = facts.iter().cloned().map(Ok).collect();
    agent.put_facts(&offered).await.expect("the store works");

    let sorted: BTreeMap<Key, _> = facts
        .iter()
        .map(|fact| match fact {
            Fact::Entry(entry) => (entry.entry().key.clone(), entry.id()),
            _ => unreachable!("entries alone"),
        })
        .collect();
    let changed: Key = "/k/77".parse().expect("a key");
    let buckets = HeldDigests::buckets_for(sorted.len());
    let mut held = HeldDigests::new(buckets);
    for (key, id) in sorted.iter().filter(|(key, _)| **key != changed) {
        held.add(key, vec![*id]);
    }
    let view = agent.store().view();
    let have = HeldRow {
        authority: held_authority(view.authority().fact_ids()).to_string(),
        buckets: held.finish().iter().map(ToString::to_string).collect(),
    };
    let mut request = matching(&["/k/**"]);
    (request.form, request.authority, request.have) = (WatchForm::Records, true, Some(have.clone()));
    let mut stream = Stream::open(&agent, &request, None);
    let bucket = HeldDigests::bucket(&changed, buckets);
    let expected: Vec<&Key> =
        sorted.keys().filter(|key| HeldDigests::bucket(key, buckets) == bucket).collect();
    assert!(expected.len() < 60, "one bucket of {buckets}");
    for key in expected {
        let event = stream.key().await;
        assert_eq!((event.key.as_str(), event.entries), (key.as_str(), vec![sorted[key].to_string()]));
    }
    assert_eq!(stream.synced().await.different, Some(vec![bucket as u32]));

    // A watcher that can compare is cut off after a gap, so that it does.
    let mut last = Stream::open(&agent, &keys(&["/last"]), None);
    last.key().await;
    last.synced().await;
    let more = (0..=MAX_PENDING_KEYS).map(|n| format!("/k/more/{n}")).chain(["/last".to_owned()]);
    let more: Vec<_> = more.map(|key| Ok(entry(&key, b"v", now(), root(), None))).collect();
    agent.put_facts(&more).await.expect("the store works");
    last.key().await;
    assert_eq!(stream.expect("gap").await["reason"], "overflow");
    assert!(stream.next().await.is_none());
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn authority_is_told_before_the_entries_that_stand_on_it() {
    let agent = start(config(0)).await;
    let writers: Vec<SigningKey> = vec![identity(1), identity(2)];
    let mut request = matching(&["/**"]);
    (request.form, request.authority) = (WatchForm::Records, true);
    let mut stream = Stream::open(&agent, &request, None);
    let cluster = cluster();
    let writing = tokio::spawn({
        let agent = agent.clone();
        async move {
            for n in 0..40 {
                let writer = &writers[n % 2];
                let grant = grant(writer.public(), &format!("/{n}/*"), root(), None);
                let fact = entry(&format!("/{n}/x"), b"v", now(), writer, Some(grant.id()));
                agent.put_facts(&[Ok(Fact::Grant(grant)), Ok(fact)]).await.expect("the store works");
            }
        }
    });
    let (mut authority, mut seen) = (kvgossip_grants::Authority::new(root().public().clone()), 0);
    let decode = |value: &serde_json::Value| {
        use base64::prelude::{BASE64_STANDARD, Engine};
        let record = BASE64_STANDARD.decode(value.as_str().expect("text")).expect("base64");
        Fact::from_record(cluster, &record).expect("a fact")
    };
    while seen < 40 {
        let (name, data) = stream.next().await.expect("no end");
        for record in data["records_b64"].as_array().into_iter().flatten() {
            let checked = authority.check(decode(record), now()).expect("its chain came before it");
            let verified = checked.verify(&kvgossip_grants::RsaVerifier).expect("a good signature");
            if name == "authority" {
                authority.merge(verified);
            } else {
                seen += 1;
            }
        }
    }
    writing.await.expect("no panic");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stuck_watcher_costs_a_bounded_mailbox_and_delays_nobody() {
    let agent = start(config(0)).await;
    put_root(&agent, "/k/0", b"v").await;
    let mut stuck = Stream::open(&agent, &matching(&["/**"]), None);
    let mut brisk = Stream::open(&agent, &keys(&["/last"]), None);
    stuck.key().await;
    stuck.synced().await;
    brisk.key().await;
    brisk.synced().await;
    // Nobody polls `stuck` from here on. Every put is acknowledged, and the other one hears its key.
    for n in 0..MAX_PENDING_KEYS + 10 {
        let facts = [Ok(entry(&format!("/k/{n}"), b"w", now(), root(), None))];
        assert_eq!(agent.put_facts(&facts).await.expect("the store works"), [Verdict::Merged]);
    }
    put_root(&agent, "/last", b"1").await;
    assert_eq!(told(&brisk.key().await), ("/last", "present", Some("1"), "written"));
    // When it comes back it is told that it missed something, and then everything.
    assert_eq!(stuck.expect("gap").await["reason"], "overflow");
    let mut told = BTreeMap::new();
    while let Some((name, data)) = stuck.next().await {
        if name == "synced" {
            break;
        }
        told.insert(data["key"].as_str().expect("a key").to_owned(), data["value"].clone());
    }
    assert_eq!(told.len(), MAX_PENDING_KEYS + 11);
    assert_eq!(told["/k/0"], "w");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http_events_and_heartbeats_arrive_and_the_agent_stops_at_once() {
    let agent = start(config(0)).await;
    let address = agent.http_address().expect("TCP");
    let ask = async |target: &str| {
        let mut stream = tokio::net::TcpStream::connect(address).await.expect("a connection");
        let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        stream
    };
    let mut stream = ask("/v1/watch?key=/a&heartbeat_ms=100").await;
    let mut text = String::new();
    let mut read_until = async |what: &str| {
        while !text.contains(what) {
            let mut bytes = [0; 4096];
            let read = tokio::time::timeout(Duration::from_secs(20), stream.read(&mut bytes));
            let read = read.await.expect("in time").expect("a stream");
            assert!(read > 0, "ended before {what}: {text}");
            text.push_str(&String::from_utf8_lossy(&bytes[..read]));
        }
    };
    read_until("event: synced").await;
    put_root(&agent, "/a", b"live").await;
    read_until("\"value\":\"live\"").await;
    read_until(": told ").await;
    for (target, code) in [
        ("/v1/watch", "http.query"),
        ("/v1/watch?key=a", "key.malformed"),
        ("/v1/watch?match=/a/***", "glob.malformed"),
        ("/v1/watch?key=/a&form=x", "http.query"),
        ("/v1/watch?key=/a&limit=1", "http.query"),
    ] {
        let mut bytes = vec![0; 4096];
        let read = ask(target).await.read(&mut bytes).await.expect("an answer");
        let answer = String::from_utf8_lossy(&bytes[..read]).into_owned();
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains(code), "{target}: {answer}");
    }
    let began = std::time::Instant::now();
    agent.stop().await;
    assert!(began.elapsed() < Duration::from_secs(4), "a watcher does not hold up the end");
}

/// Each of these watchers may have so many keys waiting; all together may not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_all_watchers_together_is_bounded() {
    const EACH: usize = MAX_PENDING_KEYS - 24;
    let agent = start(config(0)).await;
    let mut watchers = Vec::new();
    // Of each key its name waits, and that of its entry.
    for _ in 0..MAX_PENDING_NAMES / (2 * EACH) + 20 {
        let mut watcher = Stream::open(&agent, &matching(&["/k/**"]), None);
        watcher.synced().await;
        watchers.push(watcher);
    }
    let mut last = Stream::open(&agent, &keys(&["/last"]), None);
    last.key().await;
    last.synced().await;
    let facts = (0..EACH).map(|n| format!("/k/{n}")).chain(["/last".to_owned()]);
    let facts: Vec<_> = facts.map(|key| Ok(entry(&key, b"v", now(), root(), None))).collect();
    agent.put_facts(&facts).await.expect("the store works");
    last.key().await;
    let mut gaps = 0;
    for watcher in &mut watchers {
        let (name, _) = watcher.next().await.expect("no end");
        gaps += usize::from(name == "gap");
    }
    assert!(
        (10..60).contains(&gaps),
        "{gaps} of {} have a gap, so that the others need none",
        watchers.len()
    );
    agent.stop().await;
}
