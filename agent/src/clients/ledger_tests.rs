//! Tests: which connection is asked to close in favour of which.

use super::*;

const LIMITS: Limits =
    Limits { pools: [8, 100, 100, 100], reserve: 2, ending: 1, stall: Duration::from_millis(300) };

fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn from(number: u8) -> Source {
    Source::of(IpAddr::from([127, 0, 0, number]))
}

/// Returns a ledger with this many connections from each source, opened one millisecond apart.
fn crowd(sources: u8, each: u8) -> (Ledger, Vec<ClientId>) {
    let mut ledger = Ledger::new(LIMITS);
    let clients = (0..each).flat_map(|turn| (1..=sources).map(move |source| (turn, source)));
    let ids = clients.map(|(turn, source)| {
        let (id, in_reserve) = ledger.open(from(source), at(u64::from(turn)));
        assert!(!in_reserve);
        id
    });
    let ids = ids.collect();
    (ledger, ids)
}

#[test]
fn the_oldest_that_waits_gives_its_connection_to_a_new_one() {
    let (mut ledger, ids) = crowd(4, 2);
    ledger.turn(ids[0], Phase::Working, at(0));
    let (_, in_reserve) = ledger.open(from(9), at(10));
    assert!(!in_reserve);
    assert_eq!(ledger.take_felled(), [ids[1]], "the oldest works and stays");
    // The one asked to close is still there, so the next new one displaces another.
    assert!(!ledger.open(from(9), at(11)).1);
    assert_eq!(ledger.take_felled(), [ids[2]]);
    ids.iter().for_each(|id| ledger.close(*id));
    assert_eq!(ledger.held(Pool::Connections), 2);
}

/// All places are taken by watchers: a new connection from another source displaces one of theirs, not another new
/// one whose request is in transit.
#[test]
fn newcomers_do_not_give_way_to_each_other_while_others_have_many() {
    let (mut ledger, ids) = crowd(2, 4);
    ids.iter().for_each(|id| ledger.turn(*id, Phase::Streaming, at(0)));
    let newcomers: Vec<_> =
        (3..=6).map(|source| ledger.open(from(source), at(u64::from(source))).0).collect();
    let felled = ledger.take_felled();
    assert!(felled.len() == 4 && felled.iter().all(|id| ids.contains(id)), "{felled:?}");
    // Now no source has more than twice as many: the oldest of the new connections goes, while all of them are young.
    ledger.open(from(7), at(7));
    assert_eq!(ledger.take_felled(), [newcomers[0]]);
    // A connection that has sent nothing for long goes first.
    ledger.open(from(8), at(4) + YOUTH);
    assert_eq!(ledger.take_felled(), [newcomers[1]]);
}

/// A source that keeps opening connections and sends nothing gives way to others at once.
#[test]
fn a_source_that_has_many_is_not_young() {
    let (mut ledger, ids) = crowd(1, 5);
    for source in 2..=4 {
        let (id, _) = ledger.open(from(source), at(1));
        ledger.turn(id, Phase::Streaming, at(1));
    }
    ledger.open(from(9), at(6));
    assert_eq!(ledger.take_felled(), [ids[0]]);
}

#[test]
fn who_was_told_to_end_takes_a_place_until_it_has() {
    let (mut ledger, mut there) = crowd(4, 2);
    let mut newcomers = 0;
    let mut comes = |ledger: &mut Ledger, there: &mut Vec<ClientId>| {
        newcomers += 1;
        there.push(ledger.open(from(newcomers % 7), at(10 + u64::from(newcomers))).0);
    };
    // One connection asked to close may exist beyond all places, and one in the reserve.
    while there.len() < LIMITS.pools[0] + LIMITS.reserve + LIMITS.ending {
        assert!(!ledger.is_crowded(), "{}", there.len());
        comes(&mut ledger, &mut there);
    }
    let mut felled = ledger.take_felled();
    for _ in 0..50 {
        assert!(ledger.is_crowded(), "as many as there are places");
        let gone = felled.remove(0);
        ledger.close(gone);
        there.retain(|id| *id != gone);
        assert!(!ledger.is_crowded(), "one has ended");
        comes(&mut ledger, &mut there);
        felled.extend(ledger.take_felled());
    }
    // The next candidates are working and stay; others are chosen.
    there.iter().for_each(|id| ledger.turn(*id, Phase::Working, at(100)));
    comes(&mut ledger, &mut there);
    felled.extend(ledger.take_felled());
    assert!(ledger.is_crowded() && !felled.is_empty(), "there is always one that is about to end");
}

#[test]
fn one_source_has_three_quarters_and_then_its_own_give_way() {
    let (mut ledger, ids) = crowd(1, 6);
    assert!(!ledger.open(from(1), at(10)).1);
    assert_eq!(ledger.take_felled(), [ids[0]], "though two places are free");
    assert!(!ledger.open(from(2), at(10)).1 && !ledger.open(from(3), at(10)).1);
    assert!(ledger.take_felled().is_empty());
}

#[test]
fn watchers_of_a_heavy_source_give_way_to_a_light_one_and_to_none_of_their_own() {
    let (mut ledger, ids) = crowd(2, 4);
    ids.iter().for_each(|id| ledger.turn(*id, Phase::Streaming, at(*id)));
    assert!(ledger.open(from(1), at(20)).1, "its own stay: it stands in the reserve");
    let (newcomer, in_reserve) = ledger.open(from(3), at(20));
    assert!(!in_reserve);
    ledger.turn(newcomer, Phase::Streaming, at(20));
    let felled = ledger.take_felled();
    assert_eq!(felled, [ids[7]], "the youngest of them");
    ledger.close(felled[0]);
    // Now source 1 has four, source 2 three, source 3 one, and the reserve one of two.
    let (second, in_reserve) = ledger.open(from(3), at(21));
    assert!(in_reserve, "four are not more than twice two");
    let (third, in_reserve) = ledger.open(from(3), at(22));
    assert!(in_reserve);
    assert_eq!(ledger.take_felled().len(), 1, "in the reserve the oldest gives way");
    ledger.close(second);
    ledger.close(third);
    assert!(ledger.open(from(3), at(23)).1);
}

#[test]
fn the_slowest_body_of_the_heaviest_source_gives_way() {
    let (mut ledger, ids) = crowd(2, 2);
    for (id, amount) in ids.iter().zip([40, 20, 35, 5]) {
        assert_eq!(ledger.take(*id, Pool::Bodies, amount, at(0)), Room::Granted);
    }
    // The 75 that source 1 holds are its three quarters.
    assert_eq!(ledger.take(ids[2], Pool::Bodies, 1, at(5)), Room::Later);
    assert_eq!(ledger.take_felled(), [ids[0]], "its own slowest");
    assert_eq!(ledger.take(ids[3], Pool::Bodies, 10, at(5)), Room::Later, "what leaves suffices");
    assert!(ledger.take_felled().is_empty());
    ledger.close(ids[0]);
    assert_eq!(ledger.take(ids[3], Pool::Bodies, 10, at(6)), Room::Granted);
    assert_eq!(ledger.held(Pool::Bodies), 70);
    // The connection that would have to end is the asking one.
    assert_eq!(ledger.take(ids[1], Pool::Bodies, 90, at(7)), Room::Refused);
    assert!(ledger.take_felled().is_empty());
}

#[test]
fn a_body_that_is_complete_stays() {
    let (mut ledger, ids) = crowd(2, 1);
    assert_eq!(ledger.take(ids[0], Pool::Bodies, 75, at(0)), Room::Granted);
    ledger.turn(ids[0], Phase::Working, at(0));
    assert_eq!(ledger.take(ids[1], Pool::Bodies, 30, at(9)), Room::Refused);
    assert!(ledger.take_felled().is_empty());
}

#[test]
fn answers_that_nobody_reads_make_room_and_the_lightest_source_comes_first() {
    let (mut ledger, ids) = crowd(4, 2);
    assert_eq!(ledger.take(ids[0], Pool::Answers, 60, at(0)), Room::Granted);
    assert_eq!(ledger.take(ids[1], Pool::Answers, 40, at(0)), Room::Granted);
    assert_eq!(ledger.take(ids[5], Pool::Answers, 30, at(1)), Room::Later);
    assert_eq!(ledger.take(ids[2], Pool::Answers, 30, at(2)), Room::Later);
    assert_eq!(ledger.first_in_line(), Some(ids[2]), "its source holds nothing");
    assert!(!ledger.take_now(ids[3], 0), "others wait");
    ledger.stalled(ids[0], Some(at(100)));
    ledger.stalled(ids[1], Some(at(50)));
    assert_eq!(ledger.take(ids[2], Pool::Answers, 30, at(200)), Room::Later);
    assert!(ledger.take_felled().is_empty(), "they may still read");
    assert_eq!(ledger.take(ids[2], Pool::Answers, 30, at(500)), Room::Later);
    assert_eq!(ledger.take_felled(), [ids[0]], "the heavier one");
    ledger.close(ids[0]);
    assert_eq!(ledger.take(ids[5], Pool::Answers, 30, at(501)), Room::Later, "it is not its turn");
    assert_eq!(ledger.take(ids[2], Pool::Answers, 30, at(501)), Room::Granted);
    ledger.give_back(ids[2], Pool::Answers, 30);
    assert_eq!(ledger.first_in_line(), Some(ids[5]));
    ledger.give_up(ids[5]);
    assert!(ledger.take_now(ids[3], 30) && !ledger.take_now(ids[3], 70));
}

#[test]
fn one_that_needs_much_is_let_in_by_many_that_hold_little_and_do_not_read() {
    let (mut ledger, ids) = crowd(4, 1);
    for id in &ids[1..] {
        assert_eq!(ledger.take(*id, Pool::Answers, 30, at(0)), Room::Granted);
        ledger.stalled(*id, Some(at(0)));
    }
    assert_eq!(ledger.take(ids[0], Pool::Answers, 50, at(500)), Room::Later);
    assert_eq!(ledger.take_felled(), ids[1..3]);
    ids[1..3].iter().for_each(|id| ledger.close(*id));
    assert_eq!(ledger.take(ids[0], Pool::Answers, 50, at(500)), Room::Granted);
}

#[test]
fn everything_is_as_before_when_all_have_gone() {
    let (mut ledger, ids) = crowd(4, 2);
    for id in &ids {
        for pool in [Pool::Bodies, Pool::Answers, Pool::Interests] {
            let _ = ledger.take(*id, pool, 30, at(1));
        }
    }
    let late: Vec<_> = (0..9).map(|n| ledger.open(from(n), at(9)).0).collect();
    ids.iter().chain(&late).for_each(|id| ledger.close(*id));
    assert!(ledger.sources.is_empty() && ledger.clients.is_empty() && ledger.queue.is_empty());
    assert_eq!((ledger.in_reserve, ledger.all.held, ledger.all.leaving), (0, [0; POOLS], [0; POOLS]));
}

#[test]
fn addresses_of_one_network_are_one_source() {
    let parse = |text: &str| Source::of(text.parse().expect("an address"));
    assert_eq!(parse("2001:db8::1"), parse("2001:db8::ffff:1"));
    assert_ne!(parse("2001:db8::1"), parse("2001:db8:0:1::1"));
    assert_eq!(parse("::ffff:127.0.0.1"), parse("127.0.0.1"));
    assert_ne!(parse("127.0.0.1"), parse("127.0.0.2"));
}
