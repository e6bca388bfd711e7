//! What a comparison cannot name in full is told as such.

use super::*;
use crate::frontier::{EntryMeta, Frontier};
use crate::replica::Replica;
use crate::session::{Config, MAX_LIST_IDS, Outcome, Role};
use crate::{MemoryStorage, Storage};
use kvgossip_grants::{MockKey, PathPrefix, Signer};
use std::ops::Range;

/// A view of one key with an entry for each number. All are of one time, so that none supersedes another.
fn view(numbers: impl Iterator<Item = u64>) -> View {
    let mut view = Replica::new(MockKey::new(1).public().clone()).view().clone();
    let meta = |number: u64| {
        let mut id = [7; 32];
        // Ids are compared by their salted beginnings, and listed in order.
        id[..8].copy_from_slice(&number.to_be_bytes());
        EntryMeta { id: FactId(id), timestamp: Timestamp::MAX, grant: None, is_delete: false }
    };
    let key: Key = "/many".parse().expect("a key");
    let frontier = Frontier::new(&key, numbers.map(meta).collect()).expect("some entries");
    view.entries.insert(key.as_bytes(), frontier);
    view
}

/// Runs a comparison to its end and gives what the initiator found.
fn compare(here: &View, there: &View) -> (Differences, Outcome) {
    let config =
        |role| Config { role, scope: PathPrefix::root(), nonce: [role as u8; 8], takes_facts: false };
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
    (one.differences().expect("it compared").clone(), one.outcome().expect("it ended"))
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

/// A list has 100,000 ids at most. What lies behind is not compared in that direction, and never taken for equal.
#[test]
fn a_key_with_more_entries_than_a_list_may_have_is_never_called_equal() {
    let most = MAX_LIST_IDS as u64;
    let with = |range: Range<u64>, more: Option<u64>| view(range.chain(more));
    // As many as a list may have: complete.
    let (found, outcome) = compare(&with(1..most, Some(most + 5)), &with(1..most, Some(most + 6)));
    assert_eq!((numbers(&found.here), numbers(&found.there)), (vec![most + 5], vec![most + 6]));
    assert!(!found.is_truncated && !is_truncated(outcome), "{outcome:?}");
    // One more, behind all others: whether it is named depends on who lists, and the answer says that it may be missing.
    for more in [most + 5, most + 50] {
        let (one, other) = (with(1..most + 1, Some(most + 5)), with(1..most + 1, Some(most + 50)));
        let (here, there) = if more == most + 5 { (&one, &other) } else { (&other, &one) };
        let (_, outcome) = compare(here, there);
        assert!(is_truncated(outcome), "{outcome:?}");
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
