use super::*;

const SECOND: u64 = 1_000_000;

fn id(number: u8) -> ReplicaId {
    ReplicaId([number; 32])
}

fn time(us: u64) -> Timestamp {
    Timestamp::ZERO.saturating_add(us)
}

fn start(remembered: Option<Remembered>, has_others: bool) -> Start {
    let ready_after = DEFAULT_READY_AFTER;
    Start {
        remembered,
        told_of_others: has_others,
        met_members: false,
        alone_is_fine: false,
        ready_after,
        now_us: 5 * SECOND,
    }
}

fn nobody() -> Option<BTreeSet<ShortReplicaId>> {
    None
}

fn named(numbers: &[u8]) -> BTreeSet<ShortReplicaId> {
    numbers.iter().map(|number| short(&id(*number))).collect()
}

/// Returns a newcomer that knows of these replicas and no others.
fn told_of(numbers: &[u8]) -> Option<Newcomer> {
    Some(Newcomer { others: Some(named(numbers)) })
}

const NOTHING: Remembered = Remembered { compared: false, began_first: false, last_equal: None };
const COMPARED: Option<Remembered> = Some(Remembered { compared: true, ..NOTHING });
const MET_NOBODY: Option<Remembered> = Some(NOTHING);

#[test]
fn a_first_replica_is_ready_at_once_and_one_that_was_told_of_others_when_it_was_compared() {
    assert_eq!(Readiness::new(start(None, false)).gap(5 * SECOND), None);
    let mut fresh = Readiness::new(start(None, true));
    assert_eq!(fresh.gap(u64::MAX), Some(Gap::First), "time alone teaches nothing");
    fresh.session_ended(id(1), None, Brought::Part, nobody);
    assert_eq!(fresh.gap(u64::MAX), Some(Gap::First), "a session that broke brought a part");
    fresh.session_ended(id(1), None, Brought::All, nobody);
    assert_eq!(fresh.gap(5 * SECOND), None);
    assert_eq!(fresh.take_unsaved(false), Some(Remembered { compared: true, ..Remembered::default() }));
}

#[test]
fn a_first_comparison_that_left_entries_waiting_for_the_clock_does_not_count() {
    let mut fresh = Readiness::new(start(None, true));
    fresh.session_ended(id(1), None, Brought::AllDue, nobody);
    fresh.session_ended(id(2), told_of(&[]), Brought::AllDue, || Some(named(&[2])));
    assert_eq!(fresh.gap(u64::MAX), Some(Gap::First), "what waits is missing");
    assert_eq!(fresh.take_unsaved(true), MET_NOBODY, "nor after a restart");
    fresh.session_ended(id(1), None, Brought::All, nobody);
    assert_eq!(fresh.gap(u64::MAX), None);
    // A replica compared before serves what it has; keys with early entries are not reported as absent.
    let mut back = Readiness::new(start(COMPARED, true));
    back.session_ended(id(1), None, Brought::AllDue, nobody);
    assert_eq!(back.gap(5 * SECOND), None);
}

#[test]
fn somebody_may_say_that_it_needs_no_comparison() {
    let alone = Start { alone_is_fine: true, ..start(MET_NOBODY, true) };
    assert_eq!(Readiness::new(alone).gap(0), None);
}

#[test]
fn who_was_told_of_others_once_and_met_none_is_not_ready_without_them_either() {
    let mut first = Readiness::new(start(None, true));
    let remembered = first.take_unsaved(false);
    assert_eq!(remembered, MET_NOBODY);
    assert_eq!(Readiness::new(start(remembered, false)).gap(u64::MAX), Some(Gap::First));
}

#[test]
fn who_began_as_the_first_of_its_cluster_stays_it_whoever_joins_its_gossip() {
    let mut first = Readiness::new(start(None, false));
    let remembered = first.take_unsaved(false);
    assert_eq!(remembered, Some(Remembered { began_first: true, ..Remembered::default() }));
    assert_eq!(first.take_unsaved(true), None, "once");
    // A member that is not a replica of this cluster joined meanwhile.
    let joined = Start { met_members: true, ..start(remembered, false) };
    assert_eq!(Readiness::new(joined).gap(5 * SECOND), None);
    // The configuration now names others: this replica may lack what they hold.
    let mut told = Readiness::new(start(remembered, true));
    assert_eq!(told.gap(u64::MAX), Some(Gap::First));
    assert_eq!(told.take_unsaved(true), None, "it remains the first, for a start without them");
    told.session_ended(id(1), None, Brought::All, nobody);
    let compared = told.take_unsaved(false);
    assert_eq!(compared, Some(Remembered { compared: true, began_first: true, last_equal: None }));
    let back = Readiness::new(start(compared, true));
    assert_eq!(back.gap(5 * SECOND), Some(Gap::Stale { is_over: false }));
    // A replica without remembered state that met members before is a newcomer, with or without a state file.
    assert_eq!(
        Readiness::new(Start { met_members: true, ..start(None, false) }).gap(u64::MAX),
        Some(Gap::First)
    );
    assert_eq!(
        Readiness::new(Start { met_members: true, ..start(MET_NOBODY, false) }).gap(u64::MAX),
        Some(Gap::First)
    );
}

#[test]
fn the_last_survivor_serves_after_a_while() {
    let mut back = Readiness::new(start(COMPARED, true));
    assert_eq!(back.gap(14 * SECOND), Some(Gap::Stale { is_over: false }));
    assert_eq!(back.gap(15 * SECOND), Some(Gap::Stale { is_over: true }));
    // Any later comparison counts, even one with a newcomer.
    back.session_ended(id(1), told_of(&[]), Brought::All, nobody);
    assert_eq!(back.gap(14 * SECOND), None);
    assert_eq!(Readiness::new(start(COMPARED, false)).gap(0), None, "it was told of nobody");
}

#[test]
fn newcomers_teach_nothing_unless_there_is_nobody_else() {
    let mut fresh = Readiness::new(start(None, true));
    let all = || Some(named(&[1, 2]));
    fresh.session_ended(id(1), told_of(&[2]), Brought::All, all);
    assert_eq!(fresh.gap(u64::MAX), Some(Gap::First), "the other one may know more");
    fresh.session_ended(id(2), told_of(&[1]), Brought::All, nobody);
    assert_eq!(fresh.gap(u64::MAX), Some(Gap::First), "not all are known");
    fresh.session_ended(id(2), told_of(&[1]), Brought::All, all);
    assert_eq!(fresh.gap(u64::MAX), None, "all begin together");
    let mut fresh = Readiness::new(start(None, true));
    fresh.session_ended(id(1), told_of(&[2]), Brought::All, all);
    fresh.session_ended(id(2), None, Brought::All, all);
    assert_eq!(fresh.gap(u64::MAX), None);
}

#[test]
fn newcomers_that_were_told_of_somebody_unmet_teach_nothing() {
    let one = || Some(named(&[1]));
    let mut fresh = Readiness::new(start(None, true));
    fresh.session_ended(id(1), Some(Newcomer { others: None }), Brought::All, one);
    assert_eq!(fresh.gap(u64::MAX), Some(Gap::First), "that one does not know all others");
    fresh.session_ended(id(1), told_of(&[2]), Brought::All, one);
    assert_eq!(fresh.gap(u64::MAX), Some(Gap::First), "that one was told of another one");
    fresh.session_ended(id(2), told_of(&[1, 3]), Brought::All, one);
    assert_eq!(fresh.gap(u64::MAX), Some(Gap::First), "and that one of a third");
    fresh.session_ended(id(3), told_of(&[]), Brought::All, one);
    assert_eq!(fresh.gap(u64::MAX), None);
}

#[test]
fn the_time_of_the_last_equality_never_goes_back_and_is_written_now_and_then() {
    let mut met = Readiness::new(start(COMPARED, false));
    assert_eq!(met.take_unsaved(true), None, "there is nothing new to remember");
    let now = time(1_000 * SECOND);
    met.note_equal(time(100 * SECOND), now);
    met.note_equal(time(7), now);
    assert_eq!(met.last_equal(now), Some(LastEqual { at: time(100 * SECOND), is_unsure: false }));
    assert!(met.take_unsaved(false).is_some());
    met.note_equal(time(101 * SECOND), now);
    assert_eq!((met.take_unsaved(false), met.take_unsaved(true).is_some()), (None, true));
    met.note_equal(time(161 * SECOND), now);
    assert!(met.take_unsaved(false).is_some());
    assert_eq!(met.take_unsaved(true), None);
}

#[test]
fn after_a_clock_was_set_back_the_last_equality_is_not_in_the_future() {
    let last_equal = Some(time(1_000 * SECOND));
    let remembered = Remembered { compared: true, last_equal, ..Remembered::default() };
    let mut back = Readiness::new(start(Some(remembered), true));
    let unsure = Some(LastEqual { at: time(400 * SECOND), is_unsure: true });
    assert_eq!(back.last_equal(time(400 * SECOND)), unsure);
    assert_eq!(back.last_equal(time(700 * SECOND)), unsure, "it grows old from then on");
    assert_eq!(back.take_unsaved(false).and_then(|now| now.last_equal), Some(time(400 * SECOND)));
    back.note_equal(time(710 * SECOND), time(710 * SECOND));
    let sure = LastEqual { at: time(710 * SECOND), is_unsure: false };
    assert_eq!(back.last_equal(time(710 * SECOND)), Some(sure));
    // The clock is set back while the agent runs.
    back.note_equal(time(300 * SECOND), time(300 * SECOND));
    assert_eq!(
        back.last_equal(time(300 * SECOND)),
        Some(LastEqual { at: time(300 * SECOND), is_unsure: false })
    );
}

#[test]
fn whom_newcomers_were_told_of_and_nobody_has_met_is_known() {
    let mut fresh = Readiness::new(start(None, true));
    fresh.session_ended(id(1), told_of(&[2, 3]), Brought::All, || Some(named(&[1])));
    fresh.session_ended(id(2), told_of(&[1]), Brought::All, || Some(named(&[1])));
    assert_eq!(fresh.told_of(), named(&[3]));
    assert!(fresh.knows_newcomer(&id(2)) && !fresh.knows_newcomer(&id(3)));
}
