use super::*;
use crate::waiting_room::MAX_ROOM_BYTES;
use kvgossip_grants::{EntryDraft, EntryFact, Key, MockKey, Signer};

fn time(us: u64) -> Timestamp {
    Timestamp::ZERO.saturating_add(us)
}

fn fact(number: u64, len: usize) -> Fact {
    let root = MockKey::new(0);
    let draft = EntryDraft {
        key: Key::parse(&format!("/n/{number}")).expect("a key"),
        value: Some(vec![7; len].into()),
        timestamp: time(number),
        grant: None,
    };
    let cluster = root.public().cluster();
    Fact::Entry(EntryFact::sign(cluster, draft, &root).expect("a signature"))
}

fn declined() -> Declined {
    Declined::new(MockKey::new(0).public().cluster())
}

fn id(number: u64) -> FactId {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&number.to_le_bytes());
    FactId(id)
}

#[test]
fn an_early_fact_is_declined_until_it_is_due_in_the_room_and_beyond() {
    let mut declined = declined();
    let facts: Vec<Fact> = (0..20).map(|number| fact(number, 1 << 20)).collect();
    for (number, fact) in (0..).zip(&facts) {
        declined.keep(fact, time(100 + number));
    }
    assert!(declined.room().bytes() <= MAX_ROOM_BYTES);
    assert_eq!((declined.room().len(), declined.fallen()), (15, 5));
    assert!(facts.iter().all(|fact| declined.reason(&fact.id()) == Some(Reason::NotYet)));
    assert_eq!(declined.list().len(), 20);
    assert_eq!(declined.next_due(), Some(time(100)));

    assert!(!declined.forget_due(time(99)));
    let mut taken = 0;
    while !declined.room().is_empty() {
        let portion = declined.take_due(time(119));
        assert_eq!(declined.list().len(), 20 - taken, "until they are merged they are not to be sent either");
        assert!(portion.iter().all(|fact| declined.reason(&fact.id()) == Some(Reason::NotYet)));
        declined.settle_due();
        taken += portion.len();
    }
    assert_eq!(taken, 15);
    assert_eq!(declined.list().len(), 5, "what fell is still to come");
    assert!(declined.forget_due(time(119)), "now it is to be sent again");
    assert!(declined.list().is_empty() && declined.next_due().is_none());
    assert!(!declined.forget_due(time(200)));
}

#[test]
fn only_what_the_body_condemns_is_remembered() {
    let mut declined = declined();
    for (number, code) in (0..).zip(Code::ALL) {
        declined.refused(id(number), *code, time(5));
        let expected = code.condemns_body().then_some(Reason::Refused);
        assert_eq!(declined.reason(&id(number)), expected, "{code}");
    }
    assert_eq!(declined.condemned(), 8);
    assert_eq!(declined.next_due(), None, "nothing is to be done for it");
    assert!(!declined.forget_due(time(4 + CONDEMNED_FOR_US)));
    assert_eq!(declined.condemned(), 8);
    assert!(!declined.forget_due(time(5 + CONDEMNED_FOR_US)), "nobody needs to send it again");
    assert_eq!(declined.condemned(), 0);
}

#[test]
fn what_was_remembered_first_is_forgotten_first_when_there_is_too_much() {
    let mut declined = declined();
    let limit = MAX_CONDEMNED_IDS as u64;
    // Later ids have earlier times: the order of dropping depends on neither id nor time.
    for number in 0..limit {
        declined.refused(id(u64::MAX - number), Code::OutOfReach, time(10_000 - number));
    }
    declined.refused(id(u64::MAX), Code::OutOfReach, time(20_000));
    declined.refused(id(1), Code::OutOfReach, time(1));
    assert_eq!(declined.condemned(), MAX_CONDEMNED_IDS);
    assert_eq!(declined.reason(&id(u64::MAX)), None, "the first, although it came once more");
    for kept in [id(1), id(u64::MAX - 1), id(u64::MAX - limit + 1)] {
        assert_eq!(declined.reason(&kept), Some(Reason::Refused));
    }
    // Removed ids leave nothing behind.
    for round in 1..10 {
        let now = time(round * 2 * CONDEMNED_FOR_US);
        declined.forget_due(now);
        assert_eq!(declined.condemned(), 0);
        for number in 0..limit {
            declined.refused(id(number), Code::NotRoot, now);
        }
    }
    assert_eq!(declined.condemned.by_age.len(), MAX_CONDEMNED_IDS);
    assert_eq!(declined.condemned.by_time.len(), MAX_CONDEMNED_IDS);
}
