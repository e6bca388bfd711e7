//! What a caller could do wrong with facts of two clusters, with values, and with a store: each is refused. What the
//! types refuse does not compile; that is shown in the documentation of `Verified` and `Signed::sign`.

#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

use bytes::Bytes;
use kvgossip_grants::{
    Authority, By, Code, EntryDraft, EntryFact, Fact, Floor, Grant, GrantId, Key, KeyGlob, MAX_DEPTH,
    MAX_VALUE_BYTES, MockKey, MockVerifier, Op, Revocation, ShapeError, SignError, Signed, Signer,
    StoredError, Timestamp, Verdict, Verified, value_hash,
};

const FOREIGN: Verdict = Verdict::Misused(Code::ForeignCluster);

fn at(micros: u64) -> Timestamp {
    Timestamp::from_micros(micros).unwrap()
}

/// A cluster of its own, with root and one writer, who is the same in all clusters.
struct Cluster {
    root: MockKey,
    writer: MockKey,
    authority: Authority,
}

impl Cluster {
    fn new(root: u64) -> Self {
        let root = MockKey::new(root);
        let authority = Authority::new(root.public().clone());
        Self { root, writer: MockKey::new(100), authority }
    }

    fn pair() -> (Self, Self) {
        (Self::new(1), Self::new(2))
    }

    fn grant_under(&self, parent: Option<GrantId>, nonce: u8) -> Signed<Grant> {
        let issuer = if parent.is_some() { &self.writer } else { &self.root };
        let body = Grant {
            issuer: issuer.public().entity(),
            grantee: self.writer.public().clone(),
            pattern: KeyGlob::parse("/**").unwrap(),
            subgrant: true,
            parent,
            issued_at: Timestamp::ZERO,
            expires_at: None,
            nonce: [nonce; 16],
        };
        Signed::sign(self.authority.cluster(), body, issuer).unwrap()
    }

    fn grant(&self) -> Signed<Grant> {
        self.grant_under(None, 0)
    }

    fn revocation(&self, grant: &Signed<Grant>, by: By) -> Fact {
        let body = Revocation { grant: grant.clone(), by, revoked_at: at(5) };
        let signer = if by == By::Root { &self.root } else { &self.writer };
        Fact::Revocation(Signed::sign(self.authority.cluster(), body, signer).unwrap())
    }

    fn floor(&self, before: u64) -> Fact {
        let body =
            Floor { patterns: vec![KeyGlob::parse("/**").unwrap()], before: at(before), nonce: [0; 16] };
        Fact::Floor(Signed::sign(self.authority.cluster(), body, &self.root).unwrap())
    }

    fn draft(value: Option<&'static [u8]>) -> EntryDraft {
        let value = value.map(Bytes::from_static);
        EntryDraft { key: Key::parse("/a").unwrap(), value, timestamp: at(9), grant: None }
    }

    fn entry(&self) -> Fact {
        let draft = Self::draft(Some(b"value"));
        Fact::Entry(EntryFact::sign(self.authority.cluster(), draft, &self.root).unwrap())
    }

    fn verify(&self, fact: &Fact) -> Result<Verified, Verdict> {
        self.authority.check(fact.clone(), at(10))?.verify(&MockVerifier)
    }

    fn take(&mut self, fact: &Fact) {
        let verified = self.verify(fact).unwrap();
        assert_eq!(self.authority.merge(verified).verdict, Verdict::Merged);
    }

    /// One fact of each kind, each good in this cluster.
    fn facts(&self) -> Vec<Fact> {
        let grant = self.grant();
        vec![
            self.revocation(&self.grant_under(None, 1), By::Root),
            Fact::Grant(grant),
            self.floor(3),
            self.entry(),
        ]
    }
}

#[test]
fn what_another_cluster_verified_does_not_merge() {
    let (ours, theirs) = Cluster::pair();
    for fact in theirs.facts() {
        let verified = theirs.verify(&fact).expect("good where it was made");
        assert_eq!(verified.cluster(), theirs.authority.cluster());
        let mut authority = ours.authority.clone();
        let change = authority.merge(verified);
        assert_eq!(change.verdict, FOREIGN, "{}", fact.kind());
        assert!(change.dropped.is_empty() && change.dead.is_empty());
        assert!(authority.is_empty(), "{}", fact.kind());
        assert_eq!(authority.floor_of(&Key::parse("/a").unwrap()), None);
    }
}

/// The bytes are good in our cluster. Read with the wrong cluster's id they have a wrong id, by which a revocation would
/// not find them and peers would not agree.
#[test]
fn what_was_read_with_a_wrong_cluster_id_is_not_judged() {
    let (ours, theirs) = Cluster::pair();
    for fact in ours.facts() {
        let misread = Fact::from_record(theirs.authority.cluster(), &fact.to_record()).unwrap();
        assert_ne!(misread.id(), fact.id());
        assert!(ours.verify(&fact).is_ok(), "{}", fact.kind());
        assert_eq!(ours.verify(&misread).err(), Some(FOREIGN), "{}", fact.kind());
        // Where the id belongs, the signature does not.
        assert_eq!(theirs.verify(&misread).err().map(Verdict::is_taken_in), Some(false), "{}", fact.kind());
        if let Fact::Entry(entry) = &misread {
            assert_eq!(ours.authority.entry_grant(entry.signed()).err(), Some(FOREIGN));
        }
    }
}

#[test]
fn misuse_is_told_apart_from_what_a_peer_does_wrong() {
    let (ours, theirs) = Cluster::pair();
    let forged = Signed::<Grant>::parse(ours.authority.cluster(), ours.grant().bytes(), &[0; 256]).unwrap();
    assert_eq!(ours.verify(&Fact::Grant(forged)).err(), Some(Verdict::Refused(Code::BadSignature)));
    let misuse = ours.verify(&theirs.floor(3)).expect_err("of another cluster");
    assert_eq!((misuse.as_str(), misuse.code()), ("misused", Some(Code::ForeignCluster)));
    assert!(!misuse.is_taken_in());
}

#[test]
fn a_revocation_of_another_clusters_grant_is_not_signed() {
    let (ours, theirs) = Cluster::pair();
    let misread = Signed::parse(theirs.authority.cluster(), ours.grant().bytes(), ours.grant().signature());
    for grant in [theirs.grant(), misread.unwrap()] {
        let body = Revocation { grant, by: By::Root, revoked_at: at(5) };
        let signed = Signed::sign(ours.authority.cluster(), body, &ours.root);
        let error = signed.expect_err("it would end a grant by a wrong id");
        assert_eq!(error, SignError::Shape(ShapeError::ForeignGrant));
        assert_eq!(error.code(), Some(Code::ForeignCluster));
    }
}

#[test]
fn what_nobody_would_read_is_not_signed() {
    let ours = Cluster::new(1);
    let cluster = ours.authority.cluster();
    let pattern = |text: &str| KeyGlob::parse(text).unwrap();
    for patterns in [vec![], vec![pattern("/b"), pattern("/a")], vec![pattern("/a"), pattern("/a")]] {
        let signed = Signed::sign(cluster, Floor { patterns, before: at(1), nonce: [0; 16] }, &ours.root);
        assert_eq!(signed.err(), Some(SignError::Shape(ShapeError::FloorPatterns)));
    }
    let body = Revocation { grant: ours.grant(), by: By::Issuer, revoked_at: at(5) };
    let signed = Signed::sign(cluster, body, &ours.root);
    assert_eq!(signed.err(), Some(SignError::Shape(ShapeError::IssuerIsRoot)));
    let value = |len| EntryDraft { value: Some(vec![0; len].into()), ..Cluster::draft(None) };
    assert!(EntryFact::sign(cluster, value(MAX_VALUE_BYTES), &ours.root).is_ok());
    let error = EntryFact::sign(cluster, value(MAX_VALUE_BYTES + 1), &ours.root).expect_err("too long");
    assert_eq!(error.code(), Some(Code::TooLarge));
}

/// Whoever signs with a program of their own hears what is wrong.
#[test]
fn a_record_whose_value_is_a_byte_too_long_is_too_large_and_not_malformed() {
    let ours = Cluster::new(1);
    let cluster = ours.authority.cluster();
    let draft = EntryDraft { value: Some(vec![0; MAX_VALUE_BYTES].into()), ..Cluster::draft(None) };
    let mut record = EntryFact::sign(cluster, draft, &ours.root).unwrap().record().to_vec();
    assert!(Fact::from_record(cluster, &record).is_ok());
    // The length of the value in the body, in seven bits a byte.
    let at = record.windows(3).position(|bytes| bytes == [0x80, 0x80, 0x40]).unwrap();
    record[at] += 1;
    assert_eq!(Fact::from_record(cluster, &record), Err(Code::TooLarge), "its value is cut off");
    record.push(0);
    assert_eq!(Fact::from_record(cluster, &record), Err(Code::TooLarge));
    record[0] = 0x21;
    assert_eq!(Fact::from_record(cluster, &record), Err(Code::Malformed), "of another kind");
}

#[test]
fn the_signed_value_is_the_value() {
    let ours = Cluster::new(1);
    let cluster = ours.authority.cluster();
    for (value, op) in [
        (None, Op::Delete),
        (Some(&b""[..]), Op::Set { len: 0, hash: value_hash(b"") }),
        (Some(&b"value"[..]), Op::Set { len: 5, hash: value_hash(b"value") }),
    ] {
        let fact = EntryFact::sign(cluster, Cluster::draft(value), &ours.root).unwrap();
        assert_eq!(fact.entry().op, op);
        assert_eq!(fact.entry().signer, ours.root.public().entity());
        assert_eq!(fact.value().map(|value| &value[..]), value);
        let read = Fact::from_record(cluster, fact.record());
        assert_eq!(read, Ok(Fact::Entry(fact.clone())), "others read the same");
        for other in [&b"other"[..], b"values", b"valu"] {
            let joined = EntryFact::new(fact.signed().clone(), Bytes::from_static(other));
            assert_eq!(joined.err(), Some(Code::ValueMismatch));
        }
    }
}

#[test]
fn an_entry_is_no_part_of_the_authority() {
    let mut ours = Cluster::new(1);
    let verified = ours.verify(&ours.entry()).unwrap();
    assert_eq!(ours.authority.merge(verified).verdict, Verdict::Misused(Code::NotAuthority));
    assert!(ours.authority.is_empty());
}

/// A chain as deep as chains may be, what was revoked below each level, and a floor.
fn deep(ours: &mut Cluster) -> Vec<Fact> {
    let mut parent = None;
    for _ in 0..MAX_DEPTH {
        let grant = ours.grant_under(parent, 0);
        ours.take(&Fact::Grant(grant.clone()));
        let revoked = ours.grant_under(parent, 1);
        ours.take(&ours.revocation(&revoked, By::Grantee));
        parent = Some(grant.id());
    }
    ours.take(&ours.floor(3));
    ours.authority.fact_ids().map(|id| ours.authority.fact(&id).unwrap()).collect()
}

#[test]
fn a_store_gives_back_the_authority_that_was_put_there() {
    let mut ours = Cluster::new(1);
    let mut facts = deep(&mut ours);
    let root = ours.root.public();
    for order in 0..facts.len() {
        facts.rotate_left(order);
        let loaded = Authority::from_own_store(root.clone(), facts.clone()).unwrap();
        assert!(loaded.fact_ids().eq(ours.authority.fact_ids()));
        assert_eq!(loaded.grants().map(|grant| grant.depth()).max(), Some(MAX_DEPTH));
    }
}

/// The deepest first: every round takes in one level, which is as slow as it gets.
#[test]
fn a_store_may_give_the_deepest_first() {
    let mut ours = Cluster::new(1);
    let mut facts = deep(&mut ours);
    facts.sort_by_key(|fact| std::cmp::Reverse(ours.authority.depth(&fact.id())));
    assert!(Authority::from_own_store(ours.root.public().clone(), facts).is_ok());
}

#[test]
fn a_store_that_holds_what_was_never_put_there_is_not_loaded() {
    let (ours, theirs) = Cluster::pair();
    let load = |facts: &[&Fact]| {
        let facts = facts.iter().copied().cloned().collect();
        Authority::from_own_store(ours.root.public().clone(), facts).err()
    };
    let misplaced = |fact: &Fact, code| Some(StoredError::Misplaced { fact: fact.id(), code });
    let (top, floor) = (ours.grant(), ours.floor(3));
    let low = Fact::Grant(ours.grant_under(Some(top.id()), 2));
    let revoked = ours.revocation(&top, By::Root);
    let top = Fact::Grant(top);
    assert_eq!(load(&[&low, &top, &floor]), None);

    for foreign in theirs.facts() {
        assert_eq!(load(&[&top, &foreign]), misplaced(&foreign, Code::ForeignCluster));
    }
    assert_eq!(load(&[&ours.entry()]), misplaced(&ours.entry(), Code::NotAuthority));
    assert_eq!(load(&[&low]), misplaced(&low, Code::GrantUnknown));
    assert_eq!(load(&[&floor, &floor]), misplaced(&floor, Code::Known));
    let usurper = Signed::sign(
        ours.authority.cluster(),
        Grant { issuer: ours.writer.public().entity(), ..ours.grant().body().clone() },
        &ours.writer,
    );
    let usurper = Fact::Grant(usurper.unwrap());
    assert_eq!(load(&[&usurper]), misplaced(&usurper, Code::NotRoot));

    // What ended stands beside what ended it.
    let ended = |fact: &Fact, by: &Fact| Some(StoredError::Ended { fact: fact.id(), by: by.id() });
    assert_eq!(load(&[&top, &revoked]), ended(&top, &revoked));
    assert_eq!(load(&[&revoked, &top]), misplaced(&top, Code::GrantRevoked));
    let later = ours.floor(4);
    assert_eq!(load(&[&floor, &later]), ended(&floor, &later));
    assert_eq!(load(&[&later, &floor]), misplaced(&floor, Code::FloorSuperseded));
}
