//! What a session counts, refuses and says of itself, whichever way the two sides differ.

use super::frame::kind;
use super::pair::{Peer, divergent, entry, grant, greeted, protocol, root, run, run_on, unchanged};
use super::*;
use bytes::Bytes;
use kvgossip_grants::{EntryDraft, EntryFact, Fact, Key, Signer as _, Verdict, varint};
use std::collections::BTreeSet;

#[test]
fn obstacles_of_both_sides_are_united() {
    for one in 0..128 {
        let ours = Obstacles::default().with_bits(one);
        assert_eq!(ours.bits(), one);
        for other in 0..128 {
            assert_eq!(ours.with_bits(other).bits(), one | other);
        }
    }
}

#[test]
fn a_peer_is_blamed_for_what_it_does_and_for_nothing_else() {
    assert!(
        SessionError::Protocol("it").blames_peer() && SessionError::Misbehaved(Code::NotRoot).blames_peer()
    );
    for error in [SessionError::Version(9), SessionError::Bye("x".into()), SessionError::ShuttingDown] {
        assert!(!error.blames_peer(), "{error}");
    }
}

#[test]
fn what_one_side_counts_as_sent_the_other_counts_as_received_and_the_wire_carried() {
    let mut peers = divergent();
    let frames = run(&mut peers, unchanged).expect("it ends");
    let [one, two] = [peers[0].session.tally(), peers[1].session.tally()];
    assert_eq!((one.sent, one.received), (two.received, two.sent));
    for (tally, frames) in [(one, &frames[0]), (two, &frames[1])] {
        let on_wire =
            frames.iter().map(|frame| (frame.len() + varint::encoded_len(frame.len() as u64)) as u64);
        assert_eq!(tally.sent.total(), on_wire.sum::<u64>());
        assert_eq!(tally.sent.overhead + tally.sent.authority + tally.sent.entries, tally.sent.total());
    }
    assert_eq!((one.sent.authority_facts, two.sent.authority_facts), (1, 1));
    assert_eq!((one.sent.entry_facts, two.sent.entry_facts), (30, 50));
    let bytes = |facts: &[Fact]| facts.iter().map(|fact| fact.payload_len() as u64).sum::<u64>();
    assert_eq!(one.sent.authority, bytes(&[grant(1)]));
    assert_eq!(one.sent.entries, bytes(&(0..30).map(|n| entry(n, n)).collect::<Vec<_>>()));
    assert_eq!((one.merged, two.merged, one.waste, two.waste), (51, 31, 0, 0));
}

#[test]
fn one_fact_among_many_goes_alone() {
    for many in [20, 40, 90] {
        let common: Vec<Fact> = (0..many).map(grant).chain((0..many.into()).map(|n| entry(n, 1))).collect();
        let more = [&common[..], &[grant(200), entry(900, 1)]].concat();
        for facts in [[&common, &more], [&more, &common]] {
            let mut peers = Peer::pair(facts.map(|facts| &facts[..]));
            run_on(&mut peers);
            let sent = peers.map(|peer| peer.session.tally().sent);
            assert_eq!(sent[0].authority_facts + sent[1].authority_facts, 1, "of {many}");
            assert_eq!(sent[0].entry_facts + sent[1].entry_facts, 1, "of {many}");
        }
    }
}

#[test]
fn records_share_a_frame_as_long_as_they_fit() {
    let bare = entry(0, 0).to_record().len();
    // Three of them and the kind are just a frame.
    let value = (16 * 1024 - 1) / 3 - bare - 1;
    let facts: Vec<Fact> = (0..4).map(|number| entry(number, value)).collect();
    assert_eq!(1 + 3 * facts[0].to_record().len(), 16 * 1024);
    let mut peers = Peer::pair([&facts, &[]]);
    let frames = run(&mut peers, unchanged).expect("it ends");
    let sizes: Vec<usize> =
        frames[0].iter().filter(|frame| frame[0] == kind::FACTS).map(Bytes::len).collect();
    assert_eq!(sizes, [16 * 1024, 1 + facts[0].to_record().len()]);
}

#[test]
fn a_tally_says_what_came_of_each_fact() {
    let [mut one, _] = divergent();
    let verdicts = [
        Verdict::Merged,
        Verdict::Moot(Code::Known),
        Verdict::NotYet { due: Timestamp::MAX },
        Verdict::Unjustified(Code::GrantUnknown),
        Verdict::Refused(Code::BadSignature),
        Verdict::Misused(Code::ForeignCluster),
    ];
    // One of the first, two of the second, and so on.
    let mut waste = 0;
    for (times, verdict) in (1..).zip(verdicts) {
        for number in 0..times {
            one.session.intake.push(entry(number, 10 * times));
            let (ticket, fact) = one.session.poll_offer().expect("it was taken");
            waste += if verdict == Verdict::Merged { 0 } else { fact.payload_len() as u64 };
            one.session.handle_verdict(ticket, verdict).expect("not too many");
        }
    }
    let tally = one.session.tally();
    assert_eq!((tally.merged, tally.moot, tally.not_yet, tally.unjustified), (1, 2, 3, 4));
    assert_eq!((tally.refused, tally.waste), (5 + 6, waste));
    let obstacles = one.session.current_obstacles();
    assert!(obstacles.not_yet && obstacles.refused && obstacles.unjustified);
}

#[test]
fn a_frame_with_a_byte_too_many_is_refused() {
    let frames = run(&mut divergent(), unchanged).expect("it ends").concat();
    let counted: Vec<u8> = [kind::HELLO, kind::FINAL, kind::END].into();
    let mut tried = BTreeSet::new();
    for at in 0..frames.len() {
        let mut kind = None;
        let result = run(&mut divergent(), |count, frame| match count == at && counted.contains(&frame[0]) {
            true => {
                kind = Some(frame[0]);
                [&frame[..], &[0]].concat().into()
            }
            false => frame,
        });
        if kind.is_some() {
            tried.extend(kind);
            assert_eq!(protocol(result), "a frame does not decode", "kind {kind:?}");
        }
    }
    assert_eq!(tried, counted.into_iter().collect());
}

#[test]
fn a_frame_may_have_as_many_bytes_as_it_says_and_no_more() {
    let [_, mut two] = divergent();
    let too_large = "a frame is too large";
    assert_ne!(protocol(two.take(vec![kind::END; MAX_FRAME_BYTES].into())), too_large);
    let [_, mut two] = divergent();
    assert_eq!(protocol(two.take(vec![kind::END; MAX_FRAME_BYTES + 1].into())), too_large);
}

#[test]
fn the_frames_of_a_flight_cost_their_bytes_and_a_little_each() {
    const FRAME_COST: usize = 64;
    let mut peers = divergent();
    greeted(&mut peers);
    peers[0].flight().expect("it answers");
    let frame = Bytes::from(vec![kind::PARTS; (1 << 20) - FRAME_COST]);
    for _ in 0..MAX_FLIGHT_BYTES >> 19 {
        peers[1].take(frame.clone()).expect("there is room");
    }
    assert_eq!(protocol(peers[1].take(Bytes::from_static(&[kind::PARTS, 0]))), "a flight is too large");
}

#[test]
fn a_walk_ends_after_so_many_flights() {
    for (before, ends) in [(MAX_FLIGHTS - 1, false), (MAX_FLIGHTS, true)] {
        let mut peers = divergent();
        greeted(&mut peers);
        peers[0].session.course.round().expect("it has begun").flights = before;
        match peers[0].flight() {
            Ok(frames) => assert!(!ends && !frames.is_empty()),
            result => assert!(ends && protocol(result) == "the walk does not come to an end"),
        }
    }
}

#[test]
fn a_side_that_asks_nothing_more_says_what_it_has_come_to() {
    let (mine, theirs) = ([entry(1, 1)], [entry(2, 1)]);
    let mut peers = Peer::pair([&mine, &theirs]);
    greeted(&mut peers);
    peers[1].take(Bytes::from_static(&[kind::END, 0])).expect("a good frame");
    assert_eq!(protocol(peers[1].flight()), "a final is missing");
}

#[test]
fn a_walk_that_was_cut_short_is_an_obstacle_and_nothing_was_told_in_full() {
    let mut peers = Peer::pair([&[entry(1, 1)], &[entry(2, 1)]]);
    greeted(&mut peers);
    assert!(!peers[0].session.current_obstacles().truncated);
    peers[0].session.course.round().expect("it has begun").walk.truncated = true;
    peers[0].flight().expect("it answers");
    assert!(peers[0].session.current_obstacles().truncated);
}

#[test]
fn who_takes_no_facts_is_sent_none_and_both_sides_say_so() {
    for reader in [0, 1] {
        let mut peers = [Role::Initiator, Role::Responder].map(|role| {
            let is_reader = role as usize == reader;
            Peer::new(role, &[entry(role as usize, 1)], |config| config.takes_facts = !is_reader)
        });
        greeted(&mut peers);
        for peer in &peers {
            assert!(peer.session.current_obstacles().read_only);
        }
        let forged = [&[kind::FACTS][..], &entry(9, 1).to_record()].concat();
        let mut peers_of_forger = [Role::Initiator, Role::Responder].map(|role| {
            let is_reader = role as usize == reader;
            Peer::new(role, &[entry(role as usize, 1)], |config| config.takes_facts = !is_reader)
        });
        greeted(&mut peers_of_forger);
        if reader == 0 {
            peers_of_forger[0].session.turn = Turn::Receive(course::Flight::default());
        }
        let result = peers_of_forger[reader].take(forged.into());
        assert_eq!(protocol(result), "a fact came although this side takes none");
        run_on(&mut peers);
        let read_only = Obstacles { read_only: true, ..Obstacles::default() };
        for peer in &peers {
            assert_eq!(peer.session.outcome(), Some(Outcome::Unsettled(read_only)));
            assert_eq!(peer.session.agreed_root(), None, "they differ");
        }
        assert_eq!(peers[reader].session.tally().received.entry_facts, 0);
        assert_eq!(peers[1 - reader].session.tally().received.entry_facts, 1);
    }
}

#[test]
fn roots_are_told_of_whole_replicas_alone() {
    let roots = |session: &Session| (session.peer_root(), session.agreed_root());
    // Equal from the first, and after a round.
    for mut peers in [Peer::pair([&[entry(1, 1)], &[entry(1, 1)]]), divergent()] {
        assert_eq!(roots(&peers[0].session), (None, None));
        run_on(&mut peers);
        let root = Some(peers[0].view().root());
        assert_eq!(root, Some(peers[1].view().root()));
        for peer in &peers {
            assert_eq!(roots(&peer.session), (root, root));
            assert_eq!(peer.session.told_root(), None, "nothing is left to tell");
        }
    }
    let scope: PathPrefix = "/k".parse().expect("a prefix");
    let scoped = |takes_facts| {
        [Role::Initiator, Role::Responder].map(|role| {
            Peer::new(role, &[entry(role as usize, 1)], |config| {
                config.scope = scope.clone();
                config.takes_facts = takes_facts;
            })
        })
    };
    for takes_facts in [true, false] {
        let mut peers = scoped(takes_facts);
        run_on(&mut peers);
        for peer in &peers {
            assert_eq!(peer.session.outcome() == Some(Outcome::Equal), takes_facts);
            assert_eq!(roots(&peer.session), (None, None));
            assert_eq!(peer.session.told_root(), None);
        }
    }
}

#[test]
fn what_was_walked_is_told_unless_the_walk_was_cut_short() {
    let pair = || {
        [Role::Initiator, Role::Responder].map(|role| {
            Peer::new(role, &[entry(role as usize, 1)], |config| config.takes_facts = role == Role::Responder)
        })
    };
    let mut peers = pair();
    run_on(&mut peers);
    assert_eq!(peers[0].session.told_root(), Some(peers[0].view().root()));
    let mut peers = pair();
    greeted(&mut peers);
    peers[0].session.course.round().expect("it has begun").walk.truncated = true;
    run_on(&mut peers);
    assert_eq!(peers[0].session.told_root(), None);
}

#[test]
fn a_side_has_to_send_in_its_turn_and_when_all_has_its_verdict() {
    let mut peers = divergent();
    let has_to_send = |peers: &[Peer; 2]| [0, 1].map(|side: usize| peers[side].session.has_to_send());
    assert_eq!(has_to_send(&peers), [true, false]);
    for frame in peers[0].flight().expect("it begins") {
        assert!(!peers[1].session.has_to_send());
        peers[1].take(frame).expect("a good frame");
    }
    assert_eq!(has_to_send(&peers), [false, true]);
    let mut waited = 0;
    while !peers.iter().all(|peer| peer.session.is_finished()) {
        for from in [0, 1] {
            for frame in peers[from].flight().expect("it goes on") {
                peers[1 - from].take(frame).expect("a good frame");
                let session = &peers[1 - from].session;
                let is_settled = session.outstanding() == 0;
                waited += usize::from(!is_settled && matches!(session.turn, Turn::Settle { .. }));
                assert!(is_settled || !session.has_to_send(), "verdicts are missing");
            }
        }
    }
    assert!(waited > 0, "no flight ended with a fact that had no verdict yet");
    assert_eq!(has_to_send(&peers), [false, false]);
}

#[test]
fn a_newcomer_is_known_as_one_after_its_hello() {
    let named = Newcomer { others: Some(BTreeSet::from([[3; SHORT_REPLICA_ID_BYTES]])) };
    let mut peers = [
        Peer::new(Role::Initiator, &[], |config| config.newcomer = Some(named.clone())),
        Peer::new(Role::Responder, &[entry(1, 1)], |_| ()),
    ];
    assert_eq!(peers[1].session.peer_newcomer(), None);
    greeted(&mut peers);
    assert_eq!(peers[1].session.peer_newcomer(), Some(named));
    assert_eq!(peers[0].session.peer_newcomer(), None);
}

#[test]
fn a_bye_ends_the_session_and_what_is_read_of_its_code_is_bounded() {
    let long = "c".repeat(MAX_CODE_BYTES + 9);
    for (sent, code) in [
        ("shutdown", "shutdown"),
        (long.as_str(), &long[..MAX_CODE_BYTES]),
        // The text goes into logs: only what codes are made of.
        ("\u{1b}[2Jsession.protocol\n", "2Jsession.protocol"),
    ] {
        let mut peers = divergent();
        greeted(&mut peers);
        peers[1].flight().expect("it waits");
        let frame = [&[kind::BYE], sent.as_bytes()].concat();
        let told = peers[1].take(frame.into()).expect_err("it is over");
        assert!(matches!(&told, SessionError::Bye(told) if *told == code), "{told:?}");
        assert!(peers[1].session.is_finished() && peers[1].session.outcome().is_none());
    }
}

/// Both sides of a session count on these: docs/protocol.md has the same numbers.
#[test]
fn limits_are_those_of_the_protocol() {
    assert_eq!(MAX_FRAME_BYTES, 1_052_672);
    assert_eq!((MAX_FLIGHT_BYTES, MAX_ASKED_BYTES, MAX_WAITING_BYTES), (33_554_432, 67_108_864, 33_554_432));
    assert_eq!((JUDGE_BATCH_BYTES, MAX_JUDGED_BYTES, WRITE_AHEAD), (1_048_576, 8_388_608, 262_144));
    assert_eq!((MAX_REGION_BYTES, MAX_OTHERS), (1_089, 64));
}

/// A fact that was superseded since it was found is not sent, though its row may not be swept yet.
#[test]
fn a_fact_stands_as_long_as_it_is_part_of_the_state() {
    let [mut one, _] = Peer::pair([&[entry(1, 1), grant(1)], &[]]);
    let key = Key::parse("/k/001").expect("a key");
    let meta =
        one.view().frontier(&key).and_then(|frontier| frontier.newest()).expect("it stands").meta.clone();
    let (entry_leaf, grant_leaf) = (Leaf::Entry(key.clone(), meta), Leaf::Authority(grant(1).id()));
    assert!(entry_leaf.stands(one.view()) && grant_leaf.stands(one.view()));
    assert!(!Leaf::Authority(grant(2).id()).stands(one.view()));
    let draft = EntryDraft { key, value: None, timestamp: Timestamp::MAX, grant: None };
    let newer = EntryFact::sign(root().public().cluster(), draft, &root()).expect("mock signatures");
    assert_eq!(one.offer(Fact::Entry(newer)), Verdict::Merged);
    assert!(!entry_leaf.stands(one.view()));
}
