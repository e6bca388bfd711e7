//! A disk that hangs, and one without room: what the agent says, and that it goes on.

#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

use kvgossip_agent::Agent;
use kvgossip_agent::watch::Interest;
use kvgossip_api::{SyncOutcome, WatchRequest};
use kvgossip_engine::{Failure, MemoryStorage, StorageError};
use kvgossip_grants::{Fact, Signer, Verdict};
use kvgossip_testkit::agents::{
    self, cluster, config, entry, grant, identity, peer, put, root, same_root, sign, value,
};
use kvgossip_testkit::faulty::{self, Commits, Faults, put_many_at_once, put_number, reason};
use kvgossip_testkit::wait::eventually;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

async fn start(faults: &Arc<Faults>) -> Agent {
    faulty::start(0, &MemoryStorage::new(), faults, &[], Duration::from_millis(400)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_does_not_end_is_told_to_all_who_wait_and_ask() {
    let faults = Arc::<Faults>::default();
    let agent = start(&faults).await;
    assert_eq!(put_number(&agent, 0).await.unwrap(), Verdict::Merged);
    faults.set_commits(Commits::Hang);
    // The first is under way, the others wait behind it; none waits for ever.
    for heard in put_many_at_once(&agent).await {
        let error = heard.unwrap_err();
        assert!(matches!(error, Failure::Storage(StorageError::Stalled { .. })), "{error}");
    }
    reason(&agent, "store.stalled");
    // Now it is known: refused at once, and reading goes on.
    assert!(matches!(put_number(&agent, 20).await, Err(Failure::Storage(StorageError::Stalled { .. }))));
    assert_eq!(value(&agent, "/n/0").await.unwrap(), "value");

    faults.set_commits(Commits::Work);
    eventually("it goes on by itself", async || agent.unready().is_empty()).await;
    assert_eq!(put_number(&agent, 20).await.unwrap(), Verdict::Merged);
    // What was offered can be offered again, whether it was stored or not.
    for number in 1..20 {
        assert!(matches!(put_number(&agent, number).await.unwrap(), Verdict::Merged | Verdict::Moot(_)));
        assert_eq!(value(&agent, &format!("/n/{number}")).await.unwrap(), "value");
    }
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_starts_without_room_reads_and_waits_for_room() {
    let faults = Arc::<Faults>::default();
    *faults.is_full.lock().unwrap() = true;
    let agent = start(&faults).await;
    reason(&agent, "store.no_room");
    for number in 0..3 {
        assert!(matches!(
            put_number(&agent, number).await,
            Err(Failure::Storage(StorageError::NoRoom { .. }))
        ));
    }
    assert_eq!(value(&agent, "/n/0").await, None);
    *faults.is_full.lock().unwrap() = false;
    eventually("there is room", async || agent.unready().is_empty()).await;
    assert_eq!(put_number(&agent, 0).await.unwrap(), Verdict::Merged);
    agent.stop().await;
}

/// The room is asked for on a deadline: whoever keeps trying, such as peers, does not put that off.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn room_is_asked_for_while_requests_keep_coming() {
    let faults = Arc::<Faults>::default();
    *faults.is_full.lock().unwrap() = true;
    let agent = start(&faults).await;
    reason(&agent, "store.no_room");
    let ended = Arc::<AtomicBool>::default();
    let writers: Vec<_> = (0..4)
        .map(|number| {
            let (agent, ended) = (agent.clone(), ended.clone());
            tokio::spawn(async move {
                // Far more often than the disk is asked.
                while !ended.load(Ordering::SeqCst) {
                    let _ = put_number(&agent, number).await;
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            })
        })
        .collect();
    let before = faults.probes.load(Ordering::SeqCst);
    eventually("it asks", async || faults.probes.load(Ordering::SeqCst) > before + 3).await;
    *faults.is_full.lock().unwrap() = false;
    eventually("it goes on", async || agent.unready().is_empty()).await;
    eventually("what is tried again is taken", async || {
        value(&agent, "/n/0").await.as_deref() == Some(b"value")
    })
    .await;
    assert!(!ended.swap(true, Ordering::SeqCst));
    for writer in writers {
        writer.await.unwrap();
    }
    agent.stop().await;
}

/// A disk that was full ends the commits, and with room again the agent goes on by itself: whether the last batch had become
/// durable or not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_was_full_is_opened_anew_when_there_is_room() {
    for fails_late in [false, true] {
        for error in [StorageError::Full, StorageError::Stopped("a planted fault".into())] {
            let (memory, faults) = (MemoryStorage::new(), Arc::<Faults>::default());
            let agent = faulty::start(0, &memory, &faults, &[], Duration::from_secs(60)).await;
            assert_eq!(put_number(&agent, 0).await.unwrap(), Verdict::Merged);
            let request = WatchRequest { keys: vec!["/n/1".into()], ..WatchRequest::default() };
            let mut feed = agent.hub().watch(Interest::parse(&request).unwrap(), None).unwrap();
            *faults.is_full.lock().unwrap() = true;
            *faults.reopens.lock().unwrap() = Some(0);
            *faults.fails_late.lock().unwrap() = fails_late;
            faults.set_commits(Commits::Fail(error.clone()));
            assert_eq!(put_number(&agent, 1).await.unwrap_err().code(), error.code());
            assert_eq!(put_number(&agent, 2).await.unwrap_err().code(), error.code());
            reason(&agent, error.code());
            assert_eq!(value(&agent, "/n/0").await.unwrap(), "value");
            assert_eq!(*faults.reopens.lock().unwrap(), Some(0), "not before there is room");

            faults.set_commits(Commits::Work);
            *faults.is_full.lock().unwrap() = false;
            eventually("it goes on by itself", async || agent.unready().is_empty()).await;
            assert_eq!(*faults.reopens.lock().unwrap(), Some(1));
            assert_eq!(value(&agent, "/n/1").await.is_some(), fails_late);
            let again = put_number(&agent, 1).await.unwrap();
            assert_eq!(again == Verdict::Merged, !fails_late, "{again:?}");
            assert_eq!(put_number(&agent, 2).await.unwrap(), Verdict::Merged);
            // Whoever watches hears of what became durable, whenever that was.
            let told = async {
                let mut told = String::new();
                while !told.contains("\"state\":\"present\"") {
                    told.push_str(std::str::from_utf8(&feed.next().await.expect("it goes on")).unwrap());
                }
            };
            tokio::time::timeout(Duration::from_secs(20), told).await.expect("in time");
            let root = agent.store().view().root();
            agent.stop().await;
            let agent = faulty::start(0, &memory, &Arc::default(), &[], Duration::from_secs(60)).await;
            assert_eq!(agent.store().view().root(), root);
            agent.stop().await;
        }
    }
}

/// Received bytes of entries in the sessions that end from now on.
fn entries_received(reports: &mut tokio::sync::broadcast::Receiver<kvgossip_api::SyncReport>) -> u64 {
    std::iter::from_fn(|| reports.try_recv().ok()).map(|report| report.received.entries).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_at_its_limit_takes_what_frees_room_and_nothing_is_sent_in_vain() {
    let mut small = config(0);
    small.max_store_bytes = Some(4 << 20);
    let small = agents::start(small).await;
    let mut other = config(1);
    other.peers = vec![peer(&small)];
    let other = agents::start(other).await;
    let writer = identity(1);
    let granted = grant(writer.public(), "/w/**", root(), None);
    assert!(put(&other, Fact::Grant(granted.clone())).await.is_taken_in());
    let write = async |number: usize| {
        let value = vec![number as u8; 800_000];
        let fact = entry(&format!("/w/{number}"), &value, kvgossip_agent::now(), &writer, Some(granted.id()));
        assert!(put(&other, fact).await.is_taken_in());
    };
    for number in 0..6 {
        write(number).await;
    }
    eventually("it is full", async || small.store().is_full()).await;
    let last = async |agent: &Agent| agent.peers().rows().iter().find_map(|row| row.last_sync.clone());
    eventually("sessions say so", async || {
        last(&small)
            .await
            .is_some_and(|last| last.outcome == SyncOutcome::Unsettled && last.reasons == ["store.quota"])
    })
    .await;

    // What is put here and does not fit is refused, what fits is taken in, and reading goes on.
    let large = entry("/large", &[0; 800_000], kvgossip_agent::now(), root(), None);
    let refused = small.put_facts(&[Ok(large)]).await.unwrap_err();
    assert!(refused.code() == "store.quota" && refused.to_string().contains("bytes are left"), "{refused}");
    let fits = entry("/small", b"value", kvgossip_agent::now(), root(), None);
    assert!(put(&small, fits).await.is_taken_in());
    let status = small.status();
    assert!(status.store.full && status.store.limit_bytes == Some(4 << 20), "{:?}", status.store);
    assert!(status.reasons.iter().any(|reason| reason.code == "store.quota"), "{:?}", status.reasons);
    let heaviest = &status.store.grants[0];
    assert_eq!((heaviest.grant.as_str(), heaviest.entries), (granted.id().to_string().as_str(), 5));
    assert!(heaviest.bytes > 4_000_000 && heaviest.pattern == "/w/**", "{heaviest:?}");
    let metrics = small.metrics_text().unwrap();
    assert!(metrics.contains("kvgossip_store_limit_bytes 4194304"), "{metrics}");
    let held = (0..6).map(|number| format!("/w/{number}"));
    let mut held_here = Vec::new();
    for key in held {
        if value(&small, &key).await.is_some() {
            held_here.push(key);
        }
    }
    assert_eq!(held_here.len(), 5, "reads go on");

    // Others write on: sessions move nothing in vain, but what ends facts comes.
    let mut reports = small.peers().reports();
    for number in 0..5 {
        let fact = entry(&format!("/s/{number}"), b"value", kvgossip_agent::now(), root(), None);
        assert!(put(&other, fact).await.is_taken_in());
    }
    let root_of = |agent: &Agent| agent.store().view().authority_root();
    let grant = grant(writer.public(), "/none", root(), None);
    assert!(put(&other, Fact::Grant(grant)).await.is_taken_in());
    eventually("a grant comes", async || root_of(&small) == root_of(&other)).await;
    assert_eq!(entries_received(&mut reports), 0, "no value is sent in vain");

    // A delete elsewhere frees room, and all the rest comes by itself.
    let draft = kvgossip_grants::EntryDraft {
        key: kvgossip_grants::Key::parse(&held_here[0]).unwrap(),
        value: None,
        timestamp: kvgossip_agent::now(),
        grant: Some(granted.id()),
    };
    let delete = kvgossip_grants::EntryFact::sign(cluster(), draft, &writer).unwrap();
    assert!(put(&other, Fact::Entry(delete)).await.is_taken_in());
    eventually("the delete frees room", async || same_root(&[&small, &other])).await;
    assert!(!small.store().is_full() && !small.status().store.full);

    // So does a revocation, and it is taken in here as well.
    write(6).await;
    eventually("it is full again", async || small.store().is_full()).await;
    let revocation = kvgossip_grants::Revocation {
        grant: granted.clone(),
        by: kvgossip_grants::By::Root,
        revoked_at: kvgossip_agent::now(),
    };
    let revocation = Fact::Revocation(sign(revocation, root()));
    assert!(put(&small, revocation).await.is_taken_in());
    eventually("nothing of the grant is left", async || {
        small.store().view().weight() < 100_000 && same_root(&[&small, &other])
    })
    .await;
    let large = entry("/large", &[0; 800_000], kvgossip_agent::now(), root(), None);
    assert!(put(&small, large).await.is_taken_in());
    other.stop().await;
    small.stop().await;
}
