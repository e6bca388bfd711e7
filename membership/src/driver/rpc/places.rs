//! The places of an RPC server: who gives way when all are taken. Without I/O; times are durations since any fixed moment.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    time::Duration,
};

/// A client that has asked nothing for so long, and waits for nothing, gives way to others.
const IDLE: Duration = Duration::from_secs(1);

/// Names a connection.
pub(super) type PlaceId = u64;

/// What a connection does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// It has not shown the key, or not begun as the protocol has it.
    Opening,
    /// It has asked nothing since its last answer.
    Idle,
    /// It waits for an answer, or for what it has subscribed to.
    Busy,
}

#[derive(Debug)]
struct Holder {
    from: IpAddr,
    standing: Standing,
    since: Duration,
}

/// What came of asking for a place.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// It has one; whose connection ends for it, if one does.
    Granted(PlaceId, Option<PlaceId>),
    /// All others are at work, or belong to addresses that have no more.
    Refused,
}

/// The connections of a server.
#[derive(Debug)]
pub(super) struct Places {
    limit: usize,
    last: PlaceId,
    holders: BTreeMap<PlaceId, Holder>,
}

impl Places {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, last: 0, holders: BTreeMap::new() }
    }

    /// A connection comes.
    pub(super) fn enter(&mut self, from: IpAddr, now: Duration) -> Entry {
        let mut victim = None;
        if self.holders.len() >= self.limit {
            victim = self.victim(from, now);
            match victim {
                Some(victim) => drop(self.holders.remove(&victim)),
                None => return Entry::Refused,
            }
        }
        self.last += 1;
        self.holders.insert(self.last, Holder { from, standing: Standing::Opening, since: now });
        Entry::Granted(self.last, victim)
    }

    /// It does something else from now on.
    pub(super) fn turn(&mut self, id: PlaceId, standing: Standing, now: Duration) {
        if let Some(holder) = self.holders.get_mut(&id) {
            // Whoever is opening stays so for as long as it takes, or bytes in between would make it young again.
            if holder.standing != standing || standing != Standing::Opening {
                (holder.standing, holder.since) = (standing, now);
            }
        }
    }

    /// It has ended.
    pub(super) fn leave(&mut self, id: PlaceId) {
        self.holders.remove(&id);
    }

    /// Whoever is opening goes first, then who is idle; of these the heaviest address, and there the one that has been so for
    /// longest. No address makes a lighter one give way.
    fn victim(&self, from: IpAddr, now: Duration) -> Option<PlaceId> {
        let mut weights: HashMap<IpAddr, usize> = HashMap::new();
        self.holders.values().for_each(|holder| *weights.entry(holder.from).or_default() += 1);
        let weight = |from: &IpAddr| weights.get(from).copied().unwrap_or_default();
        let mine = weight(&from);
        let candidates = self.holders.iter().filter(|(_, holder)| {
            let yields = match holder.standing {
                Standing::Opening => true,
                Standing::Idle => holder.since + IDLE <= now,
                Standing::Busy => false,
            };
            yields && weight(&holder.from) >= mine
        });
        let first = candidates
            .min_by_key(|(id, holder)| (holder.standing, Reverse(weight(&holder.from)), holder.since, **id));
        first.map(|(id, _)| *id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(last: u8) -> IpAddr {
        IpAddr::from([127, 0, 0, last])
    }

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Full places, each of an address of its own, or all of one.
    fn full(count: u8, of: impl Fn(u8) -> u8) -> (Places, Vec<PlaceId>) {
        let mut places = Places::new(count.into());
        let enter = |number: u8| match places.enter(from(of(number)), at(number.into())) {
            Entry::Granted(id, None) => id,
            other => panic!("{other:?}"),
        };
        let ids = (0..count).map(enter).collect();
        (places, ids)
    }

    #[test]
    fn who_shows_no_key_gives_way_the_oldest_of_the_heaviest_address_first() {
        let (mut places, ids) = full(4, |number| if number == 0 { 1 } else { 2 });
        let Entry::Granted(fifth, victim) = places.enter(from(3), at(10)) else { panic!("refused") };
        assert_eq!(victim, Some(ids[1]));
        // Bytes that are no request make nobody younger.
        places.turn(ids[2], Standing::Opening, at(11));
        let Entry::Granted(_, victim) = places.enter(from(3), at(12)) else { panic!("refused") };
        assert_eq!(victim, Some(ids[2]));
        places.turn(fifth, Standing::Busy, at(13));
        assert_eq!(places.holders.len(), 4);
    }

    #[test]
    fn who_is_idle_gives_way_after_a_second_and_who_waits_for_something_never() {
        let (mut places, ids) = full(3, |_| 1);
        ids.iter().for_each(|id| places.turn(*id, Standing::Busy, at(10)));
        assert_eq!(places.enter(from(2), at(5000)), Entry::Refused);
        places.turn(ids[2], Standing::Idle, at(5000));
        assert_eq!(places.enter(from(2), at(5500)), Entry::Refused);
        let Entry::Granted(_, victim) = places.enter(from(2), at(6000)) else { panic!("refused") };
        assert_eq!(victim, Some(ids[2]));
        places.leave(ids[0]);
        assert!(matches!(places.enter(from(2), at(6000)), Entry::Granted(_, None)));
    }

    #[test]
    fn nobody_makes_a_lighter_address_give_way() {
        let (mut places, ids) = full(4, |number| number.min(1));
        // Address 1 has three of them, which work; the one of address 0 stays when address 1 wants a fourth.
        ids[1..].iter().for_each(|id| places.turn(*id, Standing::Busy, at(10)));
        assert_eq!(places.enter(from(1), at(20)), Entry::Refused);
        assert!(matches!(places.enter(from(7), at(20)), Entry::Granted(_, Some(id)) if id == ids[0]));
    }
}
