use crate::declined::Declined;
use kvgossip_grants::{EntryDraft, EntryFact, Fact, Key, MockKey, Signer, Timestamp};

fn key(text: &str) -> Key {
    Key::parse(text).expect("a key")
}

fn entry(text: &str, at: u64, value: Option<usize>) -> Fact {
    let root = MockKey::new(0);
    let value = value.map(|len| vec![7; len].into());
    let timestamp = Timestamp::ZERO.saturating_add(at);
    let draft = EntryDraft { key: key(text), value, timestamp, grant: None };
    Fact::Entry(EntryFact::sign(root.public().cluster(), draft, &root).expect("a signature"))
}

#[test]
fn a_key_is_early_while_an_entry_with_a_value_waits_or_is_under_way_or_has_no_place() {
    let due = |at| Timestamp::ZERO.saturating_add(at);
    let mut declined = Declined::new(MockKey::new(0).public().cluster());
    let (one, two) = (entry("/a", 1, Some(1)), entry("/a", 2, Some(1)));
    for (fact, at) in [(&one, 10), (&two, 20), (&entry("/deleted", 1, None), 10)] {
        declined.keep(fact, due(at));
    }
    // The largest entries find no place in the room, but their keys are listed.
    for number in 0..17 {
        declined.keep(&entry(&format!("/large/{number}"), 1, Some(1 << 20)), due(30));
    }
    assert!(declined.fallen() >= 1, "one has no place");
    let early = |declined: &Declined, text: &str| declined.early().of(&key(text), 9).len();
    assert_eq!((early(&declined, "/a"), early(&declined, "/deleted")), (2, 0));
    assert!((0..17).all(|number| early(&declined, &format!("/large/{number}")) == 1));
    assert_eq!(declined.early().keys().count(), 18);

    assert_eq!(declined.take_due(due(15)).len(), 2);
    assert_eq!(early(&declined, "/a"), 2, "it is not merged yet");
    assert_eq!(declined.settle_due().into_iter().collect::<Vec<_>>(), [key("/a")]);
    assert_eq!(early(&declined, "/a"), 1, "the other one still waits");
    while !declined.take_due(due(40)).is_empty() {
        declined.settle_due();
    }
    declined.forget_due(due(40));
    assert_eq!(declined.early().keys().count(), 0);
}

#[test]
fn a_key_whose_entry_was_forgotten_on_purpose_counts_as_unset() {
    let mut declined = Declined::new(MockKey::new(0).public().cluster());
    let due = Timestamp::ZERO.saturating_add(10);
    let forgotten = entry("/a", 1, Some(1));
    declined.keep_forgotten(&forgotten, due);
    assert!(declined.room().contains(&forgotten.id()) && declined.early().keys().next().is_none());
    assert_eq!(declined.take_due(due).len(), 1);
    assert!(declined.settle_due().is_empty());
}
