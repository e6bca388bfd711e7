//! A store that fails while the agent runs: commits that end in an error or a panic, and reads that do not read. What
//! the agent says, what goes on, and that nothing acknowledged is lost.

#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

use kvgossip_agent::Agent;
use kvgossip_agent::watch::{Feed, Interest};
use kvgossip_api::{SyncOutcome, WatchForm, WatchRequest};
use kvgossip_engine::{MemoryStorage, Storage, StorageError};
use kvgossip_grants::{By, EntryId, Fact, Grant, Key, Revocation, Signed, Signer, Timestamp, Verdict};
use kvgossip_testkit::agents::{entry, grant, identity, put, root, same_root, sign, value};
use kvgossip_testkit::faulty::{self, Commits, Faults, numbered, put_many_at_once, put_number, reason};
use kvgossip_testkit::wait::eventually;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// No commit here takes so long.
const STALL: Duration = Duration::from_secs(60);

async fn start(number: usize, memory: &MemoryStorage, faults: &Arc<Faults>, peers: &[&Agent]) -> Agent {
    faulty::start(number, memory, faults, peers, STALL).await
}

fn damaged() -> StorageError {
    StorageError::Damaged("a planted fault".into())
}

fn io() -> StorageError {
    StorageError::Io("a planted fault".into())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_commit_ends_the_writing_and_neither_reading_nor_what_was_acknowledged() {
    let stopped = StorageError::Stopped("a planted fault".into());
    for (fault, code) in [(io(), "store.io"), (damaged(), "store.damaged"), (stopped, "store.stopped")] {
        let (memory, faults) = (MemoryStorage::new(), Arc::<Faults>::default());
        let agent = start(0, &memory, &faults, &[]).await;
        assert_eq!(put_number(&agent, 0).await.unwrap(), Verdict::Merged);
        faults.set_commits(Commits::Fail(fault));
        for heard in put_many_at_once(&agent).await {
            assert_eq!(heard.unwrap_err().code(), code);
        }
        // The disk is well again, and the engine may not be: nothing is taken in before the store was opened anew.
        faults.set_commits(Commits::Work);
        assert_eq!(put_number(&agent, 20).await.unwrap_err().code(), code);
        reason(&agent, code);
        assert_eq!(value(&agent, "/n/0").await.unwrap(), "value");
        assert_eq!(value(&agent, "/n/1").await, None, "what was not acknowledged is not shown");
        // What it has, it hands out.
        let other = start(1, &MemoryStorage::new(), &Arc::default(), &[&agent]).await;
        eventually("the other has it", async || value(&other, "/n/0").await.is_some()).await;
        other.stop().await;
        agent.stop().await;

        let agent = start(0, &memory, &faults, &[]).await;
        assert!(agent.unready().is_empty());
        assert_eq!(value(&agent, "/n/0").await.unwrap(), "value");
        assert_eq!(put_number(&agent, 20).await.unwrap(), Verdict::Merged);
        agent.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_committer_that_panics_is_told_to_all_who_wait_and_ask() {
    let (memory, faults) = (MemoryStorage::new(), Arc::<Faults>::default());
    let agent = start(0, &memory, &faults, &[]).await;
    assert_eq!(put_number(&agent, 0).await.unwrap(), Verdict::Merged);
    faults.set_commits(Commits::Panic);
    for heard in put_many_at_once(&agent).await {
        assert_eq!(heard.unwrap_err().code(), "internal.committer");
    }
    faults.set_commits(Commits::Work);
    assert_eq!(put_number(&agent, 20).await.unwrap_err().code(), "internal.committer");
    let why = reason(&agent, "internal.committer");
    assert!(
        why.contains("please report it") && why.contains("restart the agent") && !why.contains("store"),
        "{why}"
    );
    assert_eq!(value(&agent, "/n/0").await.unwrap(), "value");
    // It ends as any other.
    tokio::time::timeout(Duration::from_secs(20), agent.stop()).await.expect("it stops");
    let agent = start(0, &memory, &faults, &[]).await;
    assert_eq!(value(&agent, "/n/0").await.unwrap(), "value");
    assert_eq!(put_number(&agent, 20).await.unwrap(), Verdict::Merged);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_does_not_read_stops_no_other() {
    let faults = [(Some(damaged()), "store.damaged"), (Some(io()), "store.io"), (None, "store.damaged")];
    for (fault, code) in faults {
        let faults = Arc::<Faults>::default();
        let agent = start(0, &MemoryStorage::new(), &faults, &[]).await;
        for number in 0..10 {
            assert_eq!(put_number(&agent, number).await.unwrap(), Verdict::Merged);
        }
        *faults.entry.lock().unwrap() = Some((EntryId(numbered(3).id().0), fault));
        let error = agent.read(&Key::parse("/n/3").unwrap()).await.unwrap_err();
        assert!(error.code() == code && error.to_string().contains("/n/3"), "{error}");
        let why = reason(&agent, code);
        assert!(why.contains("/n/3") && why.contains("--move-damaged-aside"), "{why}");
        assert_eq!(value(&agent, "/n/4").await.unwrap(), "value");
        assert_eq!(put_number(&agent, 10).await.unwrap(), Verdict::Merged, "writing goes on");

        // A fresh replica gets all the others, and both say what is in the way.
        let other = start(1, &MemoryStorage::new(), &Arc::default(), &[&agent]).await;
        for number in (0..11).filter(|number| *number != 3) {
            let key = format!("/n/{number}");
            eventually(&key, async || value(&other, &key).await.is_some()).await;
        }
        let told = |agent: &Agent| {
            let last = agent.status().peers.first().and_then(|row| row.last_sync.clone());
            last.is_some_and(|last| last.outcome == SyncOutcome::Unsettled && last.reasons == ["unreadable"])
        };
        eventually("both are told", async || told(&agent) && told(&other)).await;
        assert_eq!(value(&other, "/n/3").await, None);

        let expected = if code == "store.io" {
            // The disk answers again.
            *faults.entry.lock().unwrap() = None;
            "value"
        } else {
            // Written anew: the old record is not needed any more.
            let later = Timestamp::from_micros(5_000).unwrap();
            assert_eq!(put(&agent, entry("/n/3", b"anew", later, root(), None)).await, Verdict::Merged);
            "anew"
        };
        eventually("it is well again", async || agent.unready().is_empty()).await;
        eventually("both hold the same", async || same_root(&[&agent, &other])).await;
        assert_eq!(value(&other, "/n/3").await.unwrap(), expected);
        other.stop().await;
        agent.stop().await;
    }
}

/// Keys that make a replica ask its store when a grant ends.
const MANY_KEYS: usize = 50;

fn revoke(granted: &Signed<Grant>) -> Fact {
    let revocation = Revocation { grant: granted.clone(), by: By::Root, revoked_at: kvgossip_agent::now() };
    Fact::Revocation(sign(revocation, root()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_revoked_falls_although_the_disk_does_not_tell_what_stands_on_it() {
    let (memory, faults) = (MemoryStorage::new(), Arc::<Faults>::default());
    let agent = start(0, &memory, &faults, &[]).await;
    let writer = identity(1);
    let granted = [0, 1].map(|_| grant(writer.public(), "/app/**", root(), None));
    for granted in &granted {
        assert_eq!(put(&agent, Fact::Grant(granted.clone())).await, Verdict::Merged);
    }
    let now = kvgossip_agent::now();
    for (key, granted) in [("/app/a", &granted[0]), ("/app/b", &granted[0]), ("/app/c", &granted[1])] {
        let fact = entry(key, b"x", now, &writer, Some(granted.id()));
        assert_eq!(put(&agent, fact).await, Verdict::Merged);
    }
    // So many that asking the store which keys stand on the grant is quicker than looking at all of them.
    for number in 0..MANY_KEYS {
        let fact = entry(&format!("/app/other/{number}"), b"x", now, root(), None);
        assert_eq!(put(&agent, fact).await, Verdict::Merged);
    }
    *faults.citations.lock().unwrap() = Some(damaged());
    assert_eq!(put(&agent, revoke(&granted[0])).await, Verdict::Merged);
    for (key, stands) in [("/app/a", false), ("/app/b", false), ("/app/c", true)] {
        assert_eq!(value(&agent, key).await.is_some(), stands, "{key}");
    }
    reason(&agent, "store.damaged");
    assert_eq!(put_number(&agent, 0).await.unwrap(), Verdict::Merged, "writing goes on");
    // Nothing is left behind in the store.
    agent.stop().await;
    *faults.citations.lock().unwrap() = None;
    let agent = start(0, &memory, &faults, &[]).await;
    assert_eq!(value(&agent, "/app/a").await, None);
    assert_eq!(value(&agent, "/app/c").await.unwrap(), "x");
    assert!(agent.unready().is_empty());
    agent.stop().await;
}

/// What a watcher is told until a text has come. Heartbeats come in between.
async fn told_until(feed: &mut Feed, text: &str) -> String {
    let mut told = String::new();
    let all = async {
        while !told.contains(text) {
            told.push_str(std::str::from_utf8(&feed.next().await.expect("it goes on")).unwrap());
        }
    };
    tokio::time::timeout(Duration::from_secs(20), all).await.expect("in time");
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_expires_is_told_although_the_disk_does_not_tell_what_stands_on_it() {
    let faults = Arc::<Faults>::default();
    let agent = start(0, &MemoryStorage::new(), &faults, &[]).await;
    let (writer, now) = (identity(1), kvgossip_agent::now());
    let mut granted = grant(writer.public(), "/app/**", root(), None).body().clone();
    granted.expires_at = Some(now.saturating_add(1_500_000));
    let granted = sign(granted, root());
    assert_eq!(put(&agent, Fact::Grant(granted.clone())).await, Verdict::Merged);
    let fact = entry("/app/a", b"x", granted.body().issued_at, &writer, Some(granted.id()));
    assert_eq!(put(&agent, fact).await, Verdict::Merged);
    *faults.citations.lock().unwrap() = Some(damaged());
    let request = WatchRequest { keys: vec!["/app/a".into()], ..WatchRequest::default() };
    let mut feed = agent.hub().watch(Interest::parse(&request).unwrap(), None).unwrap();
    let told = told_until(&mut feed, "event: synced").await;
    assert!(told.contains("\"state\":\"present\""), "{told}");
    let told = told_until(&mut feed, "event: key").await;
    assert!(told.contains("\"state\":\"absent\""), "{told}");
    drop(feed);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_is_told_all_but_what_does_not_read_and_that_when_it_reads_again() {
    for form in [WatchForm::Values, WatchForm::Records] {
        let faults = Arc::<Faults>::default();
        let agent = start(0, &MemoryStorage::new(), &faults, &[]).await;
        for number in 0..6 {
            assert_eq!(put_number(&agent, number).await.unwrap(), Verdict::Merged);
        }
        *faults.entry.lock().unwrap() = Some((EntryId(numbered(3).id().0), Some(io())));
        let filters = vec![vec!["/n/**".into()]];
        let request = WatchRequest { filters, form, ..WatchRequest::default() };
        let mut feed = agent.hub().watch(Interest::parse(&request).unwrap(), None).unwrap();
        let told = told_until(&mut feed, "event: synced").await;
        for number in 0..6 {
            let state = if number == 3 { "unreadable" } else { "present" };
            let event = format!("{{\"key\":\"/n/{number}\",\"state\":\"{state}\",");
            assert!(told.contains(&event), "{form:?} {number}: {told}");
        }
        let tells = |told: &str| told.matches("_b64\":[\"").count() + told.matches("value_b64").count();
        assert_eq!(tells(&told), 5, "{told}");
        // Changes of others are told, and it when the disk answers again.
        assert_eq!(put_number(&agent, 6).await.unwrap(), Verdict::Merged);
        told_until(&mut feed, "/n/6").await;
        *faults.entry.lock().unwrap() = None;
        let told = told_until(&mut feed, "{\"key\":\"/n/3\",\"state\":\"present\"").await;
        assert_eq!(tells(&told), 1, "{told}");
        drop(feed);
        agent.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_replaced_while_it_is_read_is_read_as_it_was() {
    let agent = start(0, &MemoryStorage::new(), &Arc::default(), &[]).await;
    let key = Key::parse("/k").unwrap();
    let write = async |number: u64| {
        let time = Timestamp::from_micros(1_000 + number).unwrap();
        put(&agent, entry("/k", b"value", time, root(), None)).await
    };
    assert_eq!(write(0).await, Verdict::Merged);
    let done = Arc::<AtomicBool>::default();
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let (agent, key, done) = (agent.clone(), key.clone(), done.clone());
            // What a session and a watcher do: the state first, then the record, while that is replaced.
            std::thread::spawn(move || {
                let store = agent.store();
                while !done.load(Ordering::SeqCst) {
                    let now = store.snapshot();
                    let id = now.view.frontier(&key).unwrap().newest().unwrap().meta.id;
                    assert!(now.reader.entry(&key, &id).unwrap().is_some());
                }
            })
        })
        .collect();
    for number in 1..2_000 {
        assert_eq!(write(number).await, Verdict::Merged);
    }
    done.store(true, Ordering::SeqCst);
    for reader in readers {
        reader.join().unwrap();
    }
    assert!(agent.unready().is_empty());
    agent.stop().await;
}

/// What a revocation ended in numbers leaves the store afterwards, while others write, and after a restart as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_what_ended_leave_while_others_write() {
    const ENTRIES: u64 = 700;
    let (memory, faults) = (MemoryStorage::new(), Arc::<Faults>::default());
    let agent = start(0, &memory, &faults, &[]).await;
    let holder = identity(1);
    let parent = grant(holder.public(), "/many", root(), None);
    assert_eq!(put(&agent, Fact::Grant(parent.clone())).await, Verdict::Merged);
    let children: Vec<Signed<Grant>> =
        (0..ENTRIES).map(|_| grant(holder.public(), "/many", &holder, Some(parent.id()))).collect();
    let time = kvgossip_agent::now();
    let grants: Vec<_> = children.iter().cloned().map(|child| Ok(Fact::Grant(child))).collect();
    let entries = children.iter().map(|child| Ok(entry("/many", b"value", time, &holder, Some(child.id()))));
    for facts in [grants, entries.collect()] {
        let verdicts = agent.put_facts(&facts).await.unwrap();
        assert!(verdicts.iter().all(|verdict| *verdict == Verdict::Merged));
    }
    let key = Key::parse("/many").unwrap();
    assert_eq!(agent.store().view().frontier(&key).unwrap().len() as u64, ENTRIES);
    let body = Revocation { grant: parent, by: By::Root, revoked_at: time };
    assert_eq!(put(&agent, Fact::Revocation(sign(body, root()))).await, Verdict::Merged);
    assert_eq!(value(&agent, "/many").await, None);
    let rows = || {
        let mut rows = 0;
        memory.load_index(&mut |_, _| rows += 1).unwrap();
        memory.load_authority(&mut |_| rows += 1).unwrap();
        rows
    };
    let mut number = 0;
    eventually("everything is swept", async || {
        number += 1;
        assert_eq!(put_number(&agent, number).await.unwrap(), Verdict::Merged);
        !memory.summary().unwrap().unwrap().sweep_pending
    })
    .await;
    assert_eq!(rows(), number + 1, "what was written, and the revocation");
    let summary = memory.summary().unwrap().unwrap();
    assert_eq!((summary.root, summary.keys), (agent.store().view().root(), number));
    agent.stop().await;
}
