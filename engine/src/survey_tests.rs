use super::*;

fn root(number: u8) -> Digest {
    Digest([number; 32])
}

fn peer(number: u16) -> ReplicaId {
    let mut id = [0; 32];
    id[..2].copy_from_slice(&number.to_be_bytes());
    ReplicaId(id)
}

fn number(peer: &ReplicaId) -> u16 {
    u16::from_be_bytes([peer.0[0], peer.0[1]])
}

/// A replica that has just joined `count` members.
fn joined(count: u16) -> Survey {
    let mut survey = Survey::new(7, 0);
    survey.compare_at_us = u64::MAX;
    (0..count).for_each(|number| survey.member_up(peer(number), 0));
    survey.joined(0);
    survey
}

fn all_connected(_: &ReplicaId) -> bool {
    true
}

/// Lets time pass up to what comes next, and gives all actions of that time.
fn next(survey: &mut Survey, own: &Digest, now: &mut u64) -> Vec<Action> {
    let at = survey.poll_timeout();
    assert!(at < u64::MAX, "nothing comes any more");
    assert!(
        at > *now || *now == 0 || survey.clone().poll(own, all_connected, *now).is_some(),
        "it would spin"
    );
    *now = at.max(*now);
    let mut actions = Vec::new();
    while let Some(action) = survey.poll(own, all_connected, *now) {
        actions.push(action);
        assert!(actions.len() <= 100, "it does not come to rest");
    }
    actions
}

#[test]
fn a_question_that_could_not_be_sent_is_asked_again_and_again() {
    let (mut survey, mut now, own) = (joined(3), 0, root(0));
    for _ in 0..2 * MAX_ROUNDS {
        let before = now;
        assert_eq!(next(&mut survey, &own, &mut now), [Action::Ask(None)]);
        assert!(now - before <= 2 * AGAIN_US, "{} us", now - before);
        survey.not_asked(now);
        assert!(survey.poll_timeout() > now, "but not at once");
    }
}

#[test]
fn whoever_joins_syncs_once_however_many_hold_the_same() {
    let (mut survey, mut now, own) = (joined(60), 0, root(0));
    assert_eq!(next(&mut survey, &own, &mut now), [Action::Ask(None)]);
    assert_eq!(now, SETTLE_US);
    for n in 0..60 {
        survey.answered(peer(n), root(1), Some(5_000 - 50 * u64::from(n)), &own, now + 10);
    }
    survey.answered(peer(60), root(2), Some(1), &own, now);
    assert_eq!(survey.poll(&own, all_connected, now + 10), None, "a nearer one may answer yet");
    assert_eq!(next(&mut survey, &own, &mut now), [Action::Sync(peer(59))], "the nearest; no stranger");
    survey.answers_ended(now + 5);
    survey.synced(&peer(59), true, now + 1_000);
    // Once more, and now all are equal.
    assert_eq!(next(&mut survey, &root(1), &mut now), [Action::Ask(None)]);
    survey.answered(peer(3), root(1), None, &root(1), now);
    survey.answers_ended(now);
    assert_eq!(survey.poll_timeout(), u64::MAX, "it is at rest");
}

#[test]
fn one_session_for_each_distinct_root_and_the_next_nearest_where_one_fails() {
    let (mut survey, mut now, own) = (joined(50), 0, root(0));
    assert_eq!(next(&mut survey, &own, &mut now), [Action::Ask(None)]);
    for n in 0..50 {
        survey.answered(peer(n), root(1 + (n % 5) as u8), Some(u64::from(n)), &own, now);
    }
    survey.answers_ended(now);
    let mut talked = BTreeSet::new();
    let mut tries = BTreeMap::<u16, Vec<u16>>::new();
    while talked.len() < 5 {
        let actions = next(&mut survey, &own, &mut now);
        assert!(actions.len() <= MAX_AT_ONCE);
        for action in actions {
            let Action::Sync(id) = action else { panic!("{action:?}") };
            let group = number(&id) % 5;
            tries.entry(group).or_default().push(number(&id));
            // The two nearest of group 2 are full.
            let full = number(&id) == 2 || number(&id) == 7;
            survey.synced(&id, !full, now + 1);
            if !full {
                assert!(talked.insert(group), "one session a group");
            }
        }
    }
    assert_eq!(tries[&2], [2, 7, 12]);
    assert_eq!(tries[&4], [4]);
    assert_eq!(next(&mut survey, &own, &mut now), [Action::Ask(None)], "then everybody again");
}

#[test]
fn whom_nobody_of_a_group_can_help_asks_again() {
    let (mut survey, mut now, own) = (joined(2), 0, root(0));
    next(&mut survey, &own, &mut now);
    for n in 0..2 {
        survey.answered(peer(n), root(1), None, &own, now);
    }
    survey.answers_ended(now);
    assert_eq!(next(&mut survey, &own, &mut now), [Action::Sync(peer(0))]);
    survey.synced(&peer(0), false, now);
    assert_eq!(next(&mut survey, &own, &mut now), [Action::Sync(peer(1))]);
    survey.member_down(&peer(1), now);
    assert_eq!(next(&mut survey, &own, &mut now), [Action::Ask(None)]);
}

#[test]
fn of_a_large_cluster_a_random_sample_is_asked() {
    let mut asked = BTreeSet::new();
    for seed in 1..50 {
        let (mut survey, mut now) = (joined(1_000), 0);
        survey.rng = Rng::new(seed << 20);
        let actions = next(&mut survey, &root(0), &mut now);
        let [Action::Ask(Some(sample))] = &actions[..] else { panic!("{actions:?}") };
        assert_eq!(sample.iter().collect::<BTreeSet<_>>().len(), SAMPLE);
        asked.extend(sample.iter().map(number));
    }
    assert!(asked.len() > 400, "only {} of 1000 are ever asked", asked.len());
}

#[test]
fn when_a_partition_heals_some_ask_and_those_alike_are_spared() {
    let mut askers = Vec::new();
    for replica in 0..500 {
        let mut survey = Survey::new(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(replica + 1), 0);
        (0..499).for_each(|n| survey.member_up(peer(n), 0));
        (250..499).for_each(|n| survey.member_down(&peer(n), 0));
        (250..499).for_each(|n| survey.member_returned(peer(n), 1_000_000 + u64::from(n)));
        askers.extend(survey.ask_at_us.map(|at| (at, survey)));
    }
    assert!((2..40).contains(&askers.len()), "{} of 500 ask", askers.len());
    let (_, survey) = askers.iter_mut().min_by_key(|(at, _)| *at).expect("somebody");
    survey.heard_question(&root(2), &root(1));
    assert!(survey.ask_at_us.is_some(), "somebody who differs asks for himself");
    survey.heard_question(&root(1), &root(1));
    assert_eq!(survey.ask_at_us, None);
    // Few members all ask.
    let mut survey = Survey::new(3, 0);
    (0..4).for_each(|n| survey.member_returned(peer(n), 5));
    assert!(survey.ask_at_us.is_some());
}

#[test]
fn who_has_just_joined_asks_even_if_others_ask_and_waits_for_somebody_to_ask() {
    let mut survey = joined(3);
    survey.heard_question(&root(0), &root(0));
    assert!(survey.ask_at_us.is_some());
    let mut alone = joined(0);
    assert_eq!(alone.poll(&root(0), all_connected, SETTLE_US), None);
    assert_eq!(alone.poll_timeout(), u64::MAX);
    alone.member_up(peer(1), 5_000_000);
    let mut now = 5_000_000;
    assert_eq!(next(&mut alone, &root(0), &mut now), [Action::Ask(None)]);
}

#[test]
fn a_cluster_that_never_comes_to_rest_is_not_asked_for_ever() {
    let (mut survey, mut now) = (joined(3), 0);
    let mut questions = 0;
    while survey.poll_timeout() < u64::MAX {
        for action in next(&mut survey, &root(0), &mut now) {
            match action {
                Action::Ask(_) => {
                    questions += 1;
                    survey.answered(peer(1), root(questions), None, &root(0), now);
                    survey.answers_ended(now);
                }
                Action::Sync(id) => survey.synced(&id, true, now),
            }
        }
    }
    assert_eq!(u32::from(questions), MAX_ROUNDS);
    survey.joined(now);
    assert_eq!(next(&mut survey, &root(0), &mut now), [Action::Ask(None)], "a new reason is a new beginning");
}

#[test]
fn now_and_then_a_member_that_is_not_connected_is_compared_with() {
    let mut survey = Survey::new(7, 0);
    (0..4).for_each(|n| survey.member_up(peer(n), 0));
    let mut compared = BTreeSet::new();
    for _ in 0..40 {
        let now = survey.poll_timeout();
        match survey.poll(&root(0), |id| number(id) < 2, now) {
            Some(Action::Sync(id)) => compared.insert(number(&id)),
            other => panic!("{other:?}"),
        };
    }
    assert_eq!(compared, BTreeSet::from([2, 3]));
    let now = survey.poll_timeout();
    assert_eq!(survey.poll(&root(0), all_connected, now), None);
}

#[test]
fn a_member_in_two_groups_is_not_waited_for_in_a_loop() {
    let (mut survey, mut now, own) = (joined(1), 0, root(0));
    next(&mut survey, &own, &mut now);
    survey.answered(peer(0), root(1), None, &own, now);
    survey.answered(peer(0), root(2), None, &own, now);
    assert_eq!(next(&mut survey, &own, &mut now), [Action::Sync(peer(0))]);
    assert!(survey.poll_timeout() > now + GIVE_UP_US / 2, "it would spin");
    survey.synced(&peer(0), true, now);
    assert!(survey.groups.is_empty(), "they have talked");
}
