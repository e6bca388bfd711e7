use super::*;
use bytes::Bytes;
use kvgossip_grants::{EntryDraft, EntryFact, Key, MockKey, Signer};

fn time(us: u64) -> Timestamp {
    Timestamp::ZERO.saturating_add(us)
}

fn root() -> MockKey {
    MockKey::new(0)
}

fn room() -> WaitingRoom {
    WaitingRoom::new(root().public().cluster())
}

/// Makes an entry whose record has at least `len` bytes.
fn fact(number: u64, len: usize) -> Fact {
    let root = root();
    let draft = EntryDraft {
        key: Key::parse(&format!("/n/{number}")).expect("a key"),
        value: Some(vec![7; len].into()),
        timestamp: time(number),
        grant: None,
    };
    let cluster = root.public().cluster();
    Fact::Entry(EntryFact::sign(cluster, draft, &root).expect("a signature"))
}

#[test]
fn facts_come_out_when_they_are_due_and_once() {
    let mut room = room();
    let facts: Vec<Fact> = (0..5).map(|number| fact(number, 10)).collect();
    for (fact, due) in facts.iter().zip([50, 20, 40, 20, 30]) {
        assert!(room.keep(fact, time(due)).is_empty());
        assert!(room.keep(fact, time(due)).is_empty(), "it is here already");
    }
    assert_eq!((room.len(), room.next_due()), (5, Some(time(20))));
    assert!(room.take_due(time(19)).is_empty());
    let taken = room.take_due(time(30));
    assert_eq!(taken.len(), 3);
    for number in [1, 3, 4] {
        assert!(taken.contains(&facts[number]) && !room.contains(&facts[number].id()));
    }
    assert_eq!(taken[2], facts[4], "in the order of their times");
    assert!(room.take_due(time(30)).is_empty());
    assert_eq!((room.len(), room.next_due()), (2, Some(time(40))));
    assert_eq!(room.take_due(time(100)).len(), 2);
    assert_eq!((room.bytes(), room.next_due()), (0, None), "nothing is left of them");
}

#[test]
fn the_largest_falls_first() {
    let mut room = room();
    let (large, small) = (fact(0, 1 << 20), fact(1, 5_000));
    assert!(room.keep(&large, time(1)).is_empty());
    // With the overhead of each fact, 15 more fit, but not a further 5,000 bytes.
    for number in 2..17 {
        assert!(room.keep(&fact(number, (1 << 20) - 1_000), time(number)).is_empty());
    }
    assert!(room.bytes() <= MAX_ROOM_BYTES && room.len() == 16);
    assert_eq!(room.keep(&small, time(9)), [(large.id(), time(1))], "it takes the place of what is largest");
    assert!(room.contains(&small.id()) && !room.contains(&large.id()));
    assert_eq!(room.keep(&large, time(1)), [(large.id(), time(1))], "it is the largest still");
    let held: usize = room.facts.values().map(|waiting| waiting.record.len() + ROOM_COST_BYTES).sum();
    assert_eq!(room.bytes(), held);
}

#[test]
fn a_fact_that_waits_does_not_hold_the_frame_that_it_came_in() {
    let mut room = room();
    let fact = fact(0, 100);
    let record = fact.to_record();
    let mut frame = Bytes::from([record.as_ref(), &[0; 100_000]].concat());
    let weak = frame.clone();
    let received = Fact::take_record(room.cluster, &mut frame).expect("a fact");
    room.keep(&received, time(1));
    drop((received, frame));
    assert!(weak.is_unique(), "nobody else holds the frame");
}

#[test]
fn the_room_holds_so_many_facts() {
    let mut room = room();
    for number in 0..MAX_ROOM_FACTS as u64 {
        assert!(room.keep(&fact(number, 1), time(number)).is_empty());
    }
    assert!(room.bytes() < MAX_ROOM_BYTES);
    let fallen = room.keep(&fact(1 << 40, 100), time(1));
    assert_eq!(fallen, [(fact(1 << 40, 100).id(), time(1))]);
    assert_eq!(room.len(), MAX_ROOM_FACTS);
    let mut portions = 0;
    while !room.is_empty() {
        let portion = room.take_due(time(u64::from(u32::MAX))).len();
        assert!((1..=MAX_DUE_FACTS).contains(&portion));
        portions += 1;
    }
    assert_eq!(portions, MAX_ROOM_FACTS / MAX_DUE_FACTS);
    // One call is limited by bytes as well.
    for number in 0..10 {
        room.keep(&fact(number, 1 << 20), time(1));
    }
    assert_eq!(room.take_due(time(1)).len(), 2);
}
