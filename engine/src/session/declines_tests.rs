use super::*;
use crate::memory::MemoryStorage;
use crate::session::{Config, Role};
use crate::storage::Storage;
use kvgossip_grants::{MockKey, PathPrefix, Signer};

/// Both sides of a session that have heard each other's hello.
fn greeted(nonce: u8) -> [Session; 2] {
    let view = View::new(MockKey::new(0).public().clone());
    let reader = MemoryStorage::new().reader();
    let config =
        |role, nonce| Config { role, scope: PathPrefix::root(), nonce, takes_facts: true, newcomer: None };
    let mut sides = [(Role::Initiator, [nonce; 8]), (Role::Responder, [9; 8])]
        .map(|(role, nonce)| Session::new(config(role, nonce), &view));
    for from in [0, 1] {
        // The turn is over once there is nothing more to send.
        while let Some(hello) = sides[from].poll_frame(&view, reader.as_ref()).expect("it goes on") {
            sides[1 - from].handle_frame(hello, &view).expect("a good hello");
        }
    }
    sides
}

#[test]
fn a_hash_that_happens_to_be_another_facts_means_nothing_in_the_next_session() {
    let ids: Vec<FactId> = (0..100).map(|number| FactId([number; 32])).collect();
    let declined: Vec<_> = ids.iter().map(|id| (*id, Reason::NotYet)).collect();
    let mut frames = Vec::new();
    for nonce in [1, 2] {
        let [mut one, _] = greeted(nonce);
        one.decline(declined.clone());
        frames.push(one.declines_frame().expect("something is declined"));
        assert!(one.declines_frame().is_none(), "it is told once");
    }
    for (nonce, frame, common) in [(1, &frames[0], 100), (1, &frames[1], 0), (2, &frames[1], 100)] {
        let [_, mut two] = greeted(nonce);
        two.handle_declines(&frame[1..]).expect("a good frame");
        let (salt, theirs) = two.declines.theirs.as_ref().expect("it was told");
        assert_eq!(ids.iter().filter(|id| theirs.contains_key(&salt.short(&id.0))).count(), common);
        assert!(two.handle_declines(&frame[1..]).is_err(), "and may be told once");
    }
}

#[test]
fn a_side_that_takes_nothing_declines_nothing() {
    let [mut one, _] = greeted(1);
    one.decline(vec![(FactId([1; 32]), Reason::Refused)]);
    one.config.takes_facts = false;
    assert!(one.declines_frame().is_none());
    let [mut one, _] = greeted(1);
    one.decline(vec![]);
    assert!(one.declines_frame().is_none());
}

#[test]
fn declined_ids_are_read_as_they_are_written_and_no_more_than_may_be() {
    let words = |shorts: &[u32]| -> Vec<u8> { shorts.iter().flat_map(|short| short.to_le_bytes()).collect() };
    let read_of = |not_yet: u8, shorts: &[u32]| read(&[&[not_yet][..], &words(shorts)].concat());
    let expected = BTreeMap::from([(7, Reason::NotYet), (9, Reason::Refused), (u32::MAX, Reason::Refused)]);
    assert_eq!(read_of(1, &[7, 9, u32::MAX]), Ok(expected));
    assert_eq!(read_of(0, &[]), Ok(BTreeMap::new()));
    assert_eq!(read_of(2, &[7]), Err(BadFrame), "fewer than the count says");
    assert_eq!(read(&[]), Err(BadFrame));
    assert_eq!(read(&[0, 1, 2, 3]), Err(BadFrame), "part of a hash");
    let most: Vec<u32> = (0..MAX_DECLINES as u32).collect();
    assert_eq!(read(&[&[0][..], &words(&most)].concat()).map(|all| all.len()), Ok(MAX_DECLINES));
    assert_eq!(read(&[&[0][..], &words(&most), &[0; 4]].concat()), Err(BadFrame));
    let mut above = Vec::new();
    put_varint(&mut above, MAX_DECLINES as u64 + 1);
    assert_eq!(read(&[above, words(&most), vec![0; 4]].concat()), Err(BadFrame));
}
