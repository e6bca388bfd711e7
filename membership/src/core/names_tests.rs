//! Conflicts about a member's name.

use std::time::Duration;

use super::{
    Config, Core, Event, QueryId,
    sim::{addr, name},
    tests::{NOW, alive, dead, feed},
};
use crate::wire::{
    Text,
    memberlist::{Alive, Message, VSN, ip_bytes},
    serf::{self, ConflictResponse, QueryResponse},
};

const OWN: &str = "viewer";

/// A member with this many live others, whose name somebody else uses.
fn contested(others: usize) -> (Core, QueryId) {
    let mut core = Core::new(Config::new(OWN, addr(900)), NOW, [3; 32]).expect("valid");
    (0..others).for_each(|index| feed(&mut core, NOW, addr(1), &alive(index, 1)));
    let other = Alive {
        addr: ip_bytes(addr(700).ip()),
        incarnation: 1,
        meta: None,
        node: OWN.into(),
        port: addr(700).port(),
        vsn: Some(VSN.to_vec()),
    };
    feed(&mut core, NOW, addr(700), &Message::Alive(other));
    let asked = core.queries.pending.keys().copied().collect::<Vec<_>>();
    let [asked] = asked[..] else { panic!("{asked:?}") };
    (core, asked)
}

/// Lets the member `from` answer that the name belongs to that address.
fn answer(core: &mut Core, query: QueryId, from: impl Into<Text>, at: usize) {
    let told = ConflictResponse {
        addr: ip_bytes(addr(at).ip()),
        name: OWN.into(),
        port: addr(at).port(),
        status: 1,
        ..ConflictResponse::default()
    };
    let response = QueryResponse {
        flags: 0,
        from: from.into(),
        id: query.id,
        ltime: query.ltime,
        payload: Some(serf::encode_tagged(serf::kind::CONFLICT_RESPONSE, &told)),
    };
    feed(core, NOW, addr(1), &Message::User(serf::Message::QueryResponse(response).encode()));
}

/// Returns the event that ends the vote.
fn outcome(core: &mut Core) -> Option<Event> {
    let began: Vec<_> = std::iter::from_fn(|| core.poll_event()).collect();
    assert!(began.iter().any(|event| matches!(event, Event::NameConflict { .. })), "{began:?}");
    core.query_due(NOW + Duration::from_secs(9), core.queries.pending.keys().copied().next().expect("one"));
    core.poll_event()
}

#[test]
fn a_name_is_lost_only_to_more_than_half_of_the_live_members() {
    for (others, against, is_lost) in [
        (10, 5, false),
        (10, 6, true),
        (9, 4, false),
        (9, 5, true),
        (1, 0, false),
        (1, 1, true),
        (2, 1, false),
    ] {
        let (mut core, query) = contested(others);
        (0..against).for_each(|index| answer(&mut core, query, name(index), 700));
        let lost = outcome(&mut core) == Some(Event::NameLost);
        assert_eq!(lost, is_lost, "{against} of {others}");
    }
}

#[test]
fn who_is_unknown_or_gone_or_speaks_twice_has_no_more_say() {
    let (mut core, query) = contested(10);
    feed(&mut core, NOW, addr(1), &dead(name(9), 1));
    // Nine are alive, so five votes would be enough.
    (0..4).for_each(|index| answer(&mut core, query, name(index), 700));
    (0..4).for_each(|index| answer(&mut core, query, name(index), 700));
    answer(&mut core, query, name(9), 700);
    (0..50).for_each(|number| answer(&mut core, query, format!("nobody-{number}"), 700));
    assert_ne!(outcome(&mut core), Some(Event::NameLost));
    let (mut core, query) = contested(10);
    feed(&mut core, NOW, addr(1), &dead(name(9), 1));
    (0..5).for_each(|index| answer(&mut core, query, name(index), 700));
    assert_eq!(outcome(&mut core), Some(Event::NameLost), "the one that is gone is none of those who live");
}

#[test]
fn whoever_has_a_name_hears_of_another_one_that_claims_it() {
    // The claimant's own query shows that another process uses the name; a query from this member's own address
    // does not.
    for (asked_from, is_claimed) in [(700, true), (900, false)] {
        let mut core = Core::new(Config::new(OWN, addr(900)), NOW, [3; 32]).expect("valid");
        let query = serf::Query {
            addr: ip_bytes(addr(asked_from).ip()),
            id: 5,
            ltime: 9,
            name: "_serf_conflict".into(),
            payload: Some(OWN.into()),
            port: addr(asked_from).port(),
            timeout_ns: 1_000_000_000,
            ..serf::Query::default()
        };
        feed(&mut core, NOW, addr(1), &Message::User(serf::Message::Query(query).encode()));
        assert_eq!(core.poll_event(), is_claimed.then(|| Event::NameClaimed { other: addr(700) }));
    }
    // Without other members, only the claimant itself can have announced the name.
    let (mut core, _) = contested(0);
    assert_eq!(outcome(&mut core), Some(Event::NameClaimed { other: addr(700) }));
    let (mut core, _) = contested(3);
    assert_eq!(outcome(&mut core), None);
}
