//! The published vectors of replicas and sessions, `fixtures/session-vectors.txt`: verdicts and digests of one replica,
//! and every frame of six sessions. A change of the file is a change of the protocol.
#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

#[path = "vectors_clock/mod.rs"]
mod clock;
#[path = "vectors_declined/mod.rs"]
mod declined;
#[path = "vectors_frames/mod.rs"]
mod frames;
#[path = "vectors_long/mod.rs"]
mod long;
#[path = "vectors_newcomer/mod.rs"]
mod newcomer;

use frames::Transcript;
use kvgossip_engine::declined::Reason;
use kvgossip_engine::session::{self, Config, Obstacles, Outcome, Role, Session, SessionError};
use kvgossip_engine::tree::{BUCKET_MAX, Tree, leaf_digest, root_digest};
use kvgossip_engine::{Applied, MemoryStorage, Replica, Storage};
use kvgossip_grants::{
    EntryId, Fact, FactId, GrantId, Key, PathPrefix, RsaVerifier, Signer, Timestamp, Verdict,
};
use kvgossip_testkit::vectors::Vectors;
use kvgossip_testkit::vectors::cast::{Cast, HOUR, JANUARY, Named, at, fact, facts};
use siphasher::sip::SipHasher24;
use std::collections::BTreeSet;
use std::hash::Hasher;

const FILE: &str = "engine/tests/fixtures/session-vectors.txt";

const HEADER: &str = "\
Vectors of replicas and sessions; docs/protocol.md explains them. Bytes are hexadecimal, times are microseconds. Facts
that are called by a name stand in grants/tests/fixtures/fact-vectors.txt.

[limits]      constants of the protocol, by their names in the code
[offer-N]     one fact after the other is offered to one replica: its clock, the verdict, and the digests after it
[shown-N]     what a reader sees of a key at a time, after offers
[long-leaf]   the digest of a key with 17 ids, and that of the tree over these
[replica-X]   what the initiator `a` and the responder `b` hold before the first session, and `c` and `d` before the
              sixth, in which `a` and `b` stand for them: named facts, then records
[salt]        the salt of round 1 of the first session, and two short hashes
[session-N]   every frame without its length, in order: its number, who sends it, and its bytes. The comments say the
              same in words. Between the second and the third session `b` takes `written` in; before the fourth `a`
              takes `due` and `future` in, its clock an hour ahead, and `b` says not yet to `future`. In the fifth `b`
              declines it, and another that it once refused.
[clock]       the hello of the first session with the sender's time
[newcomer]    the hello of the first session from a newcomer that was told of two others
[extended]    the hello of the first session with an extension, which the receiver skips
[bye]         a frame that ends a session, and the code that it says

Made anew with `KVGOSSIP_BLESS=1 cargo test -p kvgossip-engine --test vectors`, only for a new format version.";

const NOON: u64 = JANUARY + 12 * HOUR;

/// A replica with its store and its clock.
struct Peer {
    replica: Replica,
    store: MemoryStorage,
    now: Timestamp,
}

impl Peer {
    fn new(cast: &Cast) -> Self {
        let replica = Replica::new(cast.root.public().clone());
        Self { replica, store: MemoryStorage::new(), now: at(NOON) }
    }

    fn offer(&mut self, fact: Fact) -> Verdict {
        let checked = self.replica.view().check(fact, self.now);
        let verified = match checked.and_then(|open| open.verify(&RsaVerifier)) {
            Ok(verified) => verified,
            Err(verdict) => return verdict,
        };
        let reader = self.store.reader();
        let Applied { verdicts, batch, .. } = self.replica.apply(vec![verified], reader.as_ref()).unwrap();
        if let Some(batch) = batch {
            self.store.commit(&batch).unwrap();
        }
        verdicts[0]
    }

    fn write_roots(&self, out: &mut Vectors) {
        let view = self.replica.view();
        out.field("authority_root", view.authority_root());
        out.field("entries_root", view.entries_root());
        out.field("root", view.root());
    }
}

/// Facts offered to one replica, one after the other: clock, name, verdict, code.
const OFFERS: [(u64, &str, &str, &str); 25] = [
    (NOON, "entry-set", "unjustified", "grant.unknown"),
    (NOON, "grant-to-web", "unjustified", "grant.unknown"),
    (NOON, "revocation-by-issuer", "unjustified", "grant.unknown"),
    (NOON, "grant-to-ops", "merged", "none"),
    (NOON, "grant-to-web", "merged", "none"),
    (NOON, "grant-to-guest", "merged", "none"),
    (JANUARY, "entry-set", "not_yet", "entry.not_yet"),
    (NOON, "entry-set", "merged", "none"),
    (NOON, "entry-set", "moot", "fact.known"),
    (NOON, "entry-delete", "merged", "none"),
    (NOON, "entry-set", "moot", "entry.dominated"),
    (NOON, "entry-of-root", "merged", "none"),
    (NOON, "entry-of-guest", "merged", "none"),
    (NOON, "entry-below-floor", "merged", "none"),
    (NOON, "floor", "merged", "none"),
    (NOON, "entry-below-floor", "moot", "entry.floored"),
    (NOON, "revocation-by-grantee", "merged", "none"),
    (NOON, "entry-delete", "unjustified", "grant.revoked"),
    (NOON, "grant-to-web", "moot", "grant.revoked"),
    (NOON, "revocation-by-root", "merged", "none"),
    (NOON, "revocation-by-issuer", "moot", "revocation.superseded"),
    (NOON, "revocation-of-guest", "merged", "none"),
    (NOON, "revocation-of-ops", "merged", "none"),
    (NOON, "revocation-by-root", "unjustified", "grant.revoked"),
    (NOON, "grant-to-web", "unjustified", "grant.revoked"),
];

/// When readers look at `/app/web/title`: after how many offers, at what time, and what they see.
const SHOWN: [(usize, u64, &str); 4] = [
    (9, NOON, "entry-set"),
    (9, JANUARY + 24 * HOUR, "entry-set"),
    (9, JANUARY + 24 * HOUR + 1, "none"),
    (10, NOON, "none"),
];

fn write_offers(out: &mut Vectors, cast: &Cast) {
    let (facts, mut peer) = (facts(cast), Peer::new(cast));
    let title = Key::parse("/app/web/title").unwrap();
    for (number, (now, name, expected, code)) in (1..).zip(OFFERS) {
        peer.now = at(now);
        let verdict = peer.offer(fact(&facts, name));
        let given = verdict.code().map_or("none", |code| code.as_str());
        assert_eq!((verdict.as_str(), given), (expected, code), "offer {number}, {name}");
        out.section(&format!("offer-{number}"));
        out.field("fact", name);
        out.field("now", now);
        out.field("verdict", expected);
        out.field("code", code);
        if let Verdict::NotYet { due } = verdict {
            out.field("due", due.as_micros());
        }
        peer.write_roots(out);
        assert_eq!(tree_by_hand(&peer), peer.replica.view().root(), "offer {number}, {name}");
        for (time, seen) in
            SHOWN.iter().filter(|(after, ..)| *after == number).map(|(_, time, seen)| (time, seen))
        {
            let shown = peer.replica.view().shown(&title, at(*time)).map(|entry| FactId::from(entry.id));
            assert_eq!(shown, (*seen != "none").then(|| fact(&facts, seen).id()), "offer {number}, {time}");
            out.section(&format!("shown-{number}-at-{time}"));
            out.field("key", &title);
            out.field("entry", seen);
        }
    }
}

/// The root over what stands, from the ids alone.
fn tree_by_hand(peer: &Peer) -> kvgossip_grants::Digest {
    let view = peer.replica.view();
    let mut authority = Tree::new();
    for id in view.authority().fact_ids() {
        let key = hex::encode(id.0);
        authority.insert(key.as_bytes(), leaf_digest(key.as_bytes(), &[id]));
    }
    let mut entries = Tree::new();
    for (key, frontier) in view.keys("", None) {
        let ids: Vec<EntryId> = frontier.ids().collect();
        entries.insert(key.as_bytes(), leaf_digest(key.as_bytes(), &ids));
    }
    root_digest(&authority.digest(), &entries.digest())
}

/// What a replica holds: facts of the vectors by name, and more.
struct Holding {
    names: Vec<&'static str>,
    facts: Vec<Fact>,
}

impl Holding {
    /// The initiator's and the responder's.
    fn both(cast: &Cast, facts: &[Named<'_>]) -> [Self; 2] {
        let hour = JANUARY + HOUR;
        let ops = Some(GrantId(fact(facts, "grant-to-ops").id().0));
        let host = |number: u8, micros, value: Option<&str>| {
            let key = format!("/app/db/host{number:02}");
            cast.entry(&cast.ops, ops, &key, micros, value.map(str::as_bytes))
        };
        let common = (0..20).map(|number| host(number, hour, Some("old")));
        let mut a: Vec<Fact> = common.collect();
        let mut b = a.clone();
        a.extend([host(3, hour + 5, Some("of a")), host(6, hour + 5, Some("of a"))]);
        b.extend([host(4, hour + 7, Some("of b")), host(5, hour + 7, None), host(6, hour + 9, Some("of b"))]);
        b.push(host(20, hour, Some("new")));
        let names = vec!["grant-to-ops", "grant-to-web", "grant-to-guest", "entry-set", "entry-of-guest"];
        let a = Self { names, facts: a };
        let names = vec!["grant-to-ops", "floor", "revocation-of-guest", "entry-of-root"];
        [a, Self { names, facts: b }]
    }

    fn peer(&self, cast: &Cast, facts: &[Named<'_>]) -> Peer {
        let mut peer = Peer::new(cast);
        for fact in self.all(facts) {
            assert_eq!(peer.offer(fact), Verdict::Merged);
        }
        peer
    }

    fn all(&self, facts: &[Named<'_>]) -> impl Iterator<Item = Fact> {
        let named: Vec<Fact> = self.names.iter().map(|name| fact(facts, name)).collect();
        named.into_iter().chain(self.facts.clone())
    }
}

/// A session as it went: who sent what.
struct Run {
    frames: Vec<(usize, Vec<u8>)>,
    outcomes: [Option<Outcome>; 2],
}

fn run(peers: &mut [Peer; 2], scope: &str, nonces: [[u8; 8]; 2]) -> Run {
    run_declining(peers, scope, nonces, Vec::new())
}

/// The same, where the responder declines facts.
fn run_declining(
    peers: &mut [Peer; 2],
    scope: &str,
    nonces: [[u8; 8]; 2],
    declined: Vec<(FactId, Reason)>,
) -> Run {
    let config = |role, nonce| {
        let scope =
            if role == Role::Initiator { PathPrefix::parse(scope).unwrap() } else { PathPrefix::root() };
        Config { role, scope, nonce, takes_facts: true, newcomer: None }
    };
    let mut sessions = [
        Session::new(config(Role::Initiator, nonces[0]), peers[0].replica.view()),
        Session::new(config(Role::Responder, nonces[1]), peers[1].replica.view()),
    ];
    sessions[1].decline(declined);
    let mut frames = Vec::new();
    while !sessions.iter().all(Session::is_finished) {
        let before = frames.len();
        for from in [0, 1] {
            let reader = peers[from].store.reader();
            while let Some(frame) =
                sessions[from].poll_frame(peers[from].replica.view(), reader.as_ref()).unwrap()
            {
                let to = 1 - from;
                frames.push((from, frame.to_vec()));
                sessions[to].handle_frame(frame, peers[to].replica.view()).unwrap();
                while let Some((ticket, fact)) = sessions[to].poll_offer() {
                    let verdict = peers[to].offer(fact);
                    sessions[to].handle_verdict(ticket, verdict).unwrap();
                }
            }
        }
        assert!(frames.len() > before, "the session stands still");
    }
    Run { frames, outcomes: sessions.map(|session| session.outcome()) }
}

fn write_run(out: &mut Vectors, name: &str, run: &Run, expected: Outcome) -> Transcript {
    out.section(name);
    let mut transcript = Transcript::default();
    for (number, (side, frame)) in (1..).zip(&run.frames) {
        for words in transcript.frame(*side, frame) {
            out.comment(&words);
        }
        out.hex(&format!("{number:02}-{}", ["a", "b"][*side]), frame);
    }
    out.field("outcome", if expected == Outcome::Equal { "equal" } else { "unsettled" });
    assert_eq!(run.outcomes, [Some(expected); 2], "{name}");
    transcript
}

const NONCES: [[u8; 8]; 2] = [[0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7], [0xb0; 8]];

/// The salt and the short hash of `docs/protocol.md`.
fn salt() -> [u8; 16] {
    let preimage = [b"kvgossip/salt\0\0\0", &NONCES[0][..], &NONCES[1], &[1]].concat();
    blake3::hash(&preimage).as_bytes()[..16].try_into().unwrap()
}

fn short(bytes: &[u8]) -> u32 {
    let mut hasher = SipHasher24::new_with_key(&salt());
    hasher.write(bytes);
    (hasher.finish() & 0xffff_ffff) as u32
}

fn write_salt(out: &mut Vectors, facts: &[Named<'_>]) {
    out.section("salt");
    out.hex("nonce_a", &NONCES[0]);
    out.hex("nonce_b", &NONCES[1]);
    out.field("round", 1);
    out.hex("key", &salt());
    let id = fact(facts, "grant-to-ops").id();
    out.field("id", id);
    out.hex("short", &short(&id.0).to_le_bytes());
    out.field("text", "/app/db/host04");
    out.hex("short_of_text", &short(b"/app/db/host04").to_le_bytes());
}

fn write_sessions(out: &mut Vectors, cast: &Cast) {
    let facts = facts(cast);
    let holdings = Holding::both(cast, &facts);
    let mut peers = holdings.each_ref().map(|holding| holding.peer(cast, &facts));
    for (name, holding, peer) in [("a", &holdings[0], &peers[0]), ("b", &holdings[1], &peers[1])] {
        out.section(&format!("replica-{name}"));
        out.field("names", holding.names.join(" "));
        for (number, fact) in (1..).zip(&holding.facts) {
            out.hex(&format!("record-{number:02}"), &fact.to_record());
        }
        peer.write_roots(out);
    }
    write_salt(out, &facts);
    let transcript = write_run(out, "session-1", &run(&mut peers, "/", NONCES), Outcome::Equal);
    peers[0].write_roots(out);
    check_hashes(&transcript, holdings.iter().flat_map(|holding| holding.all(&facts)), &peers);
    let nonces = [[1; 8], [2; 8]];
    write_run(out, "session-2", &run(&mut peers, "/", nonces), Outcome::Equal);
    let ops = Some(GrantId(fact(&facts, "grant-to-ops").id().0));
    let written = cast.entry(&cast.ops, ops, "/app/db/host07", JANUARY + 2 * HOUR, Some(b"later"));
    assert_eq!(peers[1].offer(written.clone()), Verdict::Merged);
    let confined = run(&mut peers, "/app/db", nonces);
    write_run(out, "session-3", &confined, Outcome::Equal);
    out.hex("written", &written.to_record());
    assert_eq!(peers[0].replica.view().root(), peers[1].replica.view().root());
    write_unsettled(out, cast, ops, &mut peers);
}

/// A session that one fact keeps from ending equal: two rounds, because the first moved another.
fn write_unsettled(out: &mut Vectors, cast: &Cast, ops: Option<GrantId>, peers: &mut [Peer; 2]) {
    let host = |number: u8, micros| {
        cast.entry(&cast.ops, ops, &format!("/app/db/host{number:02}"), micros, Some(b"soon"))
    };
    let (due, future) = (host(8, NOON), host(9, NOON + HOUR / 2));
    peers[0].now = at(NOON + HOUR);
    for fact in [&due, &future] {
        assert_eq!(peers[0].offer(fact.clone()), Verdict::Merged);
    }
    let unsettled = run(peers, "/", [[3; 8], [4; 8]]);
    let finals = unsettled.frames.iter().filter(|(_, frame)| frame[0] == 8).count();
    assert_eq!(finals, 4, "two rounds");
    let expected = Outcome::Unsettled(Obstacles { not_yet: true, ..Obstacles::default() });
    write_run(out, "session-4", &unsettled, expected);
    out.hex("due", &due.to_record());
    out.hex("future", &future.to_record());
    declined::write_session(out, peers, future.id());
}

/// Frames that this implementation reads and does not send.
fn write_foreign_frames(out: &mut Vectors, cast: &Cast) {
    let peer = Peer::new(cast);
    let session = |role, nonce| {
        let config = Config { role, scope: PathPrefix::root(), nonce, takes_facts: true, newcomer: None };
        Session::new(config, peer.replica.view())
    };
    let reader = peer.store.reader();
    let hello = session(Role::Initiator, NONCES[0]).poll_frame(peer.replica.view(), reader.as_ref());
    let hello = hello.unwrap().unwrap();
    let (last, rest) = hello.split_last().unwrap();
    assert_eq!(*last, 0, "no extensions");
    let extended = [rest, &[1, 7, 5], b"later"].concat();
    let answers = [hello.to_vec(), extended.clone()].map(|hello| {
        let mut responder = session(Role::Responder, NONCES[1]);
        responder.handle_frame(hello.into(), peer.replica.view()).unwrap();
        responder.poll_frame(peer.replica.view(), reader.as_ref()).unwrap().unwrap()
    });
    assert_eq!(answers[0], answers[1], "the extension is skipped");
    for (role, version) in [(Role::Initiator, 1), (Role::Responder, 1), (Role::Responder, 3)] {
        // Whatever another version may say behind its number.
        let other = [&[1, version][..], b"whatever"].concat();
        let mut session = session(role, NONCES[1]);
        while session.poll_frame(peer.replica.view(), reader.as_ref()).unwrap().is_some() {}
        let refused = session.handle_frame(other.into(), peer.replica.view()).unwrap_err();
        assert!(matches!(refused, SessionError::Version(found) if found == version), "{refused}");
        assert!(refused.code() == "session.version" && !refused.blames_peer());
    }
    out.section("extended");
    out.hex("hello", &extended);
    out.field("number", 7);
    out.field("content", "later");

    let bye = [&[9][..], b"session.protocol"].concat();
    let mut responder = session(Role::Responder, NONCES[1]);
    let ended = responder.handle_frame(bye.clone().into(), peer.replica.view()).unwrap_err();
    assert!(matches!(ended, SessionError::Bye(_)) && responder.is_finished(), "{ended}");
    assert!(responder.handle_frame(hello, peer.replica.view()).is_err(), "nothing is taken after the end");
    out.section("bye");
    out.hex("frame", &bye);
    out.field("code", ended.code());
}

/// Every id in a list is the short hash of a fact, and a part that the session does not change has the short hash of
/// its digest.
fn check_hashes(transcript: &Transcript, facts: impl Iterator<Item = Fact>, peers: &[Peer; 2]) {
    let known: BTreeSet<u32> = facts.map(|fact| short(&fact.id().0)).collect();
    assert!(transcript.ids.len() > 10);
    assert!(transcript.ids.iter().all(|id| known.contains(id)));
    let entries = peers[0].replica.view().entries();
    let unchanged = entries.digest_region(&kvgossip_engine::tree::Region::Subtree(b"/app/db/host1".to_vec()));
    assert!(transcript.digests.contains(&short(&unchanged.0)));
}

fn write_limits(out: &mut Vectors) {
    out.section("limits");
    out.field("BUCKET_MAX", BUCKET_MAX);
    out.field("MAX_FRAME_BYTES", session::MAX_FRAME_BYTES);
    out.field("MAX_EXTENSIONS", session::MAX_EXTENSIONS);
    out.field("MAX_EXTENSION_BYTES", session::MAX_EXTENSION_BYTES);
    out.field("MAX_PARTS", session::MAX_PARTS);
    out.field("MAX_REGION_BYTES", session::MAX_REGION_BYTES);
    out.field("MAX_LIST_IDS", session::MAX_LIST_IDS);
    out.field("MAX_TELLS", session::MAX_TELLS);
    out.field("MAX_DECLINES", session::MAX_DECLINES);
    out.field("MAX_FLIGHT_BYTES", session::MAX_FLIGHT_BYTES);
    out.field("MAX_ROUNDS", session::MAX_ROUNDS);
    out.field("MAX_FLIGHTS", session::MAX_FLIGHTS);
    out.field("MAX_CHARGES", session::MAX_CHARGES);
    out.field("MAX_CODE_BYTES", session::MAX_CODE_BYTES);
}

fn vectors() -> Vectors {
    let cast = Cast::new();
    let mut out = Vectors::new(FILE, HEADER);
    write_limits(&mut out);
    write_offers(&mut out, &cast);
    long::write_leaf(&mut out);
    write_sessions(&mut out, &cast);
    long::write_session(&mut out, &cast, &facts(&cast));
    clock::write(&mut out, &cast);
    newcomer::write(&mut out, &cast);
    write_foreign_frames(&mut out, &cast);
    out
}

#[test]
fn the_fixture_is_what_the_code_says() {
    vectors().settle();
}

#[test]
fn the_document_quotes_the_vectors() {
    vectors().check_quotes("sessions", 14);
}
