//! What a comparison cannot name in full is told as such.

use super::*;
use crate::replica::Replica;
use crate::session::crowd::{MAX_CROWD, leaf};
use crate::session::{Config, Outcome, Role};
use crate::{MemoryStorage, Storage};
use kvgossip_grants::{MockKey, PathPrefix, Signer};

/// A view of one key with an entry for each number. All are of one time, so that none supersedes another.
fn view(numbers: impl Iterator<Item = u64>) -> View {
    let mut view = Replica::new(MockKey::new(1).public().clone()).view().clone();
    let id = |number: u64| {
        let mut id = [7; 32];
        // Ids are compared by their salted beginnings, and listed in order.
        id[..8].copy_from_slice(&number.to_be_bytes());
        EntryId(id)
    };
    let key: Key = "/many".parse().expect("a key");
    view.entries.insert(key.as_bytes(), leaf(&key, numbers.map(id)));
    view
}

/// Runs a comparison to its end and gives what the initiator found.
fn compare(here: &View, there: &View) -> (Differences, Outcome) {
    let (found, outcome, _) = compare_counted(here, there);
    (found, outcome)
}

/// The same, and the bytes of the session.
fn compare_counted(here: &View, there: &View) -> (Differences, Outcome, u64) {
    let config = |role| Config {
        role,
        scope: PathPrefix::root(),
        nonce: [role as u8; 8],
        takes_facts: false,
        newcomer: None,
    };
    let mut one = Session::comparing(config(Role::Initiator), here);
    let mut other = Session::new(config(Role::Responder), there);
    let reader = MemoryStorage::new().reader();
    while !(one.is_finished() && other.is_finished()) {
        let mut moved = false;
        while let Some(frame) = one.poll_frame(here, reader.as_ref()).expect("a session") {
            other.handle_frame(frame, there).expect("a good frame");
            moved = true;
        }
        while let Some(frame) = other.poll_frame(there, reader.as_ref()).expect("a session") {
            one.handle_frame(frame, here).expect("a good frame");
            moved = true;
        }
        assert!(moved || one.is_finished(), "neither side speaks");
    }
    let tally = one.tally();
    let bytes = tally.sent.total() + tally.received.total();
    (one.differences().expect("it compared").clone(), one.outcome().expect("it ended"), bytes)
}

fn is_truncated(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Unsettled(obstacles) if obstacles.truncated)
}

fn numbers(named: &[Named]) -> Vec<u64> {
    let number = |named: &Named| match named {
        Named::Entry { id, .. } => id.0[..8].iter().fold(0, |number, byte| number << 8 | u64::from(*byte)),
        Named::Authority(_) => panic!("no authority differs"),
    };
    let mut numbers: Vec<u64> = named.iter().map(number).collect();
    numbers.sort_unstable();
    numbers
}

/// A key with many entries is walked like a tree of many keys: only what differs is named.
#[test]
fn what_differs_among_many_entries_of_a_key_is_named_and_nothing_else() {
    for count in [16, 17, 300, 5_000, MAX_CROWD as u64 - 1] {
        // Numbers that spread over all ids, and two that one side or the other lacks.
        let common = || (1..=count).map(|number: u64| number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let (one, other) = (view(common().chain([5])), view(common().chain([u64::MAX - 5])));
        let (found, outcome, bytes) = compare_counted(&one, &other);
        assert_eq!((numbers(&found.here), numbers(&found.there)), (vec![5], vec![u64::MAX - 5]), "{count}");
        assert!(!found.is_truncated && !is_truncated(outcome), "{outcome:?}");
        // Two hellos and finals, and a few parts on each of up to four levels, for two ways down.
        assert!(bytes < 1_500, "{count}: {bytes}");
        println!("{count}: {bytes} bytes");
    }
}

#[test]
fn more_than_one_side_may_name_is_cut_off_and_said_to_be() {
    let most = MAX_NAMED as u64;
    for (count, is_cut) in [(most, false), (most + 1, true)] {
        let (full, little) = (view(1..=count + 1), view(1..=1));
        let (found, outcome) = compare(&full, &little);
        assert_eq!((found.here.len(), found.there.len()), (MAX_NAMED, 0));
        assert_eq!((found.is_truncated, is_truncated(outcome)), (is_cut, is_cut), "{count}");
        // The same where the other side has too much to name.
        let (found, outcome) = compare(&little, &full);
        assert_eq!((found.here.len(), found.there.len()), (0, MAX_NAMED));
        assert_eq!(is_truncated(outcome), is_cut, "{count}: {outcome:?}");
    }
}

#[test]
fn names_are_read_as_they_are_written() {
    let (id, key) = (EntryId([9; 32]), "/a/b".parse::<Key>().expect("a key"));
    let entry = |is_delete| Named::Entry { id, key: key.clone(), timestamp: Timestamp::MAX, is_delete };
    let names = [Named::Authority(id.into()), entry(false), entry(true)];
    let mut bytes = Vec::new();
    names.iter().for_each(|name| name.put(&mut bytes));
    let mut input = Input::new(&bytes);
    for name in &names {
        assert_eq!(Named::get(&mut input).as_ref(), Ok(name));
    }
    assert!(input.is_empty());
    let mut unknown = Vec::new();
    entry(true).put(&mut unknown);
    unknown[0] = 3;
    assert_eq!(Named::get(&mut Input::new(&unknown)), Err(BadFrame));
}

#[test]
fn both_sides_compare_or_neither_does() {
    let view = view(0..1);
    for (asks, agrees) in [(true, true), (false, false), (true, false), (false, true)] {
        let config = |role| Config {
            role,
            scope: PathPrefix::root(),
            nonce: [0; 8],
            takes_facts: true,
            newcomer: None,
        };
        let mut one = match asks {
            true => Session::comparing(config(Role::Initiator), &view),
            false => Session::new(config(Role::Initiator), &view),
        };
        let mut hello = Hello::clone(one.our_hello.as_ref().expect("it begins"));
        hello.extensions = if agrees { vec![(COMPARE_EXTENSION, Vec::new())] } else { Vec::new() };
        let agreed = one.agree_to_compare(&hello);
        assert_eq!(agreed.is_ok(), asks == agrees, "{asks} {agrees}");
        let mut two = Session::new(config(Role::Responder), &view);
        two.agree_to_compare(&hello).expect("who answers does what is asked");
        assert_eq!(two.compares(), agrees);
    }
}
