//! Places of an RPC server, and which connection is closed when all are taken. It does no I/O; times are
//! durations since any fixed moment.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    time::Duration,
};

/// Time without a request after which an idle client's place can be given to another client.
const IDLE: Duration = Duration::from_secs(1);

/// Id of a connection's place, unique in its server.
pub(super) type PlaceId = u64;

/// Activity of a client's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// The client has not completed the handshake and authentication.
    Opening,
    /// The client has no subscription, and has sent no request since its last reply.
    Idle,
    /// The client only waits for records of its subscriptions.
    Subscribed,
    /// The client waits for the reply to a request.
    Busy,
}

#[derive(Debug)]
struct Holder {
    from: IpAddr,
    standing: Standing,
    since: Duration,
    /// Whether the connection's socket is blocked, because the client does not read.
    stalled: bool,
}

/// Reasons to close a connection for another one, in order of precedence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    NoKey,
    ReadsNothing,
    Idle,
    Subscribed,
    /// The connection's address has more than its share of the places.
    OverShare,
}

/// Result of a request for a place in the table.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PlaceRequest {
    /// A place was granted, with this id; the second field is the place of the connection to close for it, if
    /// any.
    Granted(PlaceId, Option<PlaceId>),
    /// No place: all connections are busy, or belong to addresses with no more connections than the new
    /// client's.
    Refused,
}

/// Table of a server's connections, which holds at most a fixed number of them.
#[derive(Debug)]
pub(super) struct Places {
    limit: usize,
    /// Maximum number of places that one address keeps when other addresses need some: three quarters of all.
    share: usize,
    last: PlaceId,
    holders: BTreeMap<PlaceId, Holder>,
}

impl Places {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, share: (limit - limit / 4).max(1), last: 0, holders: BTreeMap::new() }
    }

    /// Requests a place for a new connection from this address.
    pub(super) fn enter(&mut self, from: IpAddr, now: Duration) -> PlaceRequest {
        let mut victim = None;
        if self.holders.len() >= self.limit {
            victim = self.victim(from, now);
            match victim {
                Some(victim) => drop(self.holders.remove(&victim)),
                None => return PlaceRequest::Refused,
            }
        }
        self.last += 1;
        self.holders
            .insert(self.last, Holder { from, standing: Standing::Opening, since: now, stalled: false });
        PlaceRequest::Granted(self.last, victim)
    }

    /// Records the activity of a connection.
    pub(super) fn turn(&mut self, id: PlaceId, standing: Standing, now: Duration) {
        if let Some(holder) = self.holders.get_mut(&id) {
            // A connection that is still opening keeps its time, so that sending bytes does not renew it.
            if holder.standing != standing || standing != Standing::Opening {
                (holder.standing, holder.since) = (standing, now);
            }
        }
    }

    /// Records whether a connection's socket is blocked.
    pub(super) fn stall(&mut self, id: PlaceId, is_stalled: bool) {
        if let Some(holder) = self.holders.get_mut(&id) {
            holder.stalled = is_stalled;
        }
    }

    /// Frees the place of a connection that ended.
    pub(super) fn leave(&mut self, id: PlaceId) {
        self.holders.remove(&id);
    }

    /// Chooses the connection to close. Connections without a key go first, then those that do not read, then
    /// idle ones, then those that only wait for subscriptions. Among equals it is one of the address with the
    /// most connections, and there the one that has been in that state longest. No address displaces a
    /// connection of an address with fewer, and a subscription ends only for an address that still has fewer
    /// afterwards. An address above its share loses the excess, whatever it does.
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

    /// Fills a table of `count` places, with connections from the addresses that `of` gives.
    fn full(count: u8, of: impl Fn(u8) -> u8) -> (Places, Vec<PlaceId>) {
        let mut places = Places::new(count.into());
        let enter = |number: u8| match places.enter(from(of(number)), at(number.into())) {
            PlaceRequest::Granted(id, None) => id,
            other => panic!("{other:?}"),
        };
        let ids = (0..count).map(enter).collect();
        (places, ids)
    }

    #[test]
    fn who_shows_no_key_gives_way_the_oldest_of_the_heaviest_address_first() {
        let (mut places, ids) = full(4, |number| if number == 0 { 1 } else { 2 });
        let PlaceRequest::Granted(fifth, victim) = places.enter(from(3), at(10)) else { panic!("refused") };
        assert_eq!(victim, Some(ids[1]));
        // Bytes that are not a request do not renew a connection's time.
        places.turn(ids[2], Standing::Opening, at(11));
        let PlaceRequest::Granted(_, victim) = places.enter(from(3), at(12)) else { panic!("refused") };
        assert_eq!(victim, Some(ids[2]));
        places.turn(fifth, Standing::Busy, at(13));
        assert_eq!(places.holders.len(), 4);
    }

    #[test]
    fn who_is_idle_gives_way_after_a_second_and_who_waits_for_an_answer_never() {
        let (mut places, ids) = full(3, |number| number.min(1));
        ids.iter().for_each(|id| places.turn(*id, Standing::Busy, at(10)));
        assert_eq!(places.enter(from(2), at(5000)), PlaceRequest::Refused);
        places.turn(ids[2], Standing::Idle, at(5000));
        assert_eq!(places.enter(from(2), at(5500)), PlaceRequest::Refused);
        let PlaceRequest::Granted(_, victim) = places.enter(from(2), at(6000)) else { panic!("refused") };
        assert_eq!(victim, Some(ids[2]));
        places.leave(ids[0]);
        assert!(matches!(places.enter(from(2), at(6000)), PlaceRequest::Granted(_, None)));
    }

    #[test]
    fn nobody_makes_a_lighter_address_give_way() {
        let (mut places, ids) = full(4, |number| number.min(1));
        // Address 1 has three busy connections; that of address 0 stays when address 1 wants a fourth.
        ids[1..].iter().for_each(|id| places.turn(*id, Standing::Busy, at(10)));
        assert_eq!(places.enter(from(1), at(20)), PlaceRequest::Refused);
        assert!(matches!(places.enter(from(7), at(20)), PlaceRequest::Granted(_, Some(id)) if id == ids[0]));
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
        assert!(
            matches!(places.enter(from(7), at(5000)), PlaceRequest::Granted(_, Some(id)) if id == ids[3])
        );
    }

    #[test]
    fn subscriptions_of_one_address_do_not_keep_another_out() {
        let (mut places, ids) = full(64, |_| 1);
        ids.iter().for_each(|id| places.turn(*id, Standing::Subscribed, at(100)));
        assert_eq!(places.enter(from(1), at(9000)), PlaceRequest::Refused, "not for one of its own");
        // In the end both hold the same number, and neither displaces the other.
        for oldest in ids.iter().take(32) {
            let PlaceRequest::Granted(id, Some(victim)) = places.enter(from(2), at(9000)) else {
                panic!("refused")
            };
            assert_eq!(victim, *oldest);
            places.turn(id, Standing::Subscribed, at(9000));
        }
        assert_eq!(places.enter(from(2), at(9000)), PlaceRequest::Refused);
        assert_eq!(places.enter(from(1), at(9000)), PlaceRequest::Refused);
        assert!(matches!(places.enter(from(3), at(9000)), PlaceRequest::Granted(_, Some(_))));
    }

    #[test]
    fn an_address_keeps_three_quarters_where_others_ask_whatever_it_does() {
        let (mut places, ids) = full(64, |_| 1);
        ids.iter().for_each(|id| places.turn(*id, Standing::Busy, at(100)));
        for oldest in ids.iter().take(16) {
            let entry = places.enter(from(2), at(9000));
            let PlaceRequest::Granted(id, Some(victim)) = entry else { panic!("{entry:?}") };
            assert_eq!(victim, *oldest);
            places.turn(id, Standing::Busy, at(9000));
        }
        assert_eq!(places.enter(from(3), at(9000)), PlaceRequest::Refused);
    }
}
