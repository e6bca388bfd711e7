//! Limit of the member table, and which members lose their place.

use std::time::Duration;

use super::{
    Config, Core, MAX_MEMBERS, Status,
    sim::{addr, name},
    tests::{NOW, alive, dead, feed, run},
};
use crate::wire::memberlist::{NodeState, PushPull, VSN, ip_bytes, state};

fn room_for(members: usize) -> Core {
    let config = Config { max_members: members, ..Config::new("viewer", addr(900)) };
    Core::new(config, NOW, [3; 32]).expect("valid")
}

fn after(seconds: u64) -> Duration {
    NOW + Duration::from_secs(seconds)
}

fn drain(core: &mut Core) {
    while core.poll_transmit().is_some() || core.poll_event().is_some() {}
}

fn status(core: &Core, index: usize) -> Option<Status> {
    core.member(name(index)).map(|member| member.status)
}

#[test]
fn who_is_gone_for_longest_makes_room_and_who_lives_never_does() {
    let mut core = room_for(5);
    (0..5).for_each(|index| feed(&mut core, NOW, addr(1), &alive(index, 1)));
    // They died in another order than they joined; the third has left.
    feed(&mut core, after(1), addr(1), &dead(name(2), 1));
    feed(&mut core, after(2), addr(1), &dead(name(0), 1));
    drain(&mut core);
    feed(&mut core, after(3), addr(1), &alive(5, 1));
    assert_eq!((status(&core, 2), status(&core, 0)), (None, Some(Status::Failed)));
    // A member that returns is no longer gone.
    feed(&mut core, after(4), addr(1), &alive(0, 2));
    feed(&mut core, after(5), addr(1), &alive(6, 1));
    assert_eq!((status(&core, 6), core.stats().full), (None, 1));
    feed(&mut core, after(6), addr(1), &dead(name(0), 2));
    feed(&mut core, after(7), addr(1), &alive(6, 1));
    assert_eq!((status(&core, 0), status(&core, 6)), (None, Some(Status::Alive)));
    assert_eq!(core.stats().changes.reaped, 2);
    run(&mut core, after(7), after(10));
    core.assert_consistent();
}

/// Creates this many unknown members.
fn forged(count: usize) -> PushPull {
    let nodes = (0..count).map(|number| NodeState {
        addr: ip_bytes(std::net::Ipv4Addr::from_bits(0x0b00_0000 + number as u32).into()),
        incarnation: 1,
        meta: Some(vec![7; 64]),
        name: format!("forged-{number}").into(),
        port: 7946,
        state: state::ALIVE,
        vsn: Some(VSN.to_vec()),
    });
    PushPull { nodes: nodes.collect(), ..PushPull::default() }
}

#[test]
fn a_list_of_forged_members_fills_the_places_that_are_free_and_takes_nobody_elses() {
    let mut core = room_for(MAX_MEMBERS);
    (0..20).for_each(|index| feed(&mut core, NOW, addr(1), &alive(index, 1)));
    (15..20).for_each(|index| feed(&mut core, NOW, addr(1), &dead(name(index), 1)));
    drain(&mut core);
    let count = 3 * MAX_MEMBERS;
    let id = core.accept(NOW, addr(1)).expect("room");
    core.handle_stream(NOW, id, &forged(count).encode());
    drain(&mut core);
    assert_eq!(core.members().count(), MAX_MEMBERS);
    assert_eq!(core.stats().full as usize, count - (MAX_MEMBERS - 15));
    assert!((0..15).all(|index| status(&core, index) == Some(Status::Alive)), "the known ones live on");
    assert!((15..20).all(|index| status(&core, index).is_none()), "those that are gone have made room");
    assert_eq!(core.alive_count(), MAX_MEMBERS + 1);
    core.assert_consistent();
}
