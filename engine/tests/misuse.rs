//! A replica takes in nothing that was verified for another cluster, and loads no store that holds what was never put there.

#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

use kvgossip_engine::{Batch, MemoryStorage, Replica, Storage, StorageError, Summary, Write};
use kvgossip_grants::{
    Authority, Code, EntryDraft, EntryFact, Fact, Floor, Key, KeyGlob, MockKey, MockVerifier, Signed, Signer,
    Timestamp, Verdict,
};

/// An entry and a floor of root's.
fn facts(root: &MockKey) -> [Fact; 2] {
    let cluster = root.public().cluster();
    let (key, time) = (Key::parse("/a").unwrap(), Timestamp::from_micros(5).unwrap());
    let draft = EntryDraft { key, value: Some("value".into()), timestamp: time, grant: None };
    let floor = Floor { patterns: vec![KeyGlob::parse("/**").unwrap()], before: time, nonce: [0; 16] };
    [
        Fact::Entry(EntryFact::sign(cluster, draft, root).unwrap()),
        Fact::Floor(Signed::sign(cluster, floor, root).unwrap()),
    ]
}

#[test]
fn what_another_cluster_verified_changes_nothing() {
    let (ours, theirs) = (MockKey::new(1), MockKey::new(2));
    let storage = MemoryStorage::new();
    let verify = |root: &MockKey, fact: Fact| {
        let authority = Authority::new(root.public().clone());
        authority.check(fact, Timestamp::MAX).unwrap().verify(&MockVerifier).unwrap()
    };
    for (mine, foreign) in facts(&ours).into_iter().zip(facts(&theirs)) {
        let mut replica = Replica::new(ours.public().clone());
        let before = replica.view().root();
        let applied = replica.apply(vec![verify(&theirs, foreign)], storage.reader().as_ref()).unwrap();
        assert_eq!(applied.verdicts, [Verdict::Misused(Code::ForeignCluster)]);
        assert!(applied.batch.is_none() && applied.changes.is_empty());
        assert_eq!(replica.view().root(), before);
        let applied = replica.apply(vec![verify(&ours, mine)], storage.reader().as_ref()).unwrap();
        assert_eq!(applied.verdicts, [Verdict::Merged]);
    }
}

#[test]
fn a_store_that_holds_what_was_never_put_there_is_not_loaded() {
    let root = MockKey::new(1);
    let [entry, floor] = facts(&root);
    let Fact::Floor(later) = &floor else { unreachable!() };
    let later = Floor { before: Timestamp::from_micros(6).unwrap(), ..later.body().clone() };
    let later = Fact::Floor(Signed::sign(root.public().cluster(), later, &root).unwrap());
    for (stored, why) in [(vec![&entry], "fact.not_authority"), (vec![&floor, &later], "authority fact")] {
        let mut storage = MemoryStorage::new();
        let writes = stored.iter().map(|fact| Write::PutAuthority(fact.id(), fact.to_record())).collect();
        let summary = Summary { batch: 1, ..Replica::new(root.public().clone()).summary() };
        storage.commit(&Batch { writes, summary }).unwrap();
        match Replica::load(root.public().clone(), &storage) {
            Err(StorageError::Damaged(text)) => {
                let names = stored.iter().any(|fact| text.contains(&fact.id().to_string()));
                assert!(names && text.contains(why), "{text}");
            }
            other => panic!("{other:?}"),
        }
    }
}
