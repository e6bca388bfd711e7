//! Tests of the state machine alone, with clocks that the test sets.

use super::*;

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
/// Time of a correct clock when the steady clock is at 0.
const EPOCH: i64 = 1_700_000_000 * SECOND;

fn time(us: i64) -> Timestamp {
    Timestamp::from_micros(u64::try_from(us).expect("after 1970")).expect("a time")
}

/// Returns this replica's clocks at the true time `at`, with the wall clock ahead by `ahead`.
fn now(at: i64, ahead: i64) -> Now {
    Now { wall: time(EPOCH + at + ahead), steady_us: u64::try_from(at).expect("not before the start") }
}

fn peer(number: u8) -> ReplicaId {
    ReplicaId([number; 32])
}

/// Returns the reading of a hello sent at the true time `sent` by a peer whose clock is ahead by `theirs_ahead`, over
/// the given round-trip time.
fn reading(sent: i64, theirs_ahead: i64, round_trip: i64, ours_ahead: i64) -> Reading {
    Reading {
        theirs: time(EPOCH + sent + theirs_ahead),
        came: now(sent + round_trip / 2, ours_ahead),
        round_trip_us: u64::try_from(round_trip).expect("a way"),
    }
}

fn clocks(theirs_ahead: &[i64], ours_ahead: i64) -> Clocks {
    let mut clocks = Clocks::default();
    for (number, ahead) in (1..).zip(theirs_ahead) {
        clocks.note(peer(number), reading(0, *ahead, 0, ours_ahead));
    }
    clocks
}

#[test]
fn half_the_round_trip_is_taken_off_and_is_what_the_offset_may_be_wrong_by() {
    let mut clocks = Clocks::default();
    clocks.note(peer(1), reading(5, 10 * MINUTE, 400_000, 0));
    let offset = Offset { us: 10 * MINUTE, error_us: 200_000 };
    assert_eq!(clocks.offset(&peer(1), now(SECOND, 0)), Some(offset));
    assert_eq!(clocks.offset(&peer(2), now(SECOND, 0)), None);
    let slow = reading(5, 0, signed(MAX_ROUND_TRIP_US) + 2, 0);
    clocks.note(peer(2), slow);
    assert_eq!(clocks.offset(&peer(2), now(20 * SECOND, 0)), None, "that says too little");
    // The hello of a peer with a correct clock may have taken the whole round-trip time.
    let late = Reading { came: now(9 * SECOND, 0), ..reading(0, -25 * SECOND, 9 * SECOND, 0) };
    clocks.note(peer(3), late);
    assert_eq!(clocks.standing(now(9 * SECOND, 0)).differing(), Some((peer(1), 10 * MINUTE - 200_000)));
    let only = |clocks: &mut Clocks| {
        clocks.peers.remove(&peer(1));
        clocks.standing(now(9 * SECOND, 0)).differing()
    };
    assert_eq!(only(&mut clocks), None, "34 s, of which 4.5 are uncertain");
}

#[test]
fn a_clock_that_is_set_shows_at_once_and_old_readings_say_nothing() {
    let clocks = clocks(&[0, 0, 0], 0);
    assert_eq!(clocks.standing(now(SECOND, 0)).median_us, Some(0));
    let set = clocks.standing(now(SECOND, 10 * MINUTE));
    assert_eq!(set.median_us, Some(-10 * MINUTE), "theirs are behind");
    assert!(set.is_contradicted());
    assert!(!clocks.standing(now(2 * SECOND, 0)).is_contradicted());
    let age = signed(MAX_AGE_US);
    assert_eq!(clocks.standing(now(age, 10 * MINUTE)).peers, 3);
    assert_eq!(clocks.standing(now(age + 1, 10 * MINUTE)), Standing::default(), "unknown, not well");
}

#[test]
fn most_of_three_or_more_peers_contradict_and_fewer_or_a_liar_do_not() {
    let contradicted = |theirs: &[i64]| clocks(theirs, 0).standing(now(SECOND, 0)).is_contradicted();
    let (far, lie) = (3 * MINUTE, 1_000_000 * MINUTE);
    assert!(contradicted(&[far, far, far]) && contradicted(&[-far, -far, -far]));
    assert!(contradicted(&[far, far, 0]) && contradicted(&[far, far + SECOND, lie]));
    assert!(!contradicted(&[lie, 0, SECOND]) && !contradicted(&[-lie, 0, 0]), "a liar");
    assert!(!contradicted(&[far]) && !contradicted(&[far, far]), "too few");
    assert!(!contradicted(&[lie, lie, 0, 0]) && !contradicted(&[lie, -lie, far, 0]), "as many are right");
    assert!(contradicted(&[lie, far, far, 0]));
    assert!(!contradicted(&[lie, 119 * SECOND, far, 0]), "of two in the middle the one that says less");
    assert!(!contradicted(&[2 * MINUTE; 3]) && contradicted(&[2 * MINUTE + 1; 3]));
    assert_eq!(clocks(&[far, far], 0).standing(now(0, 0)).own_fault_us(), None, "which of two is wrong?");
    assert_eq!(clocks(&[31 * SECOND; 3], 0).standing(now(0, 0)).own_fault_us(), Some(31 * SECOND));
    assert_eq!(clocks(&[30 * SECOND; 3], 0).standing(now(0, 0)).own_fault_us(), None);
}

#[test]
fn the_log_is_told_of_a_peer_and_of_the_own_clock_once_in_a_while() {
    let mut clocks = Clocks::default();
    let mut tells = |number, sent, theirs, ours| clocks.note(peer(number), reading(sent, theirs, 0, ours));
    assert!(!tells(1, 0, 30 * SECOND, 0), "near enough");
    assert!(tells(1, SECOND, MINUTE, 0));
    assert!(!tells(1, 2 * SECOND, MINUTE, 0));
    assert!(tells(2, 2 * SECOND, MINUTE, 0), "another peer");
    assert!(tells(3, 3 * SECOND, MINUTE, 0), "now it is this replica's own clock");
    assert!(!tells(4, 4 * SECOND, MINUTE, 0) && !tells(5, 4 * SECOND, MINUTE, 0), "told already");
    let later = 3 * SECOND + signed(TOLD_EVERY_US);
    assert!(!tells(1, later - 1, MINUTE, 0));
    assert!(tells(1, later, MINUTE, 0));
}

#[test]
fn as_many_peers_are_remembered_as_the_limit_says() {
    let mut clocks = Clocks::default();
    let name = |number: u16| {
        let mut peer = [0; 32];
        peer[..2].copy_from_slice(&number.to_be_bytes());
        ReplicaId(peer)
    };
    for number in 0..=MAX_PEERS as u16 {
        // Peers with higher numbers were met earlier.
        let sent = signed(MAX_AGE_US) / 2 - i64::from(number);
        clocks.note(name(number), reading(sent, 0, 0, 0));
    }
    let here = now(signed(MAX_AGE_US) / 2, 0);
    assert_eq!(clocks.standing(here).peers, MAX_PEERS);
    assert_eq!(
        clocks.offset(&name(MAX_PEERS as u16 - 1), here),
        None,
        "measured longest ago, but for the new one"
    );
    assert!(clocks.offset(&name(MAX_PEERS as u16), here).is_some());
}

#[test]
fn a_peer_that_is_gone_counts_for_a_minute_where_people_are_told_and_longer_where_is_signed() {
    let mut clocks = clocks(&[10 * MINUTE, 0], 0);
    let all = BTreeSet::from([peer(1), peer(2)]);
    // Sessions are rare, so a connected peer counts although its measurement is old.
    let standing = clocks.standing_of_present(&all, now(10 * MINUTE, 0));
    assert_eq!((standing.peers, standing.differing()), (2, Some((peer(1), 10 * MINUTE))));
    let left = BTreeSet::from([peer(2)]);
    let differing = |clocks: &mut Clocks, at| clocks.standing_of_present(&left, now(at, 0)).differing();
    assert!(differing(&mut clocks, 11 * MINUTE).is_some());
    assert_eq!(differing(&mut clocks, 11 * MINUTE + SECOND), None);
    assert!(clocks.standing(now(11 * MINUTE + SECOND, 0)).differing().is_some());
    assert!(clocks.offset(&peer(1), now(11 * MINUTE + SECOND, 0)).is_some());
}
