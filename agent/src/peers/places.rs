//! Room for sessions that peers begin: who gets a place, and who gives way when all are taken.
//!
//! A machine without a clock: times are durations since any fixed moment, and what a session costs is asked of the
//! session.

use kvgossip_grants::ReplicaId;
use kvgossip_transport::limits::MAX_SESSIONS;
use kvgossip_transport::{Access, SessionWatch};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Of all places, how many may be those of strangers that only pull: however many come, members find room.
pub(super) const MAX_STRANGERS_SESSIONS: usize = 8;
const _: () = assert!(MAX_STRANGERS_SESSIONS < MAX_SESSIONS);
/// A session that has waited for its peer for so long, beyond what its bytes pay for, gives way when others want its
/// place.
const SLOW: Duration = Duration::from_millis(100);
/// So does any that has had its place for so long: what it moved stays, and the next session moves the rest.
const HELD_LONG: Duration = Duration::from_secs(30);
/// Whose session gave way takes nobody's place for so long, and only free ones: else many that take each other's places
/// would take an honest one's as well.
const MODEST: Duration = Duration::from_secs(10);
/// How many of these are remembered; the one that gave way first is forgotten first.
const MAX_MODEST: usize = 1024;
/// How many sessions that gave way may not have ended yet, for each place. They end when they wait for their peers next.
const MAX_ENDING_PER_PLACE: usize = 2;

/// A session as far as its place depends on it.
pub(super) trait Occupant: Send {
    /// How long it has waited for its peer beyond what all its bytes pay for.
    fn unpaid(&self) -> Duration;
    /// Ends it soon.
    fn give_way(&self);
}

impl Occupant for SessionWatch {
    fn unpaid(&self) -> Duration {
        SessionWatch::unpaid(self)
    }

    fn give_way(&self) {
        SessionWatch::give_way(self);
    }
}

struct Held {
    peer: ReplicaId,
    access: Access,
    since: Duration,
    occupant: Box<dyn Occupant>,
}

/// Who has a place, and who may have one.
struct Table {
    max: usize,
    max_strangers: usize,
    next: u64,
    held: BTreeMap<u64, Held>,
    /// Sessions that gave way and have not ended yet.
    ending: usize,
    modest: BTreeMap<ReplicaId, Duration>,
}

impl Table {
    fn new(max: usize) -> Self {
        let max_strangers = MAX_STRANGERS_SESSIONS.min(max);
        Self { max, max_strangers, next: 0, held: BTreeMap::new(), ending: 0, modest: BTreeMap::new() }
    }

    /// A place for a session, free or taken from another one.
    fn take(
        &mut self,
        peer: ReplicaId,
        access: Access,
        occupant: Box<dyn Occupant>,
        now: Duration,
    ) -> Option<u64> {
        let own = self.held.iter().find(|(_, held)| held.peer == peer).map(|(number, _)| *number);
        let strangers = self.held.values().filter(|held| held.access == Access::PullOnly).count();
        let is_stranger = access == Access::PullOnly;
        let among_strangers = is_stranger && strangers >= self.max_strangers;
        if self.held.len() >= self.max || among_strangers {
            // A peer's own earlier session goes first: nobody has a second place while others wait for their first.
            let victim = own.or_else(|| self.slowest(peer, among_strangers, now))?;
            self.evict(victim, peer, now)?;
        }
        let number = self.next;
        self.next += 1;
        self.held.insert(number, Held { peer, access, since: now, occupant });
        Some(number)
    }

    /// The session that gives way: a stranger's if it may be, the one that cost most waiting, then the oldest.
    fn slowest(&self, newcomer: ReplicaId, among_strangers: bool, now: Duration) -> Option<u64> {
        let is_modest = self.modest.get(&newcomer).is_some_and(|since| now.saturating_sub(*since) < MODEST);
        if is_modest {
            return None;
        }
        let costs = self.held.iter().map(|(number, held)| (number, held, held.occupant.unpaid()));
        let goes = costs.filter(|(_, held, unpaid)| {
            let is_long = now.saturating_sub(held.since) >= HELD_LONG;
            (*unpaid >= SLOW || is_long) && (!among_strangers || held.access == Access::PullOnly)
        });
        let rank = |(number, held, unpaid): &(&u64, &Held, Duration)| {
            (held.access == Access::PullOnly, *unpaid, u64::MAX - **number)
        };
        goes.max_by_key(rank).map(|(number, ..)| *number)
    }

    fn evict(&mut self, victim: u64, newcomer: ReplicaId, now: Duration) -> Option<()> {
        if self.ending >= self.max * MAX_ENDING_PER_PLACE {
            return None;
        }
        let held = self.held.remove(&victim)?;
        held.occupant.give_way();
        self.ending += 1;
        if held.peer == newcomer {
            return Some(());
        }
        self.modest.retain(|_, since| now.saturating_sub(*since) < MODEST);
        if self.modest.len() >= MAX_MODEST
            && let Some(first) = self.modest.iter().min_by_key(|(_, since)| **since).map(|(peer, _)| *peer)
        {
            self.modest.remove(&first);
        }
        self.modest.insert(held.peer, now);
        Some(())
    }

    fn leave(&mut self, number: u64) {
        if self.held.remove(&number).is_none() {
            self.ending = self.ending.saturating_sub(1);
        }
    }
}

/// Who may begin a session now. Clones share it.
#[derive(Clone)]
pub(super) struct Places {
    table: Arc<Mutex<Table>>,
    began: Instant,
}

/// Room for one session, until it is dropped.
pub(super) struct Place {
    places: Places,
    number: u64,
}

impl Places {
    pub(super) fn new(max: usize) -> Self {
        Self { table: Arc::new(Mutex::new(Table::new(max.max(1)))), began: Instant::now() }
    }

    /// A place, unless all are taken by sessions that need not give way.
    pub(super) fn take(
        &self,
        peer: ReplicaId,
        access: Access,
        occupant: impl Occupant + 'static,
    ) -> Option<Place> {
        let number = self.table.lock().take(peer, access, Box::new(occupant), self.began.elapsed())?;
        Some(Place { places: self.clone(), number })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.table.lock().leave(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    struct Fake {
        unpaid: Duration,
        gone: Arc<AtomicBool>,
    }

    impl Occupant for Fake {
        fn unpaid(&self) -> Duration {
            self.unpaid
        }

        fn give_way(&self) {
            self.gone.store(true, Ordering::Relaxed);
        }
    }

    struct World {
        table: Table,
        now: Duration,
        /// Sessions, until they have given way and ended.
        sessions: Vec<(u64, Arc<AtomicBool>)>,
        /// Whether sessions end that are to give way.
        ends: bool,
    }

    impl World {
        fn new(max: usize) -> Self {
            Self { table: Table::new(max), now: Duration::ZERO, sessions: Vec::new(), ends: true }
        }

        /// A session of `peer` that has cost so many milliseconds; its number, and whether it gave way.
        fn take(&mut self, peer: u8, access: Access, unpaid_ms: u64) -> Option<(u64, Arc<AtomicBool>)> {
            let gone = Arc::new(AtomicBool::new(false));
            let fake = Fake { unpaid: Duration::from_millis(unpaid_ms), gone: gone.clone() };
            let peer = ReplicaId([peer; 32]);
            let number = self.table.take(peer, access, Box::new(fake), self.now)?;
            self.sessions.push((number, gone.clone()));
            let (table, ends) = (&mut self.table, self.ends);
            self.sessions.retain(|(number, gone)| {
                let has_ended = ends && gone.load(Ordering::Relaxed);
                if has_ended {
                    table.leave(*number);
                }
                !has_ended
            });
            Some((number, gone))
        }

        fn holds(&self, peer: u8) -> bool {
            self.table.held.values().any(|held| held.peer == ReplicaId([peer; 32]))
        }
    }

    #[test]
    fn an_honest_peer_gets_a_place_however_many_trickle() {
        let mut world = World::new(MAX_SESSIONS);
        for trickler in 1..=200 {
            let _ = world.take(trickler, Access::Full, 500 + u64::from(trickler));
            world.now += Duration::from_secs(1);
        }
        assert_eq!(world.table.held.len(), MAX_SESSIONS);
        for honest in 201..=203 {
            assert!(world.take(honest, Access::Full, 0).is_some(), "{honest}");
        }
        assert!((201..=203).all(|honest| world.holds(honest)), "they keep it, too");
    }

    #[test]
    fn the_slowest_goes_first_and_of_equals_the_oldest() {
        let mut world = World::new(4);
        let gone: Vec<_> = [(1, 300), (2, 900), (3, 900), (4, 20)]
            .into_iter()
            .map(|(peer, cost)| world.take(peer, Access::Full, cost).unwrap().1)
            .collect();
        let mut order = Vec::new();
        for newcomer in 5..=7 {
            assert!(world.take(newcomer, Access::Full, 0).is_some());
            order.push(gone.iter().map(|gone| gone.load(Ordering::Relaxed)).collect::<Vec<_>>());
        }
        let expected = [[false, true, false, false], [false, true, true, false], [true, true, true, false]];
        assert_eq!(order, expected);
        assert!(world.take(8, Access::Full, 0).is_none(), "nobody is slow");
        world.now += HELD_LONG;
        assert!(world.take(8, Access::Full, 0).is_some() && gone[3].load(Ordering::Relaxed), "or old");
    }

    #[test]
    fn who_gave_way_takes_free_places_alone_for_a_while() {
        let mut world = World::new(1);
        world.take(1, Access::Full, 500).unwrap();
        let (second, _) = world.take(2, Access::Full, 500).unwrap();
        assert!(world.take(1, Access::Full, 0).is_none());
        world.table.leave(second);
        let (third, _) = world.take(1, Access::Full, 0).expect("it is free");
        world.table.leave(third);
        assert_eq!(world.table.ending, 0, "what gave way has ended");
        world.take(3, Access::Full, 500).unwrap();
        world.now += MODEST;
        assert!(world.take(1, Access::Full, 0).is_some());
    }

    #[test]
    fn a_peers_second_session_takes_the_place_of_its_first() {
        let mut world = World::new(2);
        let (_, first) = world.take(1, Access::Full, 0).unwrap();
        let (_, other) = world.take(2, Access::Full, 900).unwrap();
        assert!(world.take(1, Access::Full, 0).is_some());
        assert!(first.load(Ordering::Relaxed) && !other.load(Ordering::Relaxed));
        assert!(world.take(3, Access::Full, 0).is_some() && other.load(Ordering::Relaxed));
    }

    #[test]
    fn strangers_leave_room_for_members_and_give_way_to_them_and_to_each_other() {
        let mut world = World::new(MAX_SESSIONS);
        for stranger in 1..=MAX_STRANGERS_SESSIONS as u8 {
            world.take(stranger, Access::PullOnly, 200).unwrap();
        }
        assert!(world.take(100, Access::PullOnly, 0).is_some());
        assert_eq!(world.table.held.len(), MAX_STRANGERS_SESSIONS);
        let members = MAX_SESSIONS - MAX_STRANGERS_SESSIONS;
        for member in 0..members as u8 {
            world.take(200 + member, Access::Full, 5_000).unwrap();
        }
        assert!(world.take(150, Access::Full, 0).is_some());
        let slow_members = world.table.held.values().filter(|held| held.access == Access::Full).count();
        assert_eq!(slow_members, members + 1, "a stranger went, though members are slower");
        assert!(world.take(151, Access::PullOnly, 0).is_some(), "a stranger takes a stranger's");
    }

    #[test]
    fn sessions_that_do_not_end_are_bounded_too() {
        let mut world = World::new(2);
        world.ends = false;
        let taken = (0..200).filter(|peer| world.take(*peer, Access::Full, 500).is_some()).count();
        assert_eq!(taken, 2 + 2 * MAX_ENDING_PER_PLACE);
    }

    #[test]
    fn a_place_is_free_again_when_its_session_has_ended_however_often() {
        let places = Places::new(1);
        let take = |peer: u8| {
            let fake = Fake { unpaid: Duration::ZERO, gone: Arc::default() };
            places.take(ReplicaId([peer; 32]), Access::Full, fake)
        };
        for peer in 0..100 {
            let place = take(peer);
            assert!(place.is_some() && take(200).is_none(), "{peer}");
        }
    }
}
