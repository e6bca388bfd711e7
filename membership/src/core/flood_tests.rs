//! A member that sends far more events than gossip can carry, under virtual time.

use std::{collections::BTreeSet, time::Duration};

use super::{
    Answered, CommandError, Event, KeyChange, QueryId, QueryParams, Status,
    sim::{Sim, name},
};
use crate::wire::{
    Text,
    crypto::{Key, Keyring},
};

/// Time between two events of the flood: 120 per second.
const PAUSE: Duration = Duration::from_micros(8_333);
const MEMBERS: usize = 4;

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn key(byte: u8) -> Key {
    Key::new(&[byte; 32]).expect("a key")
}

/// Cluster whose first member sends an event of 400 bytes after every pause.
struct Flood {
    sim: Sim,
    sent: u64,
}

impl Flood {
    fn new(seed: u64) -> Self {
        let mut sim = Sim::new(seed);
        sim.configure = |config| config.framing.keyring = Some(Keyring::new(key(1)));
        for _ in 0..MEMBERS {
            sim.add();
            sim.run(secs(1));
        }
        // Wait until every member has proved that it has the key.
        sim.run_until(secs(30), |sim| sim.core(0).members().all(|member| member.answered == Answered::Yes));
        Self { sim, sent: 0 }
    }

    fn send(&mut self) {
        let mut payload = self.sent.to_be_bytes().to_vec();
        payload.resize(394, 7);
        self.sent += 1;
        // A leaving member sends nothing more.
        let sent = self.sim.act(0, |core, _| core.user_event("flood!", &payload, false));
        assert!(sent.is_ok() || sent == Err(CommandError::Leaving), "{sent:?}");
    }

    fn run(&mut self, time: Duration) {
        self.until(time, |_| false);
    }

    /// Continues until `done`, at most for `limit`. Returns the time it took, or `None` at the limit.
    fn until(&mut self, limit: Duration, mut done: impl FnMut(&mut Sim) -> bool) -> Option<Duration> {
        let start = self.sim.now;
        while !done(&mut self.sim) {
            if self.sim.now >= start + limit {
                return None;
            }
            self.send();
            self.sim.run(PAUSE);
        }
        Some(self.sim.now - start)
    }

    /// Returns the members that answered or acknowledged a query.
    fn heard(&self, asker: usize, id: QueryId) -> BTreeSet<Text> {
        let from = |event: &Event| match event {
            Event::QueryAck { query, from } if *query == id => Some(from.clone()),
            _ => None,
        };
        self.sim.events[asker].iter().filter_map(from).collect()
    }

    fn all_acknowledge(&mut self, asker: usize, id: QueryId) {
        let done = |sim: &mut Sim| sim.events[asker].contains(&Event::QueryDone { query: id });
        assert!(self.until(secs(60), done).is_some(), "a query ends");
        let everybody: BTreeSet<_> = (0..MEMBERS).map(name).collect();
        assert_eq!(self.heard(asker, id), everybody, "asked by {asker}");
    }

    fn nobody_failed(&self) {
        let failed: Vec<_> =
            self.sim.events.iter().flatten().filter(|e| matches!(e, Event::MemberFailed(_))).collect();
        assert!(failed.is_empty(), "{failed:?}");
    }
}

#[test]
fn what_matters_gets_through_two_minutes_of_a_flood() {
    let mut flood = Flood::new(31);
    flood.run(secs(60));
    for (member, value) in [(0, "1"), (2, "2"), (0, "3")] {
        let tags = [("v".into(), value.into())].into();
        flood.sim.act(member, |core, _| core.set_tags(tags)).expect("fits");
        let seen = |sim: &mut Sim| {
            (0..MEMBERS).filter(|viewer| *viewer != member).all(|viewer| {
                let seen = sim.core(viewer).member(name(member)).expect("known");
                seen.tags.get(b"v".as_slice()).is_some_and(|seen| *seen == value)
            })
        };
        let took = flood.until(secs(60), seen).expect("the tag is seen");
        assert!(took <= Duration::from_millis(500), "a tag of {member} took {took:?}");
        flood.run(secs(5));
    }
    let asks = QueryParams { request_ack: true, ..QueryParams::default() };
    for asker in [0, 1, 0, 3] {
        let id = flood.sim.act(asker, |core, now| core.query(now, "who", b"", &asks)).expect("is asked");
        flood.all_acknowledge(asker, id);
    }
    for change in [KeyChange::Install(key(2)), KeyChange::Use(key(2)), KeyChange::Remove(key(1))] {
        let id = flood.sim.act(0, |core, now| core.key_query(now, change)).expect("is asked");
        flood.all_acknowledge(0, id);
    }
    for index in 0..MEMBERS {
        let ring = flood.sim.core(index).framing().keyring.clone().expect("set");
        assert_eq!(ring.keys(), [key(2)], "the keys of {index}");
    }
    flood.run(secs(20));
    flood.nobody_failed();
    assert!(flood.sent > 120 * 110, "{} events", flood.sent);

    flood.sim.act(0, super::Core::leave);
    let finished = |sim: &mut Sim| sim.events[0].contains(&Event::LeaveFinished);
    let took = flood.until(secs(60), finished).expect("it leaves");
    assert!(took <= secs(2), "leaving took {took:?}");
    assert!((1..MEMBERS).all(|viewer| flood.sim.status(viewer, 0) == Some(Status::Left)));
    flood.nobody_failed();
}

/// Messages from and about other members wait no longer than this member's own.
#[test]
fn departures_and_deaths_are_told_through_a_flood() {
    let mut flood = Flood::new(32);
    flood.run(secs(45));
    flood.sim.act(1, super::Core::leave);
    let left = |sim: &mut Sim| [0, 2, 3].iter().all(|viewer| sim.status(*viewer, 1) == Some(Status::Left));
    let took = flood.until(secs(30), left).expect("its leave is heard");
    assert!(took <= secs(2), "a leave took {took:?}");
    flood.sim.kill(3);
    let failed = |sim: &mut Sim| [0, 2].iter().all(|viewer| sim.status(*viewer, 3) == Some(Status::Failed));
    let took = flood.until(secs(60), failed).expect("its death is noticed");
    assert!(took <= secs(15), "a death took {took:?}");
}
