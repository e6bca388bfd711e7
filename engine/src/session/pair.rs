//! Both sides of a session in memory, for tests.

use super::{Config, Role, Session, SessionError};
use crate::memory::MemoryStorage;
use crate::replica::Replica;
use crate::storage::Storage as _;
use crate::view::View;
use bytes::Bytes;
use kvgossip_grants::{
    EntryDraft, EntryFact, Fact, Grant, Key, KeyGlob, MockKey, MockVerifier, PathPrefix, Signed, Signer,
    Timestamp, Verdict,
};

pub(super) fn root() -> MockKey {
    MockKey::new(0)
}

/// An entry of root's.
pub(super) fn entry(number: usize, value_bytes: usize) -> Fact {
    let draft = EntryDraft {
        key: Key::parse(&format!("/k/{number:03}")).expect("a key"),
        value: Some(Bytes::from(vec![7; value_bytes])),
        timestamp: Timestamp::from_micros(1 + number as u64).expect("a small time"),
        grant: None,
    };
    Fact::Entry(EntryFact::sign(root().public().cluster(), draft, &root()).expect("mock signatures"))
}

pub(super) fn grant(number: u8) -> Fact {
    let body = Grant {
        issuer: root().public().entity(),
        grantee: root().public().clone(),
        pattern: KeyGlob::parse("/**").expect("a glob"),
        subgrant: false,
        parent: None,
        issued_at: Timestamp::ZERO,
        expires_at: None,
        nonce: [number; 16],
    };
    Fact::Grant(Signed::sign(root().public().cluster(), body, &root()).expect("mock signatures"))
}

pub(super) struct Peer {
    replica: Replica,
    storage: MemoryStorage,
    pub(super) session: Session,
}

impl Peer {
    pub(super) fn new(role: Role, facts: &[Fact], change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config {
            role,
            scope: PathPrefix::root(),
            nonce: [1 + role as u8; 8],
            takes_facts: true,
            newcomer: None,
        };
        change(&mut config);
        let replica = Replica::new(root().public().clone());
        let session = Session::new(config.clone(), replica.view());
        let mut peer = Self { replica, storage: MemoryStorage::new(), session };
        facts.iter().for_each(|fact| assert_eq!(peer.offer(fact.clone()), Verdict::Merged));
        peer.session = Session::new(config, peer.view());
        peer
    }

    pub(super) fn pair(facts: [&[Fact]; 2]) -> [Self; 2] {
        [Self::new(Role::Initiator, facts[0], |_| ()), Self::new(Role::Responder, facts[1], |_| ())]
    }

    pub(super) fn reader(&self) -> std::sync::Arc<dyn crate::storage::Reader> {
        self.storage.reader()
    }

    pub(super) fn view(&self) -> &View {
        self.replica.view()
    }

    pub(super) fn offer(&mut self, fact: Fact) -> Verdict {
        let checked = self.view().authority().check(fact, Timestamp::MAX);
        let verified = match checked.and_then(|fact| fact.verify(&MockVerifier)) {
            Ok(verified) => verified,
            Err(verdict) => return verdict,
        };
        let reader = self.storage.reader();
        let applied = self.replica.apply(vec![verified], reader.as_ref()).expect("it is in memory");
        applied.batch.iter().for_each(|batch| self.storage.commit(batch).expect("it is in memory"));
        applied.verdicts[0]
    }

    fn poll(&mut self) -> Result<Option<Bytes>, SessionError> {
        while let Some((ticket, fact)) = self.session.poll_offer() {
            let verdict = self.offer(fact);
            self.session.handle_verdict(ticket, verdict)?;
        }
        self.session.poll_frame(self.replica.view(), self.storage.reader().as_ref())
    }

    /// All that it has to send now.
    pub(super) fn flight(&mut self) -> Result<Vec<Bytes>, SessionError> {
        let mut frames = Vec::new();
        loop {
            match self.poll()? {
                Some(frame) => frames.push(frame),
                None if self.session.outstanding() > 0 => {}
                None => return Ok(frames),
            }
        }
    }

    pub(super) fn take(&mut self, frame: Bytes) -> Result<(), SessionError> {
        self.session.handle_frame(frame, self.replica.view())
    }
}

/// Runs a session to its end; gives all frames of each side. `change` may change a frame on its way.
pub(super) fn run(
    peers: &mut [Peer; 2],
    mut change: impl FnMut(usize, Bytes) -> Bytes,
) -> Result<[Vec<Bytes>; 2], SessionError> {
    let (mut sent, mut count) = ([vec![], vec![]], 0);
    while !peers.iter().all(|peer| peer.session.is_finished()) {
        let before = count;
        for from in [0, 1] {
            for frame in peers[from].flight()? {
                let frame = change(count, frame);
                count += 1;
                sent[from].push(frame.clone());
                peers[1 - from].take(frame)?;
            }
        }
        assert!(count > before || peers.iter().all(|peer| peer.session.is_finished()), "both sides wait");
    }
    Ok(sent)
}

pub(super) fn unchanged(_: usize, frame: Bytes) -> Bytes {
    frame
}

pub(super) fn protocol(result: Result<impl std::fmt::Debug, SessionError>) -> &'static str {
    match result {
        Err(SessionError::Protocol(what)) => what,
        other => panic!("the peer is to blame, and not {other:?}"),
    }
}

/// Two sides of which each lacks authority and entries.
pub(super) fn divergent() -> [Peer; 2] {
    let mine: Vec<Fact> = [grant(1), grant(2)].into_iter().chain((0..40).map(|n| entry(n, n))).collect();
    let theirs: Vec<Fact> = [grant(3), grant(2)].into_iter().chain((30..90).map(|n| entry(n, n))).collect();
    Peer::pair([&mine, &theirs])
}

/// Both sides after the hellos; the responder has asked its first questions.
pub(super) fn greeted(peers: &mut [Peer; 2]) {
    for from in [0, 1] {
        for frame in peers[from].flight().expect("it begins") {
            peers[1 - from].take(frame).expect("a good frame");
        }
    }
}

/// Goes on with a session that has begun.
pub(super) fn run_on(peers: &mut [Peer; 2]) {
    run(peers, unchanged).expect("it ends");
}
