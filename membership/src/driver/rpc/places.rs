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
    /// It waits for what it has subscribed to, and for nothing else.
    Subscribed,
    /// It waits for an answer.
    Busy,
}

#[derive(Debug)]
struct Holder {
    from: IpAddr,
    standing: Standing,
    since: Duration,
    /// Its socket takes nothing of what waits.
    stalled: bool,
}

/// What makes a connection give way, the first first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    NoKey,
    ReadsNothing,
    Idle,
    Subscribed,
    /// Its address has more than its share.
    OverShare,
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
    /// The most that one address keeps when others ask.
    share: usize,
    last: PlaceId,
    holders: BTreeMap<PlaceId, Holder>,
}

impl Places {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, share: (limit - limit / 4).max(1), last: 0, holders: BTreeMap::new() }
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
        self.holders
            .insert(self.last, Holder { from, standing: Standing::Opening, since: now, stalled: false });
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

    /// Its socket takes nothing of what waits, or something again.
    pub(super) fn stall(&mut self, id: PlaceId, is_stalled: bool) {
        if let Some(holder) = self.holders.get_mut(&id) {
            holder.stalled = is_stalled;
        }
    }

    /// It has ended.
    pub(super) fn leave(&mut self, id: PlaceId) {
        self.holders.remove(&id);
    }

    /// Whoever has shown no key goes first, then who reads nothing, then who is idle, then who only waits for what it has
    /// subscribed to; of these the heaviest address, and there the one that has been so for longest. No address makes a lighter
    /// one give way, and a subscription ends only for an address that is lighter afterwards, too. An address with more than its
    /// share gives up what is beyond it, whatever that does.
    fn victim(&self, from: IpAddr, now: Duration) -> Option<PlaceId> {
        let mut weights: HashMap<IpAddr, usize> = HashMap::new();
        self.holders.values().for_each(|holder| *weights.entry(holder.from).or_default() += 1);
        let weight = |from: &IpAddr| weights.get(from).copied().unwrap_or_default();
        let mine = weight(&from);
        let candidates = self.holders.iter().filter_map(|(id, holder)| {
            let theirs = weight(&holder.from);
            let fault = match holder.standing {
                Standing::Opening => Some(Fault::NoKey),
                _ if holder.stalled => Some(Fault::ReadsNothing),
                Standing::Idle if holder.since + IDLE <= now => Some(Fault::Idle),
                Standing::Subscribed if theirs > mine + 1 => Some(Fault::Subscribed),
                _ if theirs > self.share && theirs > mine => Some(Fault::OverShare),
                _ => None,
            };
            let fault = fault.filter(|_| theirs >= mine)?;
            Some(((fault, Reverse(theirs), holder.since, *id), *id))
        });
        candidates.min().map(|(_, id)| id)
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
    fn who_is_idle_gives_way_after_a_second_and_who_waits_for_an_answer_never() {
        let (mut places, ids) = full(3, |number| number.min(1));
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

    #[test]
    fn who_reads_nothing_gives_way_before_who_is_idle_or_subscribed() {
        let (mut places, ids) = full(4, |number| number.min(1));
        places.turn(ids[1], Standing::Idle, at(10));
        places.turn(ids[2], Standing::Subscribed, at(10));
        [ids[0], ids[3]].iter().for_each(|id| places.turn(*id, Standing::Busy, at(10)));
        places.stall(ids[0], true);
        places.stall(ids[3], true);
        places.stall(ids[0], false);
        assert!(matches!(places.enter(from(7), at(5000)), Entry::Granted(_, Some(id)) if id == ids[3]));
    }

    #[test]
    fn subscriptions_of_one_address_do_not_keep_another_out() {
        let (mut places, ids) = full(64, |_| 1);
        ids.iter().for_each(|id| places.turn(*id, Standing::Subscribed, at(100)));
        assert_eq!(places.enter(from(1), at(9000)), Entry::Refused, "not for one of its own");
        // Both hold the same in the end, and none takes the other's.
        for oldest in ids.iter().take(32) {
            let Entry::Granted(id, Some(victim)) = places.enter(from(2), at(9000)) else { panic!("refused") };
            assert_eq!(victim, *oldest);
            places.turn(id, Standing::Subscribed, at(9000));
        }
        assert_eq!(places.enter(from(2), at(9000)), Entry::Refused);
        assert_eq!(places.enter(from(1), at(9000)), Entry::Refused);
        assert!(matches!(places.enter(from(3), at(9000)), Entry::Granted(_, Some(_))));
    }

    #[test]
    fn an_address_keeps_three_quarters_where_others_ask_whatever_it_does() {
        let (mut places, ids) = full(64, |_| 1);
        ids.iter().for_each(|id| places.turn(*id, Standing::Busy, at(100)));
        for oldest in ids.iter().take(16) {
            let entry = places.enter(from(2), at(9000));
            let Entry::Granted(id, Some(victim)) = entry else { panic!("{entry:?}") };
            assert_eq!(victim, *oldest);
            places.turn(id, Standing::Busy, at(9000));
        }
        assert_eq!(places.enter(from(3), at(9000)), Entry::Refused);
    }
}
