use super::super::pair::{Peer, divergent, entry, grant, greeted, root};
use super::super::{Turn, course::Flight};
use super::*;
use crate::memory::MemoryStorage;
use crate::storage::Storage as _;
use kvgossip_grants::{EntryDraft, EntryFact, GrantId, Key, Signer as _};

const ROOMY: DriverLimits = DriverLimits {
    batch_facts: 4,
    batch_bytes: 10_000,
    judged_facts: 1_000,
    judged_bytes: 1_000_000,
    write_ahead: 1_000_000,
};

/// A driver whose peer may send.
fn reading(limits: DriverLimits) -> Driver {
    let mut peers = divergent();
    greeted(&mut peers);
    peers[0].flight().expect("it answers");
    let [Peer { session, .. }, _] = peers;
    assert!(session.is_waiting_for_peer());
    Driver::with_limits(session, limits)
}

fn push(driver: &mut Driver, facts: impl IntoIterator<Item = Fact>) {
    facts.into_iter().for_each(|fact| driver.session.intake.push(fact));
}

/// The facts of the next job, or what is waited for.
fn next(driver: &mut Driver) -> Result<(JobId, usize), Wait> {
    match driver.poll(0).expect("it goes on") {
        Action::Judge { job, facts } => Ok((job, facts.len())),
        Action::Wait(wait) => Err(wait),
        other => panic!("{other:?}"),
    }
}

fn job(driver: &mut Driver, facts: usize) -> JobId {
    let (job, count) = next(driver).expect("a batch is due");
    assert_eq!(count, facts);
    job
}

#[test]
fn a_batch_waits_for_company_while_the_host_has_others() {
    let mut driver = reading(ROOMY);
    push(&mut driver, [entry(0, 1)]);
    let first = job(&mut driver, 1);
    push(&mut driver, [entry(1, 1), entry(2, 1)]);
    let wait = Wait { for_peer: true, for_jobs: true, for_flush: false };
    assert_eq!(next(&mut driver), Err(wait), "more may join");
    push(&mut driver, [entry(3, 1), entry(4, 1), entry(5, 1)]);
    job(&mut driver, 4);
    assert_eq!(next(&mut driver), Err(wait), "the fifth waits");
    driver.handle_judged(first, vec![Verdict::Merged]).expect("it was asked");
    assert_eq!(next(&mut driver), Err(wait), "one job is still with the host");
    // The flight is read: nobody joins any more.
    driver.session.turn = Turn::Settle { flight: Flight::default(), open: false };
    job(&mut driver, 1);
    assert_eq!(next(&mut driver), Err(Wait { for_peer: false, ..wait }));
}

#[test]
fn a_batch_is_full_by_the_bytes_of_its_facts_together() {
    let mut driver = reading(ROOMY);
    push(&mut driver, [entry(0, 1)]);
    job(&mut driver, 1);
    push(&mut driver, [entry(1, 4_500)]);
    assert!(next(&mut driver).is_err());
    push(&mut driver, [entry(2, 4_500)]);
    assert!(next(&mut driver).is_err(), "a little is missing");
    push(&mut driver, [entry(3, 4_500), entry(4, 9)]);
    job(&mut driver, 3);
    // Exactly as many as there may be.
    let one = entry(5, 1).payload_len();
    push(&mut driver, [entry(5, ROOMY.batch_bytes + 1 - one - entry(4, 9).payload_len())]);
    job(&mut driver, 2);
}

#[test]
fn what_stands_on_a_grant_that_the_host_has_waits_for_it_and_holds_up_what_follows() {
    let mut driver = reading(ROOMY);
    driver.session.turn = Turn::Settle { flight: Flight::default(), open: false };
    let citing = EntryDraft {
        key: Key::parse("/a").expect("a key"),
        value: None,
        timestamp: Timestamp::ZERO,
        grant: Some(GrantId(grant(1).id().0)),
    };
    let citing = EntryFact::sign(root().public().cluster(), citing, &root()).expect("mock signatures");
    push(&mut driver, [grant(1)]);
    let first = job(&mut driver, 1);
    push(&mut driver, [entry(0, 1), Fact::Entry(citing), entry(1, 1)]);
    assert!(next(&mut driver).is_err(), "it would be judged in vain");
    driver.handle_judged(first, vec![Verdict::Merged]).expect("it was asked");
    job(&mut driver, 3);
}

#[test]
fn nothing_is_read_while_as_much_waits_as_may() {
    let limits = DriverLimits { judged_facts: 3, ..ROOMY };
    let mut driver = reading(limits);
    for waiting in 0..5 {
        assert_eq!(driver.may_read(), waiting < 3, "{waiting} wait");
        push(&mut driver, [entry(waiting, 1)]);
    }
    let each = entry(0, 1).payload_len();
    let mut driver = reading(DriverLimits { judged_bytes: 3 * each, ..ROOMY });
    for waiting in 0..5 {
        assert_eq!(driver.may_read(), waiting < 3, "{waiting} wait");
        push(&mut driver, [entry(waiting, 1)]);
    }
    let mut driver = reading(ROOMY);
    assert!(driver.may_read());
    driver.session.turn = Turn::Settle { flight: Flight::default(), open: true };
    assert!(!driver.may_read(), "it is not the peer's turn");
}

#[test]
fn frames_are_made_as_far_ahead_as_the_socket_may_lag() {
    let facts: Vec<Fact> = (0..40).map(|number| entry(number, 9_000)).collect();
    // All at once, and as much as there is room for.
    let frames = |write_ahead: usize| {
        let mut peers = Peer::pair([&facts, &[]]);
        greeted(&mut peers);
        let [one, _] = peers;
        let (reader, view) = (one.reader(), one.view().clone());
        let mut driver = Driver::with_limits(one.session, DriverLimits { write_ahead, ..ROOMY });
        assert!(driver.fill(&view, reader.as_ref(), write_ahead).expect("no room").is_empty());
        assert!(matches!(driver.poll(write_ahead), Ok(Action::Wait(Wait { for_flush: true, .. }))));
        assert!(matches!(driver.poll(write_ahead - 1), Ok(Action::Fill)));
        driver.fill(&view, reader.as_ref(), 0).expect("it answers")
    };
    let all = frames(1_000_000);
    assert!(all.len() > 20, "{}", all.len());
    for write_ahead in [1, 50_000] {
        let some = frames(write_ahead);
        let queued: usize = some.iter().map(Bytes::len).sum();
        let before_last = queued - some.last().expect("there is room for one").len();
        assert!(before_last < write_ahead && queued >= write_ahead, "{before_last} {queued}");
        assert_eq!(some, all[..some.len()]);
    }
}

#[test]
fn a_driver_waits_for_what_can_happen_and_for_nothing_else() {
    let mut driver = reading(ROOMY);
    let wait = Wait { for_peer: true, for_jobs: false, for_flush: false };
    assert_eq!(next(&mut driver), Err(wait));
    assert!(matches!(driver.poll(1), Ok(Action::Wait(now)) if now == Wait { for_flush: true, ..wait }));
    assert!(driver.handle_end_of_stream().is_err_and(|error| error.blames_peer()), "it is not over");
    driver.session.turn = Turn::Done;
    driver.handle_end_of_stream().expect("it is over");
    assert!(matches!(driver.poll(1), Ok(Action::Wait(Wait { for_flush: true, for_peer: false, .. }))));
    assert!(matches!(driver.poll(0), Err(SessionError::Internal(_))), "without an outcome");
}

#[test]
fn an_answer_belongs_to_a_job_and_has_a_verdict_for_each_of_its_facts() {
    let mut driver = reading(ROOMY);
    push(&mut driver, [entry(0, 1), entry(1, 1)]);
    let first = job(&mut driver, 2);
    assert!(matches!(driver.handle_judged(JobId(9), vec![]), Err(SessionError::Internal(_))));
    driver.handle_judged(first, vec![Verdict::Merged; 2]).expect("it was asked");
    assert_eq!((driver.session.outstanding(), driver.session.tally().merged), (0, 2));
    assert!(matches!(driver.handle_judged(first, vec![Verdict::Merged; 2]), Err(SessionError::Internal(_))));
    push(&mut driver, [entry(2, 1), entry(3, 1)]);
    let second = job(&mut driver, 2);
    assert!(matches!(driver.handle_judged(second, vec![Verdict::Merged]), Err(SessionError::Internal(_))));
}

#[test]
fn a_hello_is_awaited_until_it_came_and_tells_the_time() {
    let [one, two] = Peer::pair([&[], &[entry(1, 1)]]);
    let now = Timestamp::from_micros(77).expect("a small time");
    let (view, reader) = (one.view().clone(), MemoryStorage::new().reader());
    let mut driver = Driver::new(one.session);
    let mut other = Driver::new(two.session);
    assert!(driver.awaits_hello() && other.awaits_hello());
    driver.tell_time(now);
    for frame in driver.fill(&view, reader.as_ref(), 0).expect("it begins") {
        other.handle_frame(frame, &view).expect("a good hello");
    }
    assert!(driver.awaits_hello() && !other.awaits_hello());
    assert_eq!(other.session().their_time(), Some(now));
}
